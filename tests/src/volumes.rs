//! Volumes and snapshots over the public API, waited for.

use crate::node::Node;
use anyhow::{Context, Result};
use serde_json::Value;

/// Creates a volume of `app`, or restores one, and waits until it can be used.
///
/// # Errors
/// What the API said, or two minutes without the state `created`.
pub async fn create(node: &Node, app: &str, body: Value) -> Result<String> {
    let volume = node
        .ok("POST", &format!("/v1/apps/{app}/volumes"), Some(&body))
        .await?;
    let id = volume["id"].as_str().context("a volume's id")?.to_owned();
    let path = format!("/v1/apps/{app}/volumes/{id}");
    node.until("the volume to be created", 120, || async {
        let volume = node.ok("GET", &path, None).await?;
        Ok((volume["state"] == "created").then_some(()))
    })
    .await?;
    Ok(id)
}

/// Takes a snapshot and waits until it is in the bucket.
///
/// # Errors
/// What the API said, or two minutes without the state `created`.
pub async fn snapshot(node: &Node, app: &str, volume: &str) -> Result<String> {
    let path = format!("/v1/apps/{app}/volumes/{volume}/snapshots");
    node.ok("POST", &path, None).await?;
    node.until("the snapshot to be backed up", 120, || async {
        let list = node.ok("GET", &path, None).await?;
        let newest = list
            .as_array()
            .and_then(|list| list.last())
            .cloned()
            .unwrap_or(Value::Null);
        Ok(newest["id"]
            .as_str()
            .filter(|_| newest["status"] == "created")
            .map(str::to_owned))
    })
    .await
}
