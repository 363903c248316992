use proptest::prelude::*;

use super::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, Ended, History, Mode, Policy, Verdict, WINDOW_MS};

fn policy(mode: Mode, retries_max: u32) -> Policy {
    Policy { mode, retries_max }
}

fn failed_at(at_ms: i64) -> Ended {
    Ended {
        success: false,
        requested: false,
        lasting: false,
        ran_ms: 10,
        at_ms,
    }
}

#[test]
fn the_policy_table_holds() {
    use Mode::{Always, No, OnFailure};
    for (mode, success, requested, restarts) in [
        (No, true, false, false),
        (No, false, false, false),
        (OnFailure, true, false, false),
        (OnFailure, false, false, true),
        (OnFailure, false, true, false),
        (Always, true, false, true),
        (Always, false, false, true),
        (Always, true, true, false),
    ] {
        let verdict = History::default().ended(
            policy(mode, 10),
            Ended {
                success,
                requested,
                lasting: false,
                ran_ms: 5,
                at_ms: 1_000_000,
            },
        );
        assert_eq!(
            matches!(verdict, Verdict::RestartAt(_)),
            restarts,
            "{mode:?} {success} {requested}"
        );
    }
}

#[test]
fn on_failure_gives_up_after_its_tries_and_forgets_them_after_the_window() {
    let mut history = History::default();
    let three = policy(Mode::OnFailure, 3);
    let mut now = 0;
    for _ in 0..3 {
        let Verdict::RestartAt(at) = history.ended(three, failed_at(now)) else {
            panic!("gave up at {now}")
        };
        now = at + 10;
    }
    assert_eq!(history.ended(three, failed_at(now)), Verdict::GaveUp);
    assert!(matches!(
        history.ended(three, failed_at(now + WINDOW_MS)),
        Verdict::RestartAt(_)
    ));
}

#[test]
fn a_machine_that_always_fails_at_once_is_given_up_although_its_pauses_grow() {
    let (mut history, mut now, mut starts) = (History::default(), 0, 1);
    let ten = policy(Mode::OnFailure, 10);
    // A boot by emulation takes seconds.
    while let Verdict::RestartAt(at) = history.ended(ten, failed_at(now + 8_000)) {
        now = at;
        starts += 1;
        assert!(starts <= 11, "started {starts} times");
    }
    assert_eq!(starts, 11);
}

#[test]
fn what_would_end_the_same_way_is_not_started_again() {
    for mode in [Mode::OnFailure, Mode::Always] {
        let ended = Ended {
            lasting: true,
            ..failed_at(0)
        };
        assert_eq!(
            History::default().ended(policy(mode, 10), ended),
            Verdict::Stay,
            "{mode:?}"
        );
    }
}

#[test]
fn pauses_double_up_to_the_limit_and_a_stable_run_resets_them() {
    let mut history = History::default();
    let always = policy(Mode::Always, 0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let Verdict::RestartAt(at) = history.ended(always, failed_at(0)) else {
            panic!("no restart")
        };
        pauses.push(at);
    }
    assert_eq!(
        pauses,
        [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    );
    let stable = Ended {
        ran_ms: 61_000,
        ..failed_at(0)
    };
    assert_eq!(history.ended(always, stable), Verdict::RestartAt(BACKOFF_MS_MIN));
}

proptest! {
    #[test]
    fn prop_on_failure_never_restarts_more_than_its_tries_in_any_window(
        gaps in proptest::collection::vec(0_i64..120_000, 1..200),
        retries_max in 0_u32..12,
    ) {
        let mut history = History::default();
        let mut now = 0;
        let mut restarts: Vec<i64> = Vec::new();
        for gap in gaps {
            now += gap;
            if let Verdict::RestartAt(at) = history.ended(policy(Mode::OnFailure, retries_max), failed_at(now)) {
                prop_assert!(at >= now + BACKOFF_MS_MIN && at <= now + BACKOFF_MS_MAX);
                restarts.push(now);
            }
        }
        for first in &restarts {
            let inside = restarts.iter().filter(|at| (*first..*first + WINDOW_MS).contains(*at)).count();
            prop_assert!(inside <= retries_max as usize);
        }
    }

    #[test]
    fn prop_always_never_gives_up(ends in proptest::collection::vec((any::<bool>(), 0_i64..200_000), 1..300)) {
        let mut history = History::default();
        let mut now = 0;
        for (success, ran_ms) in ends {
            now += ran_ms;
            let verdict = history.ended(policy(Mode::Always, 0), Ended { success, requested: false, lasting: false, ran_ms, at_ms: now });
            prop_assert!(matches!(verdict, Verdict::RestartAt(_)));
        }
    }
}
