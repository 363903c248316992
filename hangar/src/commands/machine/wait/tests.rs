use super::*;

#[test]
fn durations_are_read_with_and_without_units() {
    for (text, seconds) in [("20s", 20), ("5m", 300), ("1h", 3600), ("90", 90)] {
        assert_eq!(duration(text).unwrap().as_secs(), seconds);
    }
    for text in ["", "s", "-1s", "1d", "99999999999h", "1.5s"] {
        assert!(duration(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_start_that_failed_is_refused_with_its_reason_and_a_workload_that_ended_is_not() {
    let machine = |state: &str, cause: &str| {
        let exit = json!({"cause": cause, "error": "workload: /nosuch: not found"});
        json!({"id": "m1", "state": state, "events": [{"type": "exit", "request": {"exit_event": exit}}]})
    };
    for state in ["failed", "restarting", "destroyed"] {
        let refused = refuse_failed(&machine(state, "not_started"))
            .unwrap_err()
            .to_string();
        assert!(refused.contains("/nosuch: not found"), "{state}: {refused}");
    }
    assert!(refuse_failed(&machine("stopped", "exited")).is_ok());
    // Its newest exit is that of an earlier run.
    assert!(refuse_failed(&machine("started", "not_started")).is_ok());
    assert!(refuse_failed(&json!({"id": "m1", "state": "failed"})).is_err());
}
