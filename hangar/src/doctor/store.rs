//! The object store, the key, the zones.

use std::time::Duration;

use daemon::unix_http::Client;
use objstore::{Metrics, S3Config, S3Store};
use serde_json::Value;

use super::{Finding, Verdict};
use crate::node::{Layout, NodeConfig};
use crate::table::counted;
use crate::up::s3;

const WITHIN: Duration = Duration::from_secs(30);

/// What volumed says of itself, when it runs.
pub(super) async fn volumed_health(layout: &Layout) -> Option<Value> {
    let client = Client::new(layout.socket("volumed")).with_timeout(Duration::from_secs(5));
    client.get("/v1/health").await.ok()
}

pub(super) async fn probe(layout: &Layout, node: Option<&NodeConfig>) -> Finding {
    const NAME: &str = "object store";
    let external = node.and_then(|node| node.s3.clone());
    let is_external = external.is_some();
    let Some(config) = external.or_else(|| embedded(layout)) else {
        let what = (
            "the embedded one, not started yet",
            "nothing",
            "start it with `hangar up`",
        );
        return Finding {
            follows: String::new(),
            ..Finding::bad(NAME, Verdict::Note, what)
        };
    };
    let endpoint = config.endpoint.clone().unwrap_or_else(|| "AWS".to_owned());
    match tokio::time::timeout(WITHIN, probe_config(config)).await {
        Ok(Ok(requests)) => Finding::ok(
            NAME,
            format!("{endpoint}: conditional writes are atomic ({requests} requests)"),
        ),
        Ok(Err(_)) | Err(_) if !is_external => {
            let what = (
                format!("the embedded one at {endpoint} does not answer"),
                "no backups while the node is down",
                "start it with `hangar up`",
            );
            Finding::bad(NAME, Verdict::Note, what)
        }
        Ok(Err(error)) => {
            let remedy = "use an object store with conditional writes, and check [s3] in node.toml";
            Finding::bad(
                NAME,
                Verdict::Missing,
                (
                    format!("{endpoint}: {error}"),
                    "no backups; volumed refuses it",
                    remedy,
                ),
            )
        }
        Err(_) => {
            let found = format!("{endpoint} did not answer within {} s", WITHIN.as_secs());
            Finding::bad(
                NAME,
                Verdict::Missing,
                (found, "no backups", "check [s3] in node.toml and the network"),
            )
        }
    }
}

async fn probe_config(mut config: S3Config) -> Result<usize, String> {
    // Somebody is waiting for the answer: a store that is down is said to be down soon.
    config.retries.attempts_max = 2;
    let store = S3Store::connect(config, Metrics::unregistered())
        .await
        .map_err(|error| error.to_string())?;
    let scratch = format!("probe/{}", daemon::random::hex(8));
    match store.probe(&scratch).await {
        Ok(report) => Ok(report.requests),
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            Err(format!("{error}{cause}"))
        }
    }
}

/// The embedded store as volumed was told of it.
fn embedded(layout: &Layout) -> Option<S3Config> {
    if !s3::address_record(layout).is_file() {
        return None;
    }
    let config: toml::Table = daemon::config_file::load(layout.config("volumed")).ok()?;
    config.get("object_store")?.clone().try_into().ok()
}

pub(super) fn key(health: Option<&Value>) -> Finding {
    const NAME: &str = "cluster key";
    if let Some(sealed) = health.and_then(sealed_by_others) {
        let follows = "nothing of theirs is listed or can be restored here";
        let remedy = "hangar key import FILE, with what `hangar key export` gave on the node that made them";
        return Finding::bad(NAME, Verdict::Warning, (sealed, follows, remedy));
    }
    match health.and_then(|health| health["key_exported"].as_bool()) {
        Some(true) => Finding::ok(NAME, "exported"),
        Some(false) => {
            let follows = "when this host is lost, its backups cannot be read by anybody";
            let remedy = "hangar key export -o FILE, and keep FILE away from this host and from the bucket";
            Finding::bad(NAME, Verdict::Warning, ("never exported", follows, remedy))
        }
        None => Finding::bad(NAME, Verdict::Note, ("not known while the node is down", "", "")),
    }
}

/// Says what the bucket holds that only another cluster key opens.
pub(crate) fn sealed_by_others(health: &Value) -> Option<String> {
    let keys = health["other_keys"].as_object().filter(|keys| !keys.is_empty())?;
    let count: u64 = keys.values().filter_map(Value::as_u64).sum();
    let ids: Vec<&str> = keys.keys().map(String::as_str).collect();
    Some(format!(
        "the bucket holds {} sealed under another cluster key ({})",
        counted(count, "snapshot"),
        ids.join(", ")
    ))
}

pub(super) fn zones(node: Option<&NodeConfig>) -> Finding {
    const NAME: &str = "zones";
    let zones = node.map(|node| node.zones.clone()).unwrap_or_default();
    if zones.len() == 1 {
        return Finding::ok(NAME, zones.concat());
    }
    let found = if zones.is_empty() {
        "three virtual ones, named at the first start".to_owned()
    } else {
        format!("{} are virtual: all are this host", zones.join(", "))
    };
    let follows = "volumes \"in different zones\" still share this host's fate";
    Finding::bad(
        NAME,
        Verdict::Note,
        (found, follows, "rely on snapshots in an object store elsewhere"),
    )
}

#[cfg(test)]
mod tests;
