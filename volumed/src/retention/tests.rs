use proptest::prelude::*;

use super::*;
use crate::lifecycle::tests::volume;
use crate::schedule::tests::snapshot_of;

const NOW: &str = "2026-06-10T12:30:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn keeping(hourly: u32, daily: u32, weekly: u32) -> Volume {
    Volume {
        snapshot_counts: Counts {
            hourly,
            daily,
            weekly,
        },
        ..volume(VolumeState::Created)
    }
}

/// Makes scheduled snapshots so many hours old, named after their place.
fn aged(volume: &Volume, hours: &[i64]) -> Vec<Snapshot> {
    let one = |(index, hours): (usize, &i64)| {
        let created_at = now() - SignedDuration::from_hours(*hours);
        Snapshot {
            id: SnapshotId::parse(&format!("vs_{index:022}")).unwrap(),
            ..snapshot_of(volume, SnapshotState::Created, created_at, true)
        }
    };
    hours.iter().enumerate().map(one).collect()
}

/// Returns the ages of those that stay.
fn stays(volume: &Volume, hours: &[i64]) -> Vec<i64> {
    let snapshots = aged(volume, hours);
    let gone = expired(now(), Some(volume), &snapshots.iter().collect::<Vec<_>>());
    let stays = |(s, _): &(&Snapshot, &i64)| !gone.contains(&s.id);
    snapshots
        .iter()
        .zip(hours)
        .filter(stays)
        .map(|(_, h)| *h)
        .collect()
}

#[test]
fn without_counts_the_days_decide_alone() {
    let v = keeping(0, 0, 0);
    assert_eq!(stays(&v, &[0, 1, 2, 100, 119, 120, 121]), [0, 1, 2, 100, 119]);
}

#[test]
fn hourly_counts_thin_out_what_the_days_would_keep() {
    let hours: Vec<i64> = (0..200).collect();
    // Three of the newest hours, and of each day whose five days are not over the newest.
    assert_eq!(stays(&keeping(3, 0, 0), &hours), [0, 1, 2, 13, 37, 61, 85, 109]);
}

#[test]
fn daily_and_weekly_counts_keep_beyond_the_days() {
    let days: Vec<i64> = (0..60).map(|d| 24 * d).collect();
    assert_eq!(stays(&keeping(0, 7, 0), &days), [0, 24, 48, 72, 96, 120, 144]);
    // NOW is a Wednesday: the newest of this week, then three Sundays.
    assert_eq!(
        stays(&keeping(0, 0, 4), &days),
        [0, 24, 48, 72, 96, 24 * 10, 24 * 17]
    );
}

#[test]
fn a_period_without_a_snapshot_takes_no_place() {
    assert_eq!(
        stays(&keeping(0, 3, 0), &[24 * 30, 24 * 40, 24 * 50, 24 * 60]).len(),
        3
    );
}

#[test]
fn what_was_taken_by_hand_is_kept_for_its_days_and_no_longer() {
    let v = keeping(1, 1, 1);
    let mut by_hand = aged(&v, &[30, 31, 200]);
    by_hand.iter_mut().for_each(|s| s.scheduled = false);
    let gone = expired(now(), Some(&v), &by_hand.iter().collect::<Vec<_>>());
    assert_eq!(gone, [by_hand[2].id.clone()]);
}

#[test]
fn a_destroyed_volumes_counts_hold_for_its_days() {
    let deleted = |hours| Volume {
        deleted_at: Some(now() - SignedDuration::from_hours(hours)),
        state: VolumeState::Destroyed,
        ..keeping(0, 0, 4)
    };
    assert_eq!(stays(&deleted(119), &[200, 400]), [200, 400]);
    assert!(stays(&deleted(120), &[200, 400]).is_empty());
}

#[test]
fn snapshots_from_the_future_stay_and_take_no_place() {
    assert_eq!(
        stays(&keeping(0, 2, 0), &[-1000, -2000, 24 * 30, 24 * 40]).len(),
        4
    );
}

proptest! {
    #[test]
    fn prop_the_newest_always_stays_and_counts_are_honoured(
        hours in proptest::collection::vec(-50_i64..3_000, 1..60),
        hourly in 0_u32..5, daily in 0_u32..5, weekly in 0_u32..5,
    ) {
        let v = keeping(hourly, daily, weekly);
        let kept = stays(&v, &hours);
        let past = |all: &[i64]| all.iter().copied().filter(|h| *h >= 0).collect::<Vec<_>>();
        if v.snapshot_counts.any() && !past(&hours).is_empty() {
            prop_assert!(kept.contains(past(&hours).iter().min().unwrap()));
        }
        let days = |all: &[i64]| {
            let mut days: Vec<i64> =
                past(all).iter().map(|h| (now().as_second() - h * HOUR_S).div_euclid(DAY_S)).collect();
            days.sort_unstable();
            days.dedup();
            days.len()
        };
        // Of as many days as were asked for there is one, if there ever was; and nothing of five days is without its day.
        prop_assert!(days(&kept) >= days(&hours).min(daily as usize));
        let fresh = |all: &[i64]| days(&all.iter().copied().filter(|h| *h < 120).collect::<Vec<_>>());
        prop_assert_eq!(fresh(&kept), fresh(&hours));
    }

    #[test]
    fn prop_what_is_over_stays_over_while_the_clock_goes_on(
        hours in proptest::collection::vec(0_i64..3_000, 1..40), later in 0_i64..3_000, weekly in 0_u32..5,
    ) {
        let v = keeping(2, 2, weekly);
        let snapshots = aged(&v, &hours);
        let all: Vec<&Snapshot> = snapshots.iter().collect();
        let (early, late) = (
            expired(now(), Some(&v), &all),
            expired(now() + SignedDuration::from_hours(later), Some(&v), &all),
        );
        prop_assert!(early.iter().all(|id| late.contains(id)));
    }
}
