//! The wire form of volumes, snapshots and attachments.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::bulk::Layout;
use crate::pool::Device;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{FsType, Volume};

/// A volume as the API shows it: the Machines API's fields and ours.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the fields are the API's, described in the Machines API reference
pub struct VolumeView {
    pub id: String,
    pub name: String,
    pub app: String,
    pub state: &'static str,
    pub size_gb: u32,
    pub region: String,
    pub zone: String,
    pub encrypted: bool,
    pub attached_machine_id: Option<String>,
    pub attached_alloc_id: Option<String>,
    pub host_path: Option<PathBuf>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub snapshot_retention: u32,
    pub snapshot_retention_hourly: u32,
    pub snapshot_retention_daily: u32,
    pub snapshot_retention_weekly: u32,
    pub auto_backup_enabled: bool,
    pub host_status: &'static str,
    pub host_dedication_id: &'static str,
    pub fstype: &'static str,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_avail: u64,
    pub bytes_total: u64,
    pub bytes_used: u64,
    pub r#type: &'static str,
    pub pool: String,
    pub generation: u64,
    pub atomic_snapshot: bool,
    pub needs_restart: bool,
    pub auto_extend_blocked: Option<String>,
    pub snapshot_blocked: Option<String>,
    pub deleted_at: Option<Timestamp>,
    pub purge_after: Option<Timestamp>,
    pub last_verified_restore: Option<Timestamp>,
    pub operation: Option<String>,
    /// How the disk of a bottomless volume is, while it is served; only where one volume is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<serde_json::Value>,
}

impl VolumeView {
    /// Shows a volume.
    ///
    /// * `operation`: the id of its running operation.
    pub fn new(volume: &Volume, atomic_snapshot: bool, operation: Option<String>) -> Self {
        let usage = volume.usage.unwrap_or_default();
        let known = volume.ever_attached || volume.formatted;
        Self {
            id: volume.id.to_string(),
            name: volume.name.clone(),
            app: volume.app.clone(),
            state: match volume.left_at {
                Some(_) => "drained",
                None => volume.state.name(),
            },
            size_gb: volume.size.get(),
            region: volume.region.clone(),
            zone: volume.zone.clone(),
            encrypted: volume.encrypted,
            attached_machine_id: volume.attached_machine_id.clone(),
            attached_alloc_id: None,
            host_path: volume.host_path.clone(),
            created_at: volume.created_at,
            updated_at: volume.updated_at,
            snapshot_retention: volume.snapshot_retention,
            snapshot_retention_hourly: volume.snapshot_counts.hourly,
            snapshot_retention_daily: volume.snapshot_counts.daily,
            snapshot_retention_weekly: volume.snapshot_counts.weekly,
            auto_backup_enabled: volume.auto_backup_enabled,
            host_status: "ok",
            host_dedication_id: "",
            fstype: if known { volume.fstype.name() } else { "" },
            block_size: if usage.block_size == 0 {
                4096
            } else {
                usage.block_size
            },
            blocks: usage.blocks,
            blocks_free: usage.blocks_free,
            blocks_avail: usage.blocks_avail,
            bytes_total: usage.bytes_total,
            bytes_used: usage.bytes_used,
            r#type: "local",
            pool: volume.pool.clone(),
            generation: volume.generation,
            atomic_snapshot,
            needs_restart: volume.needs_restart,
            auto_extend_blocked: volume.auto_extend_blocked.clone(),
            snapshot_blocked: volume.snapshot_blocked.clone(),
            deleted_at: volume.deleted_at,
            purge_after: volume.purge_after,
            last_verified_restore: volume.last_verified_restore,
            operation,
            disk: None,
        }
    }
}

/// A snapshot as the API shows it.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct SnapshotView {
    pub id: String,
    pub status: &'static str,
    pub state: &'static str,
    pub size: u64,
    pub volume_size: u64,
    pub digest: String,
    pub created_at: Timestamp,
    pub retention_days: u32,
    pub volume_id: String,
    pub volume_name: String,
    pub app: String,
    pub encrypted: bool,
    pub generation: u64,
    pub scheduled: bool,
    pub expires_at: Timestamp,
    pub last_verified: Option<Timestamp>,
    pub last_scrubbed: Option<Timestamp>,
    pub damage: Option<String>,
}

impl From<&Snapshot> for SnapshotView {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            id: snapshot.id.to_string(),
            status: snapshot.state.name(),
            state: snapshot.state.name(),
            size: if snapshot.state == SnapshotState::Created {
                snapshot.stored_bytes
            } else {
                0
            },
            volume_size: snapshot.volume_bytes,
            digest: snapshot.digest.clone(),
            created_at: snapshot.created_at,
            retention_days: snapshot.retention_days,
            volume_id: snapshot.volume_id.to_string(),
            volume_name: snapshot.volume_name.clone(),
            app: snapshot.app.clone(),
            encrypted: snapshot.encrypted,
            generation: snapshot.generation,
            scheduled: snapshot.scheduled,
            expires_at: snapshot.expires_at(),
            last_verified: snapshot.last_verified,
            last_scrubbed: snapshot.last_scrubbed,
            damage: snapshot.damage.clone(),
        }
    }
}

/// How a machine opens its volume. Holds the passphrase: it travels over the Unix socket only and is never logged.
#[derive(Clone, Serialize)]
#[allow(missing_docs)]
pub struct AttachmentView {
    pub volume: VolumeView,
    pub generation: u64,
    pub size_bytes: u64,
    pub format_allowed: bool,
    /// The file system to make when formatting is allowed, and to expect otherwise.
    pub fstype: &'static str,
    pub device: DeviceView,
}

impl std::fmt::Debug for AttachmentView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachmentView")
            .field("volume", &self.volume.id)
            .finish_non_exhaustive()
    }
}

/// The device of an attachment.
#[derive(Clone, Serialize)]
#[allow(missing_docs)]
pub struct DeviceView {
    pub path: PathBuf,
    pub format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<String>,
}

impl std::fmt::Debug for DeviceView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceView")
            .field("path", &self.path)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl AttachmentView {
    /// Shows an attachment.
    pub fn new(volume: &Volume, view: VolumeView, device: &Device) -> Self {
        let (format, passphrase) = match (&device.layout, &device.export) {
            (_, Some(_)) => ("nbd", None),
            (Layout::Raw, None) => ("raw", None),
            (Layout::Luks { passphrase }, None) => ("luks", Some(passphrase.to_string())),
        };
        Self {
            volume: view,
            generation: volume.generation,
            size_bytes: volume.size.bytes(),
            format_allowed: !volume.formatted && volume.fstype != FsType::Raw,
            fstype: volume.fstype.name(),
            device: DeviceView {
                path: device.path.clone(),
                format,
                passphrase,
                export: device.export.clone(),
            },
        }
    }
}
