//! The snapshot record: a pinned point in time of one volume, and its backup in the object store.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::backup::ManifestHead;
use crate::keys::WrappedKey;
use crate::volume::{SnapshotId, VolumeId};

/// How far a snapshot is; the first three names are Fly's published ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// Asked for; the point in time is not taken yet.
    Waiting,
    /// The point in time is taken and is being uploaded.
    Running,
    /// In the object store.
    Created,
    /// Being removed from the object store.
    Deleting,
    /// Removed, expired or given up; kept so that a late listing of the bucket does not bring it back.
    Deleted,
}

impl SnapshotState {
    /// Returns the published name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Created => "created",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Unique for ever.
    pub id: SnapshotId,
    /// The volume it is of; the volume may be gone.
    pub volume_id: VolumeId,
    /// That volume's app.
    pub app: String,
    /// That volume's name.
    pub volume_name: String,
    /// How far it is.
    pub state: SnapshotState,
    /// Whether it was taken by the schedule.
    pub scheduled: bool,
    /// When it was asked for; once the point in time is taken, that moment.
    pub created_at: Timestamp,
    /// Days that it is kept.
    pub retention_days: u32,
    /// Size of the volume at that moment.
    pub volume_bytes: u64,
    /// Bytes that its blocks take in the object store.
    pub stored_bytes: u64,
    /// Digest of its manifest; empty until it is created.
    pub digest: String,
    /// Pool that holds the local capture until it is uploaded.
    pub pool: Option<String>,
    /// Whether the volume's own disk keeps it in the bucket, so that there is no backup of it and never a capture.
    #[serde(default)]
    pub in_disk: bool,
    /// Whether the volume was encrypted at rest.
    pub encrypted: bool,
    /// Generation of the volume at that moment.
    pub generation: u64,
    /// Whether the volume had a file system.
    pub formatted: bool,
    /// The volume's file system type.
    pub fstype: String,
    /// The volume's data key, wrapped by the cluster key.
    pub wrapped_key: WrappedKey,
    /// When all of it was last read back and found right.
    pub last_verified: Option<Timestamp>,
    /// When some of it was last read back, right or not.
    #[serde(default)]
    pub last_scrubbed: Option<Timestamp>,
    /// What was found wrong with its backup; none once all of it was found right again.
    #[serde(default)]
    pub damage: Option<String>,
    /// When that was found first.
    #[serde(default)]
    pub damaged_since: Option<Timestamp>,
}

impl Snapshot {
    /// Makes the record of a snapshot found in the bucket.
    ///
    /// None when the manifest's ids are not ours in form.
    pub fn adopted(head: &ManifestHead) -> Option<Self> {
        Some(Self {
            id: SnapshotId::parse(&head.snapshot_id).ok()?,
            volume_id: VolumeId::parse(&head.volume_id).ok()?,
            app: head.app.clone(),
            volume_name: head.volume_name.clone(),
            state: SnapshotState::Created,
            scheduled: false,
            created_at: head.created_at,
            retention_days: head.retention_days,
            volume_bytes: head.size_bytes,
            stored_bytes: head.stored_bytes,
            digest: head.digest.clone(),
            pool: None,
            in_disk: false,
            encrypted: head.encrypted,
            generation: head.generation,
            formatted: head.formatted,
            fstype: head.fstype.clone().unwrap_or_default(),
            wrapped_key: head.wrapped_key.clone(),
            last_verified: None,
            last_scrubbed: None,
            damage: None,
            damaged_since: None,
        })
    }

    /// Returns from when on it may be removed.
    pub fn expires_at(&self) -> Timestamp {
        let days = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        self.created_at.checked_add(days).unwrap_or(Timestamp::MAX)
    }

    /// Says whether it is not yet, or no longer, something to restore from.
    pub fn in_progress(&self) -> bool {
        matches!(self.state, SnapshotState::Waiting | SnapshotState::Running)
    }

    /// Says whether the volume that it is of must stay for its sake.
    pub fn needs_its_volume(&self) -> bool {
        self.in_disk && self.state != SnapshotState::Deleted
    }

    /// Says whether lists show it.
    pub fn listed(&self) -> bool {
        match self.state {
            SnapshotState::Waiting | SnapshotState::Running | SnapshotState::Created => true,
            SnapshotState::Deleting | SnapshotState::Deleted => false,
        }
    }
}
