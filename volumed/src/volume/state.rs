use serde::{Deserialize, Serialize};

/// Where a volume is in its life; the names are Fly's published ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// Asked for; nothing is promised about its bytes yet.
    Creating,
    /// Ready.
    Created,
    /// Growing; usable all the while.
    Extending,
    /// Being filled from a snapshot.
    Restoring,
    /// Being filled from its source volume.
    Hydrating,
    /// On its way to another node: what only this one has of it is being uploaded. Of ours, not of Fly's.
    Draining,
    /// Its deletion was asked for.
    SchedulingDestroy,
    /// Deleted, and recoverable until its grace is over.
    PendingDestroy,
    /// Coming back.
    Recovering,
    /// Its bytes are being removed.
    Destroying,
    /// Gone; only the record is left.
    Destroyed,
}

impl VolumeState {
    /// Every state, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::Creating,
        Self::Created,
        Self::Extending,
        Self::Restoring,
        Self::Hydrating,
        Self::Draining,
        Self::SchedulingDestroy,
        Self::PendingDestroy,
        Self::Recovering,
        Self::Destroying,
        Self::Destroyed,
    ];

    /// Returns the published name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Extending => "extending",
            Self::Restoring => "restoring",
            Self::Hydrating => "hydrating",
            Self::Draining => "draining",
            Self::SchedulingDestroy => "scheduling_destroy",
            Self::PendingDestroy => "pending_destroy",
            Self::Recovering => "recovering",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }
}
