use super::*;
use crate::random::Random;
use crate::testing::CountingRandom;
use crate::volume::{FsType, Origin, VolumeId};

pub(crate) fn volume(state: VolumeState) -> Volume {
    let random = CountingRandom::default();
    let cluster = crate::keys::ClusterKey::generate(&random);
    let id = VolumeId::generate(&random);
    let key = crate::keys::DataKey::generate(&random);
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut bytes = [0; 1];
    random.fill(&mut bytes);
    Volume {
        wrapped_key: cluster.wrap(id.as_str(), &key, &random),
        id,
        app: "shop".into(),
        name: "data".into(),
        region: "loc".into(),
        zone: "0a01".into(),
        size: SizeGb::new(10).unwrap(),
        extending_to: None,
        state,
        pool: "default".into(),
        encrypted: true,
        fstype: FsType::Ext4,
        formatted: false,
        ever_attached: false,
        snapshot_retention: 5,
        snapshot_counts: crate::retention::Counts::default(),
        auto_backup_enabled: true,
        attached_machine_id: None,
        host_path: None,
        generation: 3,
        usage: None,
        needs_restart: false,
        origin: Origin::Empty,
        created_at: now,
        updated_at: now,
        deleted_at: None,
        purge_after: None,
        last_verified_restore: None,
        scheduled_slot: None,
        auto_extended_from_bytes: None,
        auto_extend_blocked: None,
        snapshot_blocked: None,
        left_at: None,
        failure: None,
    }
}

fn held(machine: &str) -> Volume {
    Volume {
        attached_machine_id: Some(machine.into()),
        ..volume(VolumeState::Created)
    }
}

fn gb(n: u32) -> SizeGb {
    SizeGb::new(n).unwrap()
}

/// What a command comes to: the plan, or the status of the refusal.
fn outcome(volume: &Volume, command: &Command) -> Result<Plan, u16> {
    plan(volume, command).map_err(|refusal| {
        assert!(refusal.sentence.len() > 10, "a sentence: {refusal}");
        refusal.status
    })
}

#[test]
fn every_command_in_every_state_has_its_documented_outcome() {
    use VolumeState as S;
    let attach = Command::Attach {
        machine_id: "m1".into(),
    };
    let extend = Command::Extend {
        to: gb(20),
        max: gb(500),
    };
    // Per state: extend, update, snapshot, fork, destroy, recover, purge, attach, drain.
    let (go, same, cancel) = (Ok(Plan::Go), Ok(Plan::Already), Ok(Plan::CancelCreation));
    let busy = Err(409);
    let (no, gone) = (Err(412), Err(404));
    let table = [
        (S::Creating, [busy, go, busy, busy, cancel, no, busy, busy, busy]),
        (S::Created, [go, go, go, go, go, same, busy, go, go]),
        (S::Extending, [busy, go, busy, busy, busy, no, busy, go, busy]),
        (S::Restoring, [busy, go, busy, busy, cancel, no, busy, busy, busy]),
        (S::Hydrating, [busy, go, busy, busy, cancel, no, busy, busy, busy]),
        (S::Draining, [busy, busy, busy, busy, busy, no, busy, busy, same]),
        (S::SchedulingDestroy, [no, no, no, no, same, busy, busy, no, no]),
        (S::PendingDestroy, [no, no, no, no, same, go, go, no, no]),
        (
            S::Recovering,
            [busy, go, busy, busy, busy, same, busy, busy, busy],
        ),
        (S::Destroying, [no, no, no, no, same, no, same, no, no]),
        (
            S::Destroyed,
            [gone, gone, gone, gone, gone, gone, gone, gone, gone],
        ),
    ];
    assert_eq!(table.len(), S::ALL.len());
    for (state, expected) in table {
        let commands = [
            &extend,
            &Command::Update,
            &Command::Snapshot,
            &Command::Fork,
            &Command::Destroy,
            &Command::Recover,
            &Command::Purge,
            &attach,
            &Command::Drain,
        ];
        for (command, expected) in commands.into_iter().zip(expected) {
            assert_eq!(
                outcome(&volume(state), command),
                expected,
                "{state:?} {command:?}"
            );
        }
    }
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let of = |to, max| {
        outcome(
            &volume(VolumeState::Created),
            &Command::Extend {
                to: gb(to),
                max: gb(max),
            },
        )
    };
    assert_eq!(of(11, 500), Ok(Plan::Go));
    assert_eq!(of(10, 500), Err(422));
    assert_eq!(of(9, 500), Err(422));
    assert_eq!(of(501, 500), Err(422));
    assert_eq!(of(500, 500), Ok(Plan::Go));
}

#[test]
fn one_machine_holds_a_volume_and_may_ask_again() {
    let attach = |machine: &str| Command::Attach {
        machine_id: machine.into(),
    };
    assert_eq!(outcome(&held("m1"), &attach("m1")), Ok(Plan::Already));
    assert_eq!(outcome(&held("m1"), &attach("m2")), Err(412));
    assert_eq!(outcome(&held("m1"), &Command::Destroy), Err(412));
    assert_eq!(outcome(&held("m1"), &Command::Open), Ok(Plan::Go));
    assert_eq!(outcome(&volume(VolumeState::Created), &Command::Open), Err(404));
}

#[test]
fn only_the_holder_in_its_generation_detaches_and_reports() {
    for (machine, generation, allowed) in [
        ("m1", 3, true),
        ("m1", 2, false),
        ("m1", 4, false),
        ("m2", 3, false),
    ] {
        let machine_id = machine.to_owned();
        let detach = Command::Detach {
            machine_id: machine_id.clone(),
            generation,
        };
        let report = Command::Report {
            machine_id,
            generation,
        };
        let expected = if allowed { Ok(Plan::Go) } else { Err(409) };
        assert_eq!(outcome(&held("m1"), &detach), expected, "{machine} {generation}");
        assert_eq!(outcome(&held("m1"), &report), expected, "{machine} {generation}");
    }
}

#[test]
fn a_second_detach_is_answered_and_a_detach_from_the_future_is_not() {
    let free = volume(VolumeState::Created);
    let detach = |generation| Command::Detach {
        machine_id: "m1".into(),
        generation,
    };
    assert_eq!(outcome(&free, &detach(3)), Ok(Plan::Already));
    assert_eq!(outcome(&free, &detach(4)), Err(409));
    assert_eq!(
        outcome(
            &free,
            &Command::Report {
                machine_id: "m1".into(),
                generation: 3
            }
        ),
        Err(409)
    );
}

#[test]
fn a_volume_that_was_never_created_says_why() {
    let failed = Volume {
        failure: Some("no room".into()),
        ..volume(VolumeState::Destroyed)
    };
    assert!(
        plan(&failed, &Command::Update)
            .unwrap_err()
            .sentence
            .contains("no room")
    );
}
