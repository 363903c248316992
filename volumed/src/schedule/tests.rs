use proptest::prelude::*;

use super::*;
use crate::lifecycle::tests::volume;
use crate::snapshot::SnapshotState;

const DAY: Duration = Duration::from_secs(86_400);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn created(at_text: &str) -> Volume {
    Volume {
        created_at: at(at_text),
        ..volume(VolumeState::Created)
    }
}

fn snapshot(volume: &Volume, state: SnapshotState, created_at: &str, scheduled: bool) -> Snapshot {
    snapshot_of(volume, state, at(created_at), scheduled)
}

pub(crate) fn snapshot_of(
    volume: &Volume,
    state: SnapshotState,
    created_at: Timestamp,
    scheduled: bool,
) -> Snapshot {
    Snapshot {
        id: SnapshotId::parse("vs_0123456789abcdefABCDEF").unwrap(),
        volume_id: volume.id.clone(),
        app: "shop".into(),
        volume_name: "data".into(),
        state,
        scheduled,
        created_at,
        retention_days: 5,
        volume_bytes: 1 << 30,
        stored_bytes: 0,
        digest: String::new(),
        pool: None,
        in_disk: false,
        encrypted: true,
        generation: 1,
        formatted: true,
        fstype: "ext4".into(),
        wrapped_key: volume.wrapped_key.clone(),
        last_verified: None,
        last_scrubbed: None,
        damage: None,
        damaged_since: None,
    }
}

