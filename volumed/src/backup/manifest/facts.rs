//! The facts section: JSON, so that a later program can add to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ManifestHead;
use crate::keys::WrappedKey;

/// The facts as stored. Fields may be added, with a default; none may change its meaning or go away within version 1.
#[derive(Serialize, Deserialize)]
struct Facts {
    snapshot_id: String,
    volume_id: String,
    app: String,
    volume_name: String,
    region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fstype: Option<String>,
    encrypted: bool,
    formatted: bool,
    generation: u64,
    created_at: Timestamp,
    retention_days: u32,
    auto_backup: bool,
    atomic: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    stored_bytes: u64,
    data_blocks: u64,
    digest: String,
}

pub(super) fn encode(head: &ManifestHead) -> Vec<u8> {
    let ManifestHead {
        snapshot_id,
        volume_id,
        app,
        volume_name,
        region,
        zone,
        size_bytes,
        fstype,
        encrypted,
        formatted,
        generation,
        created_at,
        retention_days,
        auto_backup,
        atomic,
        parent,
        wrapped_key: _,
        stored_bytes,
        data_blocks,
        digest,
    } = head.clone();
    let facts = Facts {
        snapshot_id,
        volume_id,
        app,
        volume_name,
        region,
        zone,
        size_bytes,
        fstype,
        encrypted,
        formatted,
        generation,
        created_at,
        retention_days,
        auto_backup,
        atomic,
        parent,
        stored_bytes,
        data_blocks,
        digest,
    };
    serde_json::to_vec(&facts).unwrap_or_else(|error| unreachable!("facts are plain values: {error}"))
}

pub(super) fn decode(bytes: &[u8], wrapped_key: WrappedKey) -> Option<ManifestHead> {
    let Facts {
        snapshot_id,
        volume_id,
        app,
        volume_name,
        region,
        zone,
        size_bytes,
        fstype,
        encrypted,
        formatted,
        generation,
        created_at,
        retention_days,
        auto_backup,
        atomic,
        parent,
        stored_bytes,
        data_blocks,
        digest,
    } = serde_json::from_slice(bytes).ok()?;
    Some(ManifestHead {
        snapshot_id,
        volume_id,
        app,
        volume_name,
        region,
        zone,
        size_bytes,
        fstype,
        encrypted,
        formatted,
        generation,
        created_at,
        retention_days,
        auto_backup,
        atomic,
        parent,
        wrapped_key,
        stored_bytes,
        data_blocks,
        digest,
    })
}
