use super::{ExitCause, ExitReport, ProcessRef, start_ticks};

#[test]
fn the_start_time_is_found_behind_any_command_name() {
    let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
    assert_eq!(start_ticks(&format!("42 (a b) {tail}")), Some(4711));
    assert_eq!(start_ticks(&format!("42 (x) S 1) {tail}")), Some(4711));
    assert_eq!(start_ticks("nonsense"), None);
}

#[test]
fn this_process_is_alive_and_one_with_its_number_but_another_start_is_not() {
    let own = ProcessRef::of(std::process::id()).unwrap();
    assert!(own.is_alive());
    assert!(
        !ProcessRef {
            start_ticks: own.start_ticks + 1,
            ..own
        }
        .is_alive()
    );
}

#[test]
fn exit_codes_are_those_of_a_shell() {
    let report = |cause, guest_exit_code, guest_signal| ExitReport {
        cause,
        guest_exit_code,
        guest_signal,
        oom_killed: false,
        requested_stop: false,
        message: None,
        lasting: false,
        exited_at: jiff::Timestamp::UNIX_EPOCH,
    };
    assert_eq!(report(ExitCause::Exited, Some(3), None).exit_code(), 3);
    assert_eq!(report(ExitCause::Exited, None, Some(9)).exit_code(), 137);
    assert_eq!(report(ExitCause::Panic, None, None).exit_code(), 1);
    assert_eq!(report(ExitCause::Killed, None, None).exit_code(), 137);
    assert!(!report(ExitCause::NotStarted, Some(0), None).is_success());
}
