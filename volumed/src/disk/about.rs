//! PURE. What a disk's bucket says of its volume, so that another node can take it up: the object `disk/<disk>/about`.
//!
//! JSON, sealed with a subkey of the volume's data key; the byte table is in `docs/formats/disk.md`.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use jiff::Timestamp;
use log_disk::DiskId;
use serde::{Deserialize, Serialize};

use super::settings::{CompressionKind, DurabilityClass, OutageRule, Settings};
use crate::keys::DataKey;
use crate::retention::Counts;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{FsType, Origin, SizeGb, Volume};

const MAGIC: &[u8; 4] = b"HGAB";
const VERSION: u16 = 1;
const DISK_AT: usize = 8;
const NONCE_AT: usize = DISK_AT + 16;
const SEALED_AT: usize = NONCE_AT + 24;

/// What stands in the bucket of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Drawn for the directory that wrote it: tells a node its own words from another's.
    pub author: String,
    /// The volume.
    pub volume: VolumeFacts,
    /// How its disk is served.
    pub serving: Serving,
}

/// The facts of a volume's record that are true on every node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// The app it belongs to.
    pub app: String,
    /// Its name.
    pub name: String,
    /// Its size; what HEAD says counts.
    pub size: SizeGb,
    /// The region it was last in.
    pub region: String,
    /// The zone it was last in.
    pub zone: String,
    /// Its file system.
    pub fstype: FsType,
    /// Whether that was ever made.
    pub formatted: bool,
    /// Whether a machine ever had it.
    pub ever_attached: bool,
    /// Days that its snapshots are kept.
    pub snapshot_retention: u32,
    /// How many scheduled snapshots are kept beyond those days.
    pub snapshot_counts: Counts,
    /// Whether it is snapshotted by schedule.
    pub auto_backup_enabled: bool,
    /// The newest generation that was handed out.
    pub generation: u64,
    /// Where its first content came from.
    pub origin: Origin,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The snapshots that its disk keeps.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
}

/// How a disk is served, wherever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// See [`Settings::durability`].
    pub durability: DurabilityClass,
    /// See [`Settings::on_outage`].
    pub on_outage: OutageRule,
    /// See [`Settings::lag_bytes_max`].
    pub lag_bytes_max: u64,
    /// See [`Settings::lag_ms_max`].
    pub lag_ms_max: u64,
    /// See [`Settings::compression`].
    pub compression: CompressionKind,
}

/// Why what stands there cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AboutError {
    /// A newer program wrote it.
    #[error("what the bucket says of the volume has version {found}, this program reads {VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Cut, changed, or another disk's.
    #[error("what the bucket says of the volume is damaged")]
    Damaged,
    /// Its seal is right, and it says what makes no sense.
    #[error("what the bucket says of the volume")]
    Parse(#[from] serde_json::Error),
}

impl VolumeFacts {
    /// Says what is true of a volume.
    ///
    /// * `snapshots`: those of it that its node knows.
    #[must_use]
    pub fn new(volume: &Volume, mut snapshots: Vec<Snapshot>) -> Self {
        snapshots.retain(|snapshot| snapshot.in_disk && snapshot.state == SnapshotState::Created);
        Self {
            snapshots,
            app: volume.app.clone(),
            name: volume.name.clone(),
            size: volume.size,
            region: volume.region.clone(),
            zone: volume.zone.clone(),
            fstype: volume.fstype,
            formatted: volume.formatted,
            ever_attached: volume.ever_attached,
            snapshot_retention: volume.snapshot_retention,
            snapshot_counts: volume.snapshot_counts,
            auto_backup_enabled: volume.auto_backup_enabled,
            generation: volume.generation,
            origin: volume.origin.clone(),
            created_at: volume.created_at,
        }
    }
}

impl From<&Settings> for Serving {
    fn from(settings: &Settings) -> Self {
        Self {
            durability: settings.durability,
            on_outage: settings.on_outage,
            lag_bytes_max: settings.lag_bytes_max,
            lag_ms_max: settings.lag_ms_max,
            compression: settings.compression,
        }
    }
}

impl Serving {
    /// Returns `settings`, served like this.
    #[must_use]
    pub fn of(self, settings: Settings) -> Settings {
        Settings {
            durability: self.durability,
            on_outage: self.on_outage,
            lag_bytes_max: self.lag_bytes_max,
            lag_ms_max: self.lag_ms_max,
            compression: self.compression,
            ..settings
        }
    }
}

impl About {
    /// Makes the object.
    ///
    /// * `nonce`: random.
    ///
    /// # Errors
    /// [`AboutError::Parse`] for what JSON cannot say; nothing of ours is that.
    pub fn encode(&self, key: &DataKey, disk: DiskId, nonce: [u8; 24]) -> Result<Vec<u8>, AboutError> {
        let text = serde_json::to_vec(self)?;
        let mut bytes = Vec::with_capacity(SEALED_AT + text.len() + 16);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&disk.0);
        let payload = Payload {
            msg: &text,
            aad: &bytes,
        };
        let Ok(sealed) = cipher(key).encrypt(&XNonce::from(nonce), payload) else {
            unreachable!("{} bytes are within the cipher's limit", text.len())
        };
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    /// Reads the object of `disk`.
    ///
    /// # Errors
    /// [`AboutError`].
    pub fn decode(key: &DataKey, disk: DiskId, bytes: &[u8]) -> Result<Self, AboutError> {
        let (head, sealed) = bytes
            .split_first_chunk::<SEALED_AT>()
            .ok_or(AboutError::Damaged)?;
        let (aad, nonce) = head.split_at(NONCE_AT);
        if !aad.starts_with(MAGIC) || aad[DISK_AT..] != disk.0 {
            return Err(AboutError::Damaged);
        }
        let found = u16::from_le_bytes([aad[4], aad[5]]);
        if found != VERSION {
            return Err(AboutError::Version { found });
        }
        let nonce = <[u8; 24]>::try_from(nonce).map_err(|_| AboutError::Damaged)?;
        let payload = Payload { msg: sealed, aad };
        let text = cipher(key)
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| AboutError::Damaged)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

fn cipher(key: &DataKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key.disk_about_key()))
}

#[cfg(test)]
mod tests;
