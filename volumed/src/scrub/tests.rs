use bytes::Bytes;

use super::*;
use crate::bulk::ImageSink as _;
use crate::lifecycle::tests::volume;
use crate::schedule::tests::snapshot_of;
use crate::volume::VolumeState;

fn now() -> Timestamp {
    "2026-06-10T12:00:00Z".parse().unwrap()
}

fn ago(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

fn snapshot(index: u32, hours: i64) -> Snapshot {
    Snapshot {
        id: SnapshotId::parse(&format!("vs_{index:022}")).unwrap(),
        ..snapshot_of(
            &volume(VolumeState::Created),
            SnapshotState::Created,
            ago(hours),
            true,
        )
    }
}

fn due(volumes: &[Volume], snapshots: &[Snapshot]) -> Option<(u32, Check)> {
    let task = next(now(), &ScrubSettings::default(), volumes, snapshots)?;
    let index = snapshots.iter().position(|s| s.id == task.snapshot).unwrap();
    Some((u32::try_from(index).unwrap(), task.check))
}

#[test]
fn every_snapshot_is_sampled_in_its_turn() {
    let mut all = [snapshot(0, 30), snapshot(1, 40), snapshot(2, 20)];
    assert_eq!(due(&[], &all), Some((1, Check::Sample)));
    all[1].last_scrubbed = Some(ago(1));
    assert_eq!(due(&[], &all), Some((0, Check::Sample)));
    all[0].last_verified = Some(ago(23));
    assert_eq!(due(&[], &all), None);
    all[0].last_verified = Some(ago(24));
    assert_eq!(due(&[], &all), Some((0, Check::Sample)));
}

#[test]
fn a_volumes_newest_snapshot_is_test_restored_once_a_week() {
    let v = volume(VolumeState::Created);
    let all = [snapshot(0, 24 * 7), snapshot(1, 1), snapshot(2, 100)];
    assert_eq!(due(std::slice::from_ref(&v), &all), Some((1, Check::Restore)));
    let tested = |hours| Volume {
        last_verified_restore: Some(ago(hours)),
        ..v.clone()
    };
    assert_eq!(due(&[tested(24 * 7)], &all), Some((1, Check::Restore)));
    assert_ne!(due(&[tested(24 * 7 - 1)], &all).unwrap().1, Check::Restore);
}

#[test]
fn snapshots_of_a_volume_that_is_gone_remember_their_tests() {
    let mut all = [snapshot(0, 24 * 9), snapshot(1, 24 * 8)];
    assert_eq!(due(&[], &all), Some((1, Check::Restore)));
    all[1].last_verified = Some(ago(30));
    assert_eq!(due(&[], &all), Some((0, Check::Sample)));
}

#[test]
fn a_moment_in_the_future_counts_as_never() {
    let mut all = [snapshot(0, 24 * 9)];
    all[0].last_verified = Some(ago(-1000));
    assert_eq!(due(&[], &all), Some((0, Check::Restore)));
    let off = ScrubSettings {
        restore_interval: Duration::ZERO,
        sample_interval: Duration::ZERO,
        ..ScrubSettings::default()
    };
    assert_eq!(next(now(), &off, &[], &all), None);
}

#[test]
fn unfinished_snapshots_are_left_alone() {
    let mut all = [snapshot(0, 1000)];
    all[0].state = SnapshotState::Running;
    assert_eq!(due(&[], &all), None);
}

#[tokio::test(start_paused = true)]
async fn a_test_restore_goes_nowhere_at_its_pace() {
    let nowhere = Nowhere::new(10 << 20, 1 << 20);
    let began = tokio::time::Instant::now();
    let write = |offset| nowhere.write_at(offset, Bytes::from(vec![1; 4 << 20]));
    let (one, two) = tokio::join!(write(0), write(4 << 20));
    one.unwrap();
    two.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(8));
    assert!(write(8 << 20).await.is_err());
    nowhere.zero(8 << 20, 2 << 20).await.unwrap();
}
