use super::*;
use crate::{Epoch, ObjectFacts};

const LIMITS: GcLimits = GcLimits {
    garbage_permille: 200,
    live_permille_max: 600,
    blocks_max: 1000,
};

fn objects(rows: &[(Role, u64, u64, u64)]) -> Objects {
    let mut objects = Objects::default();
    for (seq, (role, blocks, live, dead)) in (1..).zip(rows) {
        objects.add(
            ObjectSeq(seq),
            ObjectFacts {
                role: *role,
                epoch: Epoch(1),
                bytes: 1,
                blocks: *blocks,
                live: *live,
                born: 1,
                dead: *dead,
            },
        );
    }
    objects
}

fn victims(rows: &[(Role, u64, u64, u64)]) -> Vec<u64> {
    choose_victims(&objects(rows), LIMITS)
        .iter()
        .map(|seq| seq.0)
        .collect()
}

#[test]
fn the_least_alive_go_first_up_to_one_object_full() {
    let rows = [
        (Role::Data, 1000, 590, 0),
        (Role::Gc, 1000, 100, 0),
        (Role::Data, 1000, 900, 0),
        (Role::Data, 1000, 400, 0),
    ];
    assert_eq!(victims(&rows), [2, 4]);
}

#[test]
fn one_that_alone_is_over_the_limit_is_rewritten_all_the_same() {
    assert_eq!(
        victims(&[(Role::Data, 5000, 2000, 0), (Role::Data, 10, 6, 0)]),
        [1]
    );
}

#[test]
fn little_garbage_is_left_alone() {
    let rows = [
        (Role::Data, 1000, 1000, 0),
        (Role::Data, 1000, 610, 0),
        (Role::Data, 10, 1, 0),
    ];
    assert_eq!(victims(&rows), [0; 0]);
}

#[test]
fn what_is_dead_and_what_is_a_checkpoint_is_never_rewritten() {
    let rows = [
        (Role::Data, 1000, 0, 0),
        (Role::Data, 1000, 0, 7),
        (Role::Checkpoint, 1000, 1, 0),
        (Role::Data, 100, 50, 0),
    ];
    assert_eq!(victims(&rows), [4]);
}

#[test]
fn a_checkpoint_is_worth_taking_for_what_died_since_the_last_one() {
    let due = |rows| is_burial_due(&objects(rows), LIMITS);
    assert!(due(&[(Role::Data, 1000, 1000, 0), (Role::Data, 300, 0, 0)]));
    assert!(!due(&[(Role::Data, 1000, 1000, 0), (Role::Data, 200, 0, 0)]));
    assert!(!due(&[(Role::Data, 1000, 1000, 0), (Role::Data, 300, 0, 4)]));
    assert!(!due(&[]));
}
