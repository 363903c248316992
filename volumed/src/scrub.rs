//! Decides which backup is read back next. The planner is pure; the driver is [`Service::scrub_until`].
//!
//! Two kinds of looking: a *sample* of a snapshot's blocks, each snapshot in its turn, finds a store that loses things; a
//! *test restore* of a volume's newest snapshot, into nowhere, now and then, proves that the whole of it opens.
//!
//! [`Service::scrub_until`]: crate::service::Service::scrub_until

mod nowhere;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use nowhere::Nowhere;
pub(crate) use nowhere::rest;

use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{SnapshotId, Volume, VolumeId};

#[cfg(test)]
mod tests;

/// What the operator decided about reading backups back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// Time between samples of one snapshot; zero takes none.
    pub sample_interval: Duration,
    /// Blocks of 4 MiB in a sample.
    pub sample_blocks: u32,
    /// Time between test restores of one volume; zero makes none.
    pub restore_interval: Duration,
    /// How fast the background reads at most.
    pub bytes_per_s: u64,
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self {
            sample_interval: Duration::from_secs(24 * 3_600),
            sample_blocks: 4,
            restore_interval: Duration::from_secs(7 * 24 * 3_600),
            bytes_per_s: 4 << 20,
        }
    }
}

/// How a backup is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A few random blocks.
    Sample,
    /// All of it, as a restore reads it.
    Restore,
}

/// A backup to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which.
    pub snapshot: SnapshotId,
    /// How.
    pub check: Check,
}

/// Returns what is due at `now`, test restores first, the longest overdue first; none when nothing is.
///
/// A moment in the future, noted by a clock that was wrong, counts as never.
pub fn next(
    now: Timestamp,
    settings: &ScrubSettings,
    volumes: &[Volume],
    snapshots: &[Snapshot],
) -> Option<Task> {
    restore(now, settings, volumes, snapshots).or_else(|| sample(now, settings, snapshots))
}

fn restore(
    now: Timestamp,
    settings: &ScrubSettings,
    volumes: &[Volume],
    snapshots: &[Snapshot],
) -> Option<Task> {
    let noted: BTreeMap<&VolumeId, Option<Timestamp>> =
        volumes.iter().map(|v| (&v.id, v.last_verified_restore)).collect();
    let mut newest: BTreeMap<&VolumeId, (Timestamp, &Snapshot)> = BTreeMap::new();
    for snapshot in snapshots.iter().filter(|s| is_backup(s)) {
        let verified = noted.get(&snapshot.volume_id).copied().flatten();
        // Of a volume that is gone, the snapshots themselves remember.
        let verified = verified.max(snapshot.last_verified).filter(|at| *at <= now);
        let since = verified.unwrap_or(snapshot.created_at);
        let held = newest.entry(&snapshot.volume_id).or_insert((since, snapshot));
        // Without a test the oldest snapshot says how long there was none; the newest is the one to test.
        held.0 = match verified {
            Some(_) => held.0.max(since),
            None => held.0,
        };
        if held.1.created_at < snapshot.created_at {
            held.1 = snapshot;
        }
    }
    let due = newest
        .into_values()
        .filter(|(since, _)| is_due(now, *since, settings.restore_interval));
    let (_, snapshot) = due.min_by_key(|(since, snapshot)| (*since, snapshot.id.clone()))?;
    Some(Task {
        snapshot: snapshot.id.clone(),
        check: Check::Restore,
    })
}

fn sample(now: Timestamp, settings: &ScrubSettings, snapshots: &[Snapshot]) -> Option<Task> {
    let looked_at = |s: &Snapshot| {
        let newest = s.last_scrubbed.max(s.last_verified);
        newest.filter(|at| *at <= now).unwrap_or(s.created_at)
    };
    let due = snapshots
        .iter()
        .filter(|s| is_backup(s) && is_due(now, looked_at(s), settings.sample_interval));
    let snapshot = due.min_by_key(|s| (looked_at(s), s.id.clone()))?;
    Some(Task {
        snapshot: snapshot.id.clone(),
        check: Check::Sample,
    })
}

/// Says whether there is a backup to look at. What a volume's own disk keeps is read by whoever opens the volume.
pub(crate) fn is_backup(snapshot: &Snapshot) -> bool {
    snapshot.state == SnapshotState::Created && !snapshot.in_disk
}

fn is_due(now: Timestamp, since: Timestamp, interval: Duration) -> bool {
    let Ok(interval) = SignedDuration::try_from(interval) else {
        return false;
    };
    !interval.is_zero() && since.checked_add(interval).is_ok_and(|due| due <= now)
}