fn slots(now: &str, volume: &Volume, snapshots: &[Snapshot]) -> Vec<Timestamp> {
    let due = due(
        at(now),
        DAY,
        Removal::Waits,
        std::slice::from_ref(volume),
        snapshots,
    );
    due.into_iter()
        .filter_map(|d| {
            if let Due::Snapshot { slot, .. } = d {
                Some(slot)
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn a_snapshot_is_due_a_day_after_creation_and_not_before() {
    let v = created("2026-01-01T00:00:00Z");
    assert_eq!(slots("2026-01-01T23:59:59Z", &v, &[]), []);
    assert_eq!(
        slots("2026-01-02T00:00:00Z", &v, &[]),
        [at("2026-01-02T00:00:00Z")]
    );
}

#[test]
fn missed_slots_are_made_up_once() {
    let v = created("2026-01-01T00:00:00Z");
    let now = "2026-01-09T10:00:00Z";
    let slot = at("2026-01-09T00:00:00Z");
    assert_eq!(slots(now, &v, &[]), [slot]);
    let served = Volume {
        scheduled_slot: Some(slot),
        ..v
    };
    assert_eq!(slots(now, &served, &[]), []);
    assert_eq!(
        slots("2026-01-10T00:00:00Z", &served, &[]),
        [at("2026-01-10T00:00:00Z")]
    );
}

#[test]
fn two_scheduled_snapshots_of_a_volume_never_overlap() {
    let v = created("2026-01-01T00:00:00Z");
    let now = "2026-01-03T00:00:00Z";
    for (state, scheduled, expected) in [
        (SnapshotState::Waiting, true, 0),
        (SnapshotState::Running, true, 0),
        (SnapshotState::Created, true, 1),
        (SnapshotState::Running, false, 1),
    ] {
        let other = snapshot(&v, state, "2026-01-02T00:00:00Z", scheduled);
        assert_eq!(
            slots(now, &v, &[other]).len(),
            expected,
            "{state:?} scheduled {scheduled}"
        );
    }
}

#[test]
fn only_ready_volumes_that_want_it_are_snapshotted() {
    let v = created("2026-01-01T00:00:00Z");
    let now = "2026-02-01T00:00:00Z";
    assert_eq!(
        slots(
            now,
            &Volume {
                auto_backup_enabled: false,
                ..v.clone()
            },
            &[]
        ),
        []
    );
    for state in VolumeState::ALL {
        let expected = usize::from(state == VolumeState::Created);
        assert_eq!(
            slots(now, &Volume { state, ..v.clone() }, &[]).len(),
            expected,
            "{state:?}"
        );
    }
}

#[test]
fn a_clock_that_went_back_a_little_waits_and_one_that_went_back_far_goes_on() {
    let v = Volume {
        scheduled_slot: Some(at("2026-01-05T00:00:00Z")),
        ..created("2026-01-01T00:00:00Z")
    };
    assert_eq!(slots("2026-01-04T00:00:00Z", &v, &[]), []);
    let slot = at("2026-01-03T00:00:00Z");
    assert_eq!(slots("2026-01-03T10:00:00Z", &v, &[]), [slot]);
    // Even behind the volume's creation; and then once a slot, as ever.
    let slot = at("2025-12-01T00:00:00Z");
    assert_eq!(slots("2025-12-01T00:00:00Z", &v, &[]), [slot]);
    let served = Volume {
        scheduled_slot: Some(slot),
        ..v
    };
    assert_eq!(slots("2025-12-01T23:59:59Z", &served, &[]), []);
    assert_eq!(slots("2025-12-02T00:00:00Z", &served, &[]).len(), 1);
}

#[test]
fn hourly_counts_make_the_schedule_hourly() {
    let v = Volume {
        snapshot_counts: retention::Counts {
            hourly: 1,
            ..retention::Counts::default()
        },
        ..created("2026-01-01T00:20:00Z")
    };
    assert_eq!(slots("2026-01-01T01:19:59Z", &v, &[]), []);
    assert_eq!(
        slots("2026-01-01T05:40:00Z", &v, &[]),
        [at("2026-01-01T05:20:00Z")]
    );
}

#[test]
fn nothing_is_removed_on_the_word_of_a_clock_that_is_not_believed() {
    let gone = Volume {
        purge_after: Some(at("2026-01-02T00:00:00Z")),
        ..volume(VolumeState::PendingDestroy)
    };
    let old = snapshot(&gone, SnapshotState::Created, "2026-01-01T00:00:00Z", true);
    let due = |removal| {
        due(
            at("2036-01-01T00:00:00Z"),
            DAY,
            removal,
            std::slice::from_ref(&gone),
            std::slice::from_ref(&old),
        )
        .len()
    };
    assert_eq!((due(Removal::Waits), due(Removal::Due)), (0, 2));
}

proptest! {
    /// A host whose clock is set forwards and backwards while it takes snapshots that take their time.
    #[test]
    fn prop_runs_come_once_never_overlap_and_never_stay_away(
        steps in proptest::collection::vec((1_u64..200, prop_oneof![
            12 => Just(0_i64), 1 => -90_000_i64..90_000, 1 => -60_000_000_i64..60_000_000
        ], 1_u64..100), 1..120),
    ) {
        let mut v = created("2026-01-01T00:00:00Z");
        let (mut wall, mut minutes) = (v.created_at, 0_u64);
        let mut running: Option<(Snapshot, u64)> = None;
        let (mut runs, mut jumps, mut quiet_since) = (0_u64, 0_u64, 0_u64);
        for (pass, jump_minutes, takes) in steps {
            minutes += pass;
            wall += SignedDuration::from_mins(i64::try_from(pass).unwrap() + jump_minutes);
            if jump_minutes != 0 {
                jumps += 1;
                quiet_since = minutes;
            }
            running = running.filter(|(_, until)| *until > minutes);
            let unfinished: Vec<Snapshot> = running.iter().map(|(s, _)| s.clone()).collect();
            let found = due(wall, DAY, Removal::Waits, std::slice::from_ref(&v), &unfinished);
            prop_assert!(found.len() <= 1, "one for all that was missed: {found:?}");
            if let Some(Due::Snapshot { slot, .. }) = found.first() {
                prop_assert!(running.is_none(), "two at once");
                prop_assert!(*slot <= wall);
                v.scheduled_slot = Some(*slot);
                let taken = snapshot_of(&v, SnapshotState::Running, wall, true);
                running = Some((taken, minutes + takes));
                (runs, quiet_since) = (runs + 1, minutes);
            }
            // Two days, the longest step, and the longest run in the way.
            prop_assert!(minutes - quiet_since <= 2 * 1440 + 200 + 100, "no run for {} minutes", minutes - quiet_since);
        }
        // After each jump one run at once, and one more as soon as the next slot comes.
        prop_assert!(runs <= minutes / 1440 + 2 * jumps + 1, "{runs} runs in {minutes} minutes with {jumps} jumps");
    }
}

#[test]
fn a_snapshot_expires_after_its_own_retention() {
    let v = created("2026-01-01T00:00:00Z");
    let s = snapshot(&v, SnapshotState::Created, "2026-01-10T00:00:00Z", true);
    let expires = |now: &str, s: &Snapshot| {
        due(at(now), DAY, Removal::Due, &[], std::slice::from_ref(s)).contains(&Due::Expire {
            snapshot: s.id.clone(),
        })
    };
    assert!(!expires("2026-01-14T23:59:59Z", &s));
    assert!(expires("2026-01-15T00:00:00Z", &s));
    assert!(!expires(
        "2026-01-15T00:00:00Z",
        &Snapshot {
            retention_days: 60,
            ..s.clone()
        }
    ));
    assert!(!expires(
        "2026-03-15T00:00:00Z",
        &Snapshot {
            state: SnapshotState::Running,
            ..s
        }
    ));
}

#[test]
fn a_deleted_volume_is_purged_after_its_grace() {
    let v = Volume {
        purge_after: Some(at("2026-01-02T00:00:00Z")),
        ..volume(VolumeState::PendingDestroy)
    };
    let purges = |now: &str, v: &Volume| {
        let all = std::slice::from_ref(v);
        due(at(now), DAY, Removal::Due, all, &[]).contains(&Due::Purge { volume: v.id.clone() })
    };
    assert!(!purges("2026-01-01T23:59:59Z", &v));
    assert!(purges("2026-01-02T00:00:00Z", &v));
    assert!(!purges(
        "2026-01-02T00:00:00Z",
        &Volume {
            state: VolumeState::Created,
            ..v
        }
    ));
}
