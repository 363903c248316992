use jiff::SignedDuration;

use super::*;

const SETTLE: Duration = Duration::from_secs(600);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Looks after each of `steps`, (seconds that pass, seconds that the wall clock jumps on top); returns the last verdict.
fn last(settle: Duration, steps: &[(u64, i64)]) -> bool {
    let mut watch = ClockWatch::new(settle);
    let (mut wall, mut machine) = ("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap(), s(1000));
    let mut believed = watch.look(wall, machine);
    for (pass, jump) in steps {
        machine += s(*pass);
        wall += SignedDuration::from_secs(i64::try_from(*pass).unwrap() + jump);
        believed = watch.look(wall, machine);
    }
    believed
}

#[test]
fn a_clock_is_believed_once_it_was_steady() {
    assert!(!last(SETTLE, &[]));
    assert!(!last(SETTLE, &[(30, 0), (500, 0)]));
    assert!(last(SETTLE, &[(30, 0), (500, 0), (70, 0)]));
}

#[test]
fn a_jump_forwards_or_backwards_begins_the_wait_anew() {
    for jump in [100_000_000, 120, -120, -100_000_000] {
        assert!(!last(SETTLE, &[(600, 0), (30, jump)]), "{jump}");
        assert!(!last(SETTLE, &[(600, 0), (30, jump), (599, 0)]), "{jump}");
        assert!(last(SETTLE, &[(600, 0), (30, jump), (599, 0), (1, 0)]), "{jump}");
    }
}

#[test]
fn slewing_is_no_jump() {
    assert!(last(SETTLE, &[(600, 0), (30, 20), (30, -20)]));
}

#[test]
fn without_a_wait_every_clock_is_believed() {
    assert!(last(Duration::ZERO, &[(30, 1 << 30)]));
}
