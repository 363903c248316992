//! Decides what is due: scheduled snapshots, expired snapshots, volumes whose grace is over. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{SnapshotId, Volume, VolumeId, VolumeState};

#[cfg(test)]
mod tests;

/// Something that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Take a snapshot for this time slot.
    Snapshot {
        /// Of which volume.
        volume: VolumeId,
        /// The slot it is for.
        slot: Timestamp,
    },
    /// Remove a snapshot whose retention is over.
    Expire {
        /// Which.
        snapshot: SnapshotId,
    },
    /// Remove a deleted volume for good.
    Purge {
        /// Which.
        volume: VolumeId,
    },
}

/// Returns everything due at `now`, volumes first, in the order given.
///
/// A volume's slots are `interval` apart, counted from its creation. However many slots were missed, one snapshot is due
/// for the newest; and none while the previous scheduled one is not finished.
pub fn due(now: Timestamp, interval: Duration, volumes: &[Volume], snapshots: &[Snapshot]) -> Vec<Due> {
    let mut due = Vec::new();
    for volume in volumes {
        if let Some(slot) = snapshot_slot(now, interval, volume) {
            let unfinished = |s: &Snapshot| s.volume_id == volume.id && s.scheduled && s.in_progress();
            if !snapshots.iter().any(unfinished) {
                due.push(Due::Snapshot {
                    volume: volume.id.clone(),
                    slot,
                });
            }
        }
        if volume.state == VolumeState::PendingDestroy && volume.purge_after.is_some_and(|at| at <= now) {
            due.push(Due::Purge {
                volume: volume.id.clone(),
            });
        }
    }
    let expired = snapshots
        .iter()
        .filter(|s| s.state == SnapshotState::Created && s.expires_at() <= now);
    due.extend(expired.map(|s| Due::Expire {
        snapshot: s.id.clone(),
    }));
    due
}

/// Returns the newest slot of a volume that has come and was not served, if it is to be snapshotted at all.
fn snapshot_slot(now: Timestamp, interval: Duration, volume: &Volume) -> Option<Timestamp> {
    if !volume.auto_backup_enabled || volume.state != VolumeState::Created || interval.is_zero() {
        return None;
    }
    let age = now.duration_since(volume.created_at);
    let interval_ms = i128::try_from(interval.as_millis()).ok()?.max(1);
    let slots = age.as_millis() / interval_ms;
    if slots < 1 {
        return None;
    }
    let since = i64::try_from(slots * interval_ms).ok()?;
    let slot = volume
        .created_at
        .checked_add(SignedDuration::from_millis(since))
        .ok()?;
    volume
        .scheduled_slot
        .is_none_or(|served| served < slot)
        .then_some(slot)
}
