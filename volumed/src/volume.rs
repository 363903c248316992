//! The volume record: what the catalog keeps of one volume.

mod id;
mod size;
mod state;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use id::{IdError, OperationKey, SnapshotId, VolumeId};
pub use size::{GIB, SizeGb};
pub use state::VolumeState;

use crate::keys::WrappedKey;
use crate::retention::Counts;

/// The file system asked for; made by the guest at the first mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsType {
    /// The default.
    Ext4,
    /// XFS.
    Xfs,
    /// None: the guest gets the bare device.
    Raw,
}

impl FsType {
    /// Reads the name used on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ext4" => Some(Self::Ext4),
            "xfs" => Some(Self::Xfs),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }

    /// Returns the name used on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Raw => "raw",
        }
    }
}

/// What the guest's file system last reported, as statfs counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsUsage {
    /// Bytes per block.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Blocks free for unprivileged users.
    pub blocks_avail: u64,
    /// Size of the file system.
    pub bytes_total: u64,
    /// Bytes in use.
    pub bytes_used: u64,
}

/// Where a volume's first content came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// Nothing: a new, empty volume.
    Empty,
    /// A snapshot in the object store.
    Snapshot {
        /// Which.
        snapshot_id: SnapshotId,
    },
    /// Another volume of this host.
    Fork {
        /// Which.
        volume_id: VolumeId,
    },
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Unique for ever.
    pub id: VolumeId,
    /// The app it belongs to.
    pub app: String,
    /// Name; not unique in its app.
    pub name: String,
    /// Region code.
    pub region: String,
    /// Zone: 4 hexadecimal digits.
    pub zone: String,
    /// Size as the guest sees it.
    pub size: SizeGb,
    /// The size that a running extend is growing to.
    pub extending_to: Option<SizeGb>,
    /// Where it is in its life.
    pub state: VolumeState,
    /// Name of the pool that holds it.
    pub pool: String,
    /// Whether it is encrypted at rest.
    pub encrypted: bool,
    /// The file system asked for.
    pub fstype: FsType,
    /// Whether a file system was ever made on it. Never goes back to false.
    pub formatted: bool,
    /// Whether a machine ever had it.
    pub ever_attached: bool,
    /// Days that its snapshots are kept.
    pub snapshot_retention: u32,
    /// How many scheduled snapshots are kept beyond those days.
    #[serde(default)]
    pub snapshot_counts: Counts,
    /// Whether it is snapshotted by schedule.
    pub auto_backup_enabled: bool,
    /// The machine that holds it.
    pub attached_machine_id: Option<String>,
    /// Where the host has it mounted, or is about to; its holder is then [`host::HOLDER`](crate::host::HOLDER).
    #[serde(default)]
    pub host_path: Option<PathBuf>,
    /// Fencing number: +1 at each attach, restore and fork.
    pub generation: u64,
    /// The newest report of its file system.
    pub usage: Option<FsUsage>,
    /// Whether the file system grows only when its machine starts the next time.
    pub needs_restart: bool,
    /// Where its first content came from.
    pub origin: Origin,
    /// Its data key, wrapped by the cluster key.
    pub wrapped_key: WrappedKey,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its record last changed by a request.
    pub updated_at: Timestamp,
    /// When its deletion was asked for.
    pub deleted_at: Option<Timestamp>,
    /// From when on its bytes may be removed.
    pub purge_after: Option<Timestamp>,
    /// When a backup of it was last read back and found right.
    pub last_verified_restore: Option<Timestamp>,
    /// The time slot of its newest scheduled snapshot.
    pub scheduled_slot: Option<Timestamp>,
    /// Size of its file system when it was last extended by itself: until that grows it is not extended again.
    #[serde(default)]
    pub auto_extended_from_bytes: Option<u64>,
    /// Why it was not extended by itself, as its owner was told.
    #[serde(default)]
    pub auto_extend_blocked: Option<String>,
    /// Why its scheduled snapshots are not taken, as its owner was told.
    #[serde(default)]
    pub snapshot_blocked: Option<String>,
    /// When it went from this node, to be claimed by any; set on a destroyed record only, which stands for nothing then.
    #[serde(default)]
    pub left_at: Option<Timestamp>,
    /// Why its creation was given up; set on a destroyed record only.
    pub failure: Option<String>,
}

impl Volume {
    /// Says whether it counts for placement, capacity and lists: everything but a finished destroy.
    pub fn exists(&self) -> bool {
        self.state != VolumeState::Destroyed
    }

    /// Returns the bytes of the pool that it is promised: the larger size while it grows.
    pub fn promised_bytes(&self) -> u64 {
        self.extending_to
            .map_or(self.size, |to| to.max(self.size))
            .bytes()
    }
}
