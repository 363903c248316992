//! Machines as the API shows them.

use serde_json::{Map, Value, json};

use crate::checks::{CheckState, CheckStatus};
use crate::lease::Lease;
use crate::lifecycle::State;
use crate::machine_config::MachineConfig;
use crate::record::{Event, MachineRecord};

/// What goes into an answer beside the record.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    pub(super) events: Vec<Event>,
    /// Only in the answer to the create call that asked for a lease.
    pub(super) nonce: Option<String>,
    /// Only when the query asks for it.
    pub(super) lease: Option<Lease>,
}

/// The configuration with what is true of its volumes now: clients copy it for the next machine.
fn config_of(record: &MachineRecord) -> Value {
    let mut config = record.config.clone();
    let mounts = config.get_mut("mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten() {
        let volume = mount
            .get("volume")
            .and_then(Value::as_str)
            .and_then(|id| record.run.volumes.get(id));
        if let (Some(volume), Some(mount)) = (volume, mount.as_object_mut()) {
            mount.insert("name".to_owned(), json!(volume.name));
            mount.insert("size_gb".to_owned(), json!(volume.size_gb));
            mount.insert("encrypted".to_owned(), json!(volume.encrypted));
        }
    }
    if let (Some(config), Ok(parsed)) = (config.as_object_mut(), MachineConfig::parse(&record.config)) {
        fill_defaults(config, &parsed);
    }
    config
}

/// Defaults that clients read without asking whether they are there.
fn fill_defaults(config: &mut Map<String, Value>, parsed: &MachineConfig) {
    let guest = json!({
        "cpu_kind": parsed.guest.cpu_kind, "cpus": parsed.guest.cpus, "memory_mb": parsed.guest.memory_mb,
    });
    match config.get_mut("guest").and_then(Value::as_object_mut) {
        Some(given) => {
            if let Value::Object(defaults) = guest {
                for (key, value) in defaults {
                    given.insert(key, value);
                }
            }
        }
        None => drop(config.insert("guest".to_owned(), guest)),
    }
    for (key, value) in [
        ("init", json!({})),
        ("restart", json!({"policy": parsed.restart.mode})),
    ] {
        if config.get(key).is_none_or(Value::is_null) {
            config.insert(key.to_owned(), value);
        }
    }
}

/// Every configured check has a line, whether it was tried or not.
fn checks_of(record: &MachineRecord) -> Vec<CheckStatus> {
    let Ok(config) = MachineConfig::parse(&record.config) else {
        return Vec::new();
    };
    let line = |name: &str| {
        let known = record.run.checks.iter().find(|status| status.name == name);
        known.cloned().unwrap_or_else(|| CheckStatus {
            name: name.to_owned(),
            status: CheckState::Warning,
            output: "waiting for the first try".to_owned(),
            updated_at: record.updated_at,
        })
    };
    config.checks.iter().map(|check| line(&check.name)).collect()
}

/// A machine as JSON.
pub(super) fn machine(record: &MachineRecord, extras: Extras) -> Value {
    let mut value = json!({
        "id": record.id,
        "name": record.name,
        "state": record.state,
        "region": record.region,
        "instance_id": record.instance_id,
        "version": record.instance_id,
        "private_ip": record.private_ip,
        "config": config_of(record),
        "image_ref": record.image,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "events": extras.events,
        "checks": checks_of(record),
        "host_status": "ok",
        "cordoned": record.cordoned,
        "hangar": {
            "app": record.app,
            "org": record.org,
            "network": record.network,
            "accelerator": record.run.accelerator,
            "boot_id": record.run.boot_id,
            "restart_count": record.run.history.count,
            "forwards": record.run.forwards,
            "generations": record.run.volumes.iter()
                .map(|(id, volume)| (id.clone(), json!(volume.generation))).collect::<Map<_, _>>(),
        },
    });
    if let Some(map) = value.as_object_mut() {
        if let Some(nonce) = extras.nonce {
            map.insert("nonce".to_owned(), json!(nonce));
        }
        if let Some(lease) = extras.lease {
            // The nonce is the holder's secret, and clients take any nonce they see for their own.
            map.insert(
                "lease".to_owned(),
                json!({"expires_at": lease.expires_at, "owner": lease.owner, "description": lease.description}),
            );
        }
    }
    value
}

/// A machine in few words, for `summary`.
pub(super) fn summary(record: &MachineRecord) -> Value {
    let mut value = machine(record, Extras::default());
    if let Some(map) = value.as_object_mut() {
        map.remove("events");
        map.remove("checks");
    }
    value
}

/// Whether a record passes the filters of a list call.
pub(super) fn passes(record: &MachineRecord, query: &super::requests::ListQuery) -> bool {
    let state = record.state;
    let states_pass = if query.states.is_empty() {
        query.include_deleted || state != State::Destroyed
    } else {
        query.states.iter().any(|wanted| wanted == state.as_str())
    };
    let region_passes = query
        .region
        .as_ref()
        .is_none_or(|region| *region == record.region);
    let metadata = record.config.get("metadata");
    let metadata_passes = query.metadata.iter().all(|(key, wanted)| {
        metadata
            .and_then(|metadata| metadata.get(key))
            .and_then(Value::as_str)
            == Some(wanted)
    });
    states_pass && region_passes && metadata_passes
}
