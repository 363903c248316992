//! PURE. Decides what is due: scheduled snapshots, expired snapshots, volumes whose grace is over.
//!
//! The wall clock may jump. Forwards: however many slots were missed, one run makes up for them. Backwards: a slot that was
//! served is not served again while it is at most one interval ahead; one that lies further ahead was served by
//! a clock that was wrong, and is forgotten. So runs never come closer than the clock says, and never stay away for more
//! than two intervals of a clock that goes on steadily.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::retention;
use crate::snapshot::Snapshot;
use crate::volume::{SnapshotId, Volume, VolumeId, VolumeState};

#[cfg(test)]
pub(crate) mod tests;

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

/// Whether what is due by the wall clock may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The clock is believed.
    Due,
    /// It jumped, or has just been started: nothing is removed on its word.
    Waits,
}

/// Returns everything due at `now`, volumes first, in the order given.
///
/// * `volumes`: destroyed ones too, for their snapshots' sake.
///
/// A volume's slots are `interval` apart, counted from its creation; an hour, where hourly snapshots are kept and the
/// interval is longer. However many slots were missed, one snapshot is due for the newest; and none while the previous
/// scheduled one is not finished.
pub fn due(
    now: Timestamp,
    interval: Duration,
    removal: Removal,
    volumes: &[Volume],
    snapshots: &[Snapshot],
) -> Vec<Due> {
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
        if removal == Removal::Due
            && volume.state == VolumeState::PendingDestroy
            && volume.purge_after.is_some_and(|at| at <= now)
            && !snapshots
                .iter()
                .any(|s| s.volume_id == volume.id && s.needs_its_volume())
        {
            due.push(Due::Purge {
                volume: volume.id.clone(),
            });
        }
    }
    if removal == Removal::Due {
        due.extend(expired(now, volumes, snapshots));
    }
    due
}

fn expired(now: Timestamp, volumes: &[Volume], snapshots: &[Snapshot]) -> Vec<Due> {
    let known: BTreeMap<&VolumeId, &Volume> = volumes.iter().map(|v| (&v.id, v)).collect();
    let mut by_volume: BTreeMap<&VolumeId, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        by_volume.entry(&snapshot.volume_id).or_default().push(snapshot);
    }
    let over = |(id, of): (&&VolumeId, &Vec<&Snapshot>)| retention::expired(now, known.get(*id).copied(), of);
    let over = by_volume.iter().flat_map(over);
    over.map(|snapshot| Due::Expire { snapshot }).collect()
}

/// With hourly counts the schedule is hourly.
const HOUR: Duration = Duration::from_secs(3_600);

/// Returns the newest slot of a volume that has come and was not served, if it is to be snapshotted at all.
fn snapshot_slot(now: Timestamp, interval: Duration, volume: &Volume) -> Option<Timestamp> {
    if !volume.auto_backup_enabled || volume.state != VolumeState::Created || interval.is_zero() {
        return None;
    }
    let interval = match volume.snapshot_counts.hourly {
        0 => interval,
        _ => interval.min(HOUR),
    };
    let interval_ms = i64::try_from(interval.as_millis()).ok()?.max(1);
    let age_ms = now.as_millisecond() - volume.created_at.as_millisecond();
    if (0..interval_ms).contains(&age_ms) {
        return None;
    }
    // Also for a volume from the future, of a clock that was wrong: its slots go back as well as forth.
    let since_ms = age_ms - age_ms.rem_euclid(interval_ms);
    let slot = volume
        .created_at
        .checked_add(SignedDuration::from_millis(since_ms))
        .ok()?;
    let served = volume.scheduled_slot.filter(|served| {
        let ahead_ms = served.as_millisecond() - now.as_millisecond();
        ahead_ms <= interval_ms
    });
    served.is_none_or(|served| served < slot).then_some(slot)
}
