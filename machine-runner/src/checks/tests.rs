use std::time::Duration;

use proptest::prelude::*;

use super::{CheckKind, CheckSpec, CheckState, Schedule, Tried, cut_output};

fn spec(name: &str, interval_s: u64, grace_s: u64) -> CheckSpec {
    CheckSpec {
        name: name.to_owned(),
        kind: CheckKind::Tcp,
        port: 80,
        interval: Duration::from_secs(interval_s),
        timeout: Duration::from_secs(2),
        grace: Duration::from_secs(grace_s),
    }
}

fn result(success: bool) -> Tried {
    Tried {
        success,
        output: String::new(),
    }
}

#[test]
fn failures_within_the_grace_period_only_warn() {
    let mut schedule = Schedule::new(&[spec("a", 15, 10)], 0);
    assert_eq!(schedule.take_due(0).len(), 1);
    assert_eq!(
        schedule.tried("a", &result(false), 5_000),
        Some((CheckState::Warning, false))
    );
    assert_eq!(schedule.next_due_ms(), Some(6_000));
    schedule.take_due(11_000);
    assert_eq!(
        schedule.tried("a", &result(false), 11_000),
        Some((CheckState::Critical, true))
    );
    assert_eq!(schedule.next_due_ms(), Some(26_000));
}

#[test]
fn a_check_that_passed_gets_no_second_grace() {
    let mut schedule = Schedule::new(&[spec("a", 1, 60)], 0);
    schedule.take_due(0);
    assert_eq!(
        schedule.tried("a", &result(true), 10),
        Some((CheckState::Passing, true))
    );
    schedule.take_due(2_000);
    assert_eq!(
        schedule.tried("a", &result(false), 2_000),
        Some((CheckState::Critical, true))
    );
}

#[test]
fn a_running_check_is_not_taken_twice() {
    let mut schedule = Schedule::new(&[spec("a", 1, 0), spec("b", 1, 0)], 0);
    assert_eq!(schedule.take_due(0).len(), 2);
    assert!(schedule.take_due(50_000).is_empty());
    assert_eq!(schedule.next_due_ms(), None);
    assert_eq!(schedule.tried("nobody", &result(true), 0), None);
}

#[test]
fn output_is_cut_at_a_character() {
    assert_eq!(cut_output(&"é".repeat(1_000)).len(), 1024);
    assert_eq!(cut_output(&format!("a{}", "é".repeat(1_000))).len(), 1023);
}

proptest! {
    #[test]
    fn prop_tries_of_a_passing_check_keep_their_interval(times in proptest::collection::vec(0_i64..5_000, 1..60)) {
        let mut schedule = Schedule::new(&[spec("a", 10, 0)], 0);
        let mut now = 0;
        let mut last = None;
        for step in times {
            now += step;
            if !schedule.take_due(now).is_empty() {
                if let Some(last) = last {
                    prop_assert!(now - last >= 10_000);
                }
                schedule.tried("a", &result(true), now);
                last = Some(now);
            }
        }
    }
}
