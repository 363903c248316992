use serde_json::json;

use super::*;
use crate::record::OperationId;

const STEPS: &[StepSpec] = &[
    StepSpec::new("reserve"),
    StepSpec::pivot("grow"),
    StepSpec::new("announce"),
];
const SOFT: &[StepSpec] = &[StepSpec::new("a"), StepSpec::new("b"), StepSpec::new("c")];

fn record() -> Record {
    Record::new(OperationId::new("op1"), "vol_1", "extend", 1, json!({}))
}

fn abort(why: &str) -> Report {
    Report::Abort {
        fault: Fault::User,
        why: why.into(),
    }
}

#[test]
fn steps_run_in_order_and_the_last_one_ends_the_operation() {
    let mut r = record();
    for s in STEPS {
        assert_eq!(next(&r, STEPS), Next::Run(s.name));
        assert_eq!(
            apply(&mut r, STEPS, Report::Done(json!({ s.name: 1 }))),
            Then::Continue
        );
    }
    assert_eq!(next(&r, STEPS), Next::End);
    assert_eq!(r.status, Status::Done);
    assert_eq!(r.state, json!({"reserve": 1, "grow": 1, "announce": 1}));
}

#[test]
fn an_abort_undoes_the_aborting_step_and_all_before_it() {
    let mut r = record();
    apply(&mut r, SOFT, Report::Done(Value::Null));
    apply(&mut r, SOFT, abort("full"));
    assert_eq!(next(&r, SOFT), Next::Undo("b"));
    apply(&mut r, SOFT, Report::Undone);
    assert_eq!(next(&r, SOFT), Next::Undo("a"));
    apply(&mut r, SOFT, Report::Undone);
    assert_eq!(next(&r, SOFT), Next::End);
    assert_eq!(
        r.status,
        Status::Aborted {
            fault: Fault::User,
            why: "full".into()
        }
    );
}

#[test]
fn an_abort_in_the_last_step_undoes_every_step() {
    let mut r = record();
    for _ in 0..2 {
        apply(&mut r, SOFT, Report::Done(Value::Null));
    }
    apply(&mut r, SOFT, abort("late"));
    assert_eq!(next(&r, SOFT), Next::Undo("c"));
}

#[test]
fn an_abort_after_the_pivot_becomes_a_retry() {
    let mut r = record();
    apply(&mut r, STEPS, Report::Done(Value::Null));
    apply(&mut r, STEPS, Report::Done(Value::Null));
    assert_eq!(apply(&mut r, STEPS, abort("gone")), Then::Wait(None));
    assert_eq!(next(&r, STEPS), Next::Run("announce"));
    assert_eq!((r.attempts, r.last_error.as_deref()), (1, Some("gone")));
}

#[test]
fn an_abort_of_the_pivot_step_itself_is_still_undone() {
    let mut r = record();
    apply(&mut r, STEPS, Report::Done(Value::Null));
    apply(&mut r, STEPS, abort("no room"));
    assert_eq!(next(&r, STEPS), Next::Undo("grow"));
}

#[test]
fn a_retry_keeps_the_step_and_counts_and_success_forgets_the_count() {
    let mut r = record();
    let later = Duration::from_secs(3);
    let report = Report::Retry {
        after: Some(later),
        why: "busy".into(),
    };
    assert_eq!(apply(&mut r, STEPS, report), Then::Wait(Some(later)));
    assert_eq!((r.next, r.attempts), (0, 1));
    apply(&mut r, STEPS, Report::Done(Value::Null));
    assert_eq!((r.next, r.attempts, r.last_error), (1, 0, None));
}

#[test]
fn a_patch_merges_by_key_and_null_removes() {
    let mut r = record();
    apply(&mut r, STEPS, Report::Done(json!({"a": 1, "b": 2})));
    apply(&mut r, STEPS, Report::Done(json!({"a": null, "c": 3})));
    assert_eq!(r.state, json!({"b": 2, "c": 3}));
}

#[test]
fn a_handoff_ends_without_undo() {
    let mut r = record();
    apply(&mut r, STEPS, Report::Handoff { to: "destroy".into() });
    assert_eq!(next(&r, STEPS), Next::End);
    assert!(r.status.ended());
}
