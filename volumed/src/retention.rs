//! PURE. Decides which snapshots of a volume have had their time.
//!
//! Two rules, and a snapshot goes when neither keeps it. By *days*: each snapshot is kept for the days it was taken
//! with. By *counts*, for scheduled snapshots of a volume that has counts: of the newest so many hours, days and weeks
//! (UTC, weeks from Monday) that have any, the newest one of each stays. With counts the days keep one snapshot a day, for
//! otherwise an hourly schedule would leave them nothing to thin out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{SnapshotId, Volume, VolumeState};

#[cfg(test)]
mod tests;

/// How many scheduled snapshots of a volume stay, beside those that its days keep. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Hours that have one; also makes the schedule hourly.
    pub hourly: u32,
    /// Days that have one.
    pub daily: u32,
    /// Weeks that have one.
    pub weekly: u32,
}

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
const WEEK_S: i64 = 7 * DAY_S;
/// The first Monday of Unix time is its fifth day.
const MONDAY_S: i64 = 4 * DAY_S;

impl Counts {
    /// Says whether any is set.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Returns the length, the offset from Unix time and the count of each tier.
    fn tiers(self) -> [(i64, i64, u32); 3] {
        [
            (HOUR_S, 0, self.hourly),
            (DAY_S, 0, self.daily),
            (WEEK_S, MONDAY_S, self.weekly),
        ]
    }
}

/// Returns the snapshots whose retention is over at `now`, in the order given.
///
/// * `volume`: theirs, if it is known; a destroyed one's counts hold for its days after its deletion.
/// * `snapshots`: of that one volume.
///
/// Unfinished ones are nobody's business here. One from the future, of a clock that was wrong, stays and takes no place.
pub fn expired(now: Timestamp, volume: Option<&Volume>, snapshots: &[&Snapshot]) -> Vec<SnapshotId> {
    let counts = volume.map(|v| counts_at(now, v)).unwrap_or_default();
    let finished = |s: &&&Snapshot| s.state == SnapshotState::Created;
    let counted = |s: &&Snapshot| counts.any() && s.scheduled && s.created_at <= now;
    let thinned: Vec<&Snapshot> = snapshots
        .iter()
        .filter(finished)
        .copied()
        .filter(counted)
        .collect();
    let kept_by_count = |s: &Snapshot| {
        let mut tiers = counts.tiers().into_iter();
        tiers.any(|(len, offset, count)| newest_of(&thinned, len, offset, count).contains(&&s.id))
    };
    let one_a_day = newest_of(&thinned, DAY_S, 0, u32::MAX);
    let kept_by_days = |s: &Snapshot| s.expires_at() > now && (!counted(&s) || one_a_day.contains(&&s.id));
    let kept = |s: &Snapshot| kept_by_days(s) || (counted(&s) && kept_by_count(s));
    snapshots
        .iter()
        .filter(finished)
        .filter(|s| !kept(s))
        .map(|s| s.id.clone())
        .collect()
}

/// Returns the counts that hold now: a deleted volume's snapshots are not kept for ever, nor the volume for theirs.
fn counts_at(now: Timestamp, volume: &Volume) -> Counts {
    if volume.state != VolumeState::Destroyed && volume.deleted_at.is_none() {
        return volume.snapshot_counts;
    }
    let days = SignedDuration::from_hours(24 * i64::from(volume.snapshot_retention));
    let until = volume.deleted_at.and_then(|at| at.checked_add(days).ok());
    match until {
        Some(until) if now < until => volume.snapshot_counts,
        Some(_) | None => Counts::default(),
    }
}

/// Returns the newest snapshot of each of the newest `count` periods that have one.
fn newest_of<'a>(snapshots: &[&'a Snapshot], len_s: i64, offset_s: i64, count: u32) -> Vec<&'a SnapshotId> {
    let mut newest: BTreeMap<i64, &Snapshot> = BTreeMap::new();
    for snapshot in snapshots {
        let period = (snapshot.created_at.as_second() - offset_s).div_euclid(len_s);
        let held = newest.entry(period).or_insert(snapshot);
        if (held.created_at, &held.id) < (snapshot.created_at, &snapshot.id) {
            *held = snapshot;
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    newest.values().rev().take(count).map(|s| &s.id).collect()
}
