use super::*;

fn report(cause: ExitCause, message: Option<&str>) -> ExitReport {
    ExitReport {
        cause,
        guest_exit_code: Some(127),
        guest_signal: None,
        oom_killed: false,
        requested_stop: false,
        message: message.map(str::to_owned),
        lasting: cause == ExitCause::NotStarted,
        exited_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn a_start_that_failed_is_told_with_its_reason_and_with_what_follows() {
    let missing = report(ExitCause::NotStarted, Some("workload: /nosuch: not found"));
    let event = exit_event(&missing, false, 0);
    assert_eq!(
        event["exit_event"]["error"], "workload: /nosuch: not found",
        "{event}"
    );
    assert_eq!(event["exit_event"]["cause"], "not_started", "{event}");
    let line = log_line(&missing, Verdict::Stay, 0).unwrap();
    assert!(
        line.starts_with("the machine did not start: workload: /nosuch: not found; it is not started again"),
        "{line}"
    );
    let panicked = report(ExitCause::Panic, Some("the guest's kernel panicked"));
    assert_eq!(
        log_line(&panicked, Verdict::RestartAt(5_000), 3_000).unwrap(),
        "the machine ended: the guest's kernel panicked; it is started again in 2 s"
    );
    let line = log_line(&panicked, Verdict::GaveUp, 0).unwrap();
    assert!(line.contains("failed too often"), "{line}");
}

#[test]
fn the_end_of_a_workload_is_its_own_to_explain() {
    let exited = report(ExitCause::Exited, None);
    assert_eq!(log_line(&exited, Verdict::RestartAt(1), 0), None);
}
