//! What is known about a machine: the row of the catalog and what the API derives from it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checks::CheckStatus;
use crate::ids::MachineId;
use crate::lifecycle::{State, Then};
use crate::restart::History;

/// A machine, as the catalog keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Id.
    pub id: MachineId,
    /// App that it belongs to.
    pub app: String,
    /// Organization of the app.
    pub org: String,
    /// Name.
    pub name: String,
    /// Region; the node's.
    pub region: String,
    /// Version: a ULID, new with each configuration.
    pub instance_id: String,
    /// State.
    pub state: State,
    /// Configuration as the user sent it.
    pub config: Value,
    /// The image that the configuration's reference stood for when it was resolved.
    pub image: ImageRef,
    /// Secrets of the app, as they were at the last create or update.
    pub secrets: BTreeMap<String, String>,
    /// App network.
    pub network: String,
    /// Address within the network: eight groups, no `::`.
    pub private_ip: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the record changed last.
    pub updated_at: Timestamp,
    /// Whether it is out of service routing.
    pub cordoned: bool,
    /// What changes while it runs.
    #[serde(default)]
    pub run: RunState,
}

/// An image that was resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// Registry host.
    pub registry: String,
    /// Repository.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// Manifest digest.
    pub digest: String,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
}

/// What changes while a machine runs; survives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Id of the present or last boot.
    pub boot_id: Option<String>,
    /// When the workload of this boot started.
    pub started_at: Option<Timestamp>,
    /// Restarts so far.
    pub history: History,
    /// When to start again, while [`State::Restarting`] waits.
    pub restart_at: Option<Timestamp>,
    /// What follows the end of the guest, when its end was asked for.
    pub then: Option<Then>,
    /// Whether the machine was stopped with its node and starts with it again.
    #[serde(default)]
    pub drained: bool,
    /// Why the guest stands still, while the host has no room for what it writes.
    #[serde(default)]
    pub stalled: Option<String>,
    /// Each volume, as volumed described it last.
    pub volumes: BTreeMap<String, AttachedVolume>,
    /// The RAM image, while one waits.
    pub ram: Option<RamKey>,
    /// Last known state of the checks.
    pub checks: Vec<CheckStatus>,
    /// Ports of the guest that are reachable from this host.
    pub forwards: Vec<Forward>,
    /// `kvm` or `tcg`, of the present or last boot.
    pub accelerator: Option<String>,
}

/// A volume of this machine, as volumed described it last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedVolume {
    /// Generation of the attachment.
    pub generation: u64,
    /// The volume's name.
    pub name: String,
    /// Its size, in GiB.
    pub size_gb: u64,
    /// Whether it is encrypted at rest.
    pub encrypted: bool,
}

/// What a RAM image fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamKey {
    /// Machine version.
    pub instance_id: String,
    /// Boot that was suspended.
    pub boot_id: String,
    /// Image digest.
    pub digest: String,
    /// Kernel, initramfs and QEMU, as one digest.
    pub vmm: String,
    /// Accelerator.
    pub accelerator: String,
    /// Generation of each volume.
    pub generations: BTreeMap<String, u64>,
}

/// A port of the guest that is reachable from this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port in the guest.
    pub guest_port: u16,
    /// Loopback address of the host; one a machine, so that machines do not share the port space.
    pub host_address: String,
    /// Port on that address.
    pub host_port: u16,
}

/// One entry of a machine's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// ULID.
    pub id: String,
    /// What happened: `launch start exit update stop suspend resume restart destroy snapshot_discarded …`.
    #[serde(rename = "type")]
    pub kind: String,
    /// State of the machine after it.
    pub status: String,
    /// Who caused it: `user`, or `flyd` for the platform, as clients expect.
    pub source: String,
    /// Unix milliseconds.
    pub timestamp: i64,
    /// Facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
}

/// One version of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// `instance_id`.
    pub version: String,
    /// Configuration as it was sent.
    pub user_config: Value,
}
