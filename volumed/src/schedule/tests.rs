use super::*;
use crate::lifecycle::tests::volume;

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
    Snapshot {
        id: SnapshotId::parse("vs_0123456789abcdefABCDEF").unwrap(),
        volume_id: volume.id.clone(),
        app: "shop".into(),
        volume_name: "data".into(),
        state,
        scheduled,
        created_at: at(created_at),
        retention_days: 5,
        volume_bytes: 1 << 30,
        stored_bytes: 0,
        digest: String::new(),
        pool: None,
        encrypted: true,
        generation: 1,
        formatted: true,
        fstype: "ext4".into(),
        wrapped_key: volume.wrapped_key.clone(),
        last_verified: None,
    }
}

fn slots(now: &str, volume: &Volume, snapshots: &[Snapshot]) -> Vec<Timestamp> {
    let due = due(at(now), DAY, std::slice::from_ref(volume), snapshots);
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
fn a_clock_that_went_back_makes_nothing_due() {
    let v = Volume {
        scheduled_slot: Some(at("2026-01-05T00:00:00Z")),
        ..created("2026-01-01T00:00:00Z")
    };
    assert_eq!(slots("2026-01-03T00:00:00Z", &v, &[]), []);
    assert_eq!(slots("2025-12-01T00:00:00Z", &v, &[]), []);
}

#[test]
fn a_snapshot_expires_after_its_own_retention() {
    let v = created("2026-01-01T00:00:00Z");
    let s = snapshot(&v, SnapshotState::Created, "2026-01-10T00:00:00Z", true);
    let expires = |now: &str, s: &Snapshot| {
        due(at(now), DAY, &[], std::slice::from_ref(s)).contains(&Due::Expire {
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
        due(at(now), DAY, std::slice::from_ref(v), &[]).contains(&Due::Purge { volume: v.id.clone() })
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
