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
fn the_nodes_sentence_and_its_request_id_reach_the_user() {
    assert_eq!(refused(422).to_string(), "create app: no (Request ID: R1)");
}
