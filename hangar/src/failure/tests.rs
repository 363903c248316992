use super::*;

fn refused(status: u16) -> Failure {
    Failure::Refused {
        doing: "create app",
        status,
        error: "no".to_owned(),
        request_id: Some("R1".to_owned()),
    }
}

#[test]
fn the_exit_code_says_whether_to_try_again() {
    for (status, code) in [
        (400, NO),
        (401, NO),
        (404, NO),
        (422, NO),
        (500, NO),
        (408, TRY_AGAIN),
        (409, TRY_AGAIN),
        (429, TRY_AGAIN),
        (503, TRY_AGAIN),
        (504, TRY_AGAIN),
    ] {
        assert_eq!(refused(status).exit_code(), code, "{status}");
    }
    assert_eq!(Failure::MissingApp.exit_code(), MISUSE);
    assert_eq!(Failure::MissingYes { what: String::new() }.exit_code(), MISUSE);
    assert_eq!(
        Failure::Output(std::io::ErrorKind::BrokenPipe.into()).exit_code(),
        DONE
    );
}

#[test]
fn a_machine_that_did_not_start_says_why_and_is_a_no() {
    let not_started = |state: &str, reason: Option<&str>| Failure::NotStarted {
        id: "m1".to_owned(),
        state: state.to_owned(),
        reason: reason.map(str::to_owned),
    };
    let failed = not_started("failed", Some("workload: /nosuch: not found"));
    assert_eq!(failed.exit_code(), NO);
    assert_eq!(
        failed.to_string(),
        "machine m1 did not start: workload: /nosuch: not found"
    );
    let again = not_started("restarting", Some("the guest said nothing")).to_string();
    assert!(again.contains("tried again for a while"), "{again}");
    assert!(
        not_started("failed", None)
            .to_string()
            .contains("hangar machine logs m1")
    );
}

#[test]
fn the_nodes_sentence_and_its_request_id_reach_the_user() {
    assert_eq!(refused(422).to_string(), "create app: no (Request ID: R1)");
}
