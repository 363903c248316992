use super::{Plan, Request, STATES, State, Then, plan};

fn outcome(state: State, request: Request) -> String {
    match plan(state, request) {
        Ok(Plan::Already) => "-".to_owned(),
        Ok(Plan::Launch) => "launch".to_owned(),
        Ok(Plan::Resume) => "resume".to_owned(),
        Ok(Plan::CancelSuspend) => "cancel".to_owned(),
        Ok(Plan::Halt { then: Then::Rest }) => "halt".to_owned(),
        Ok(Plan::Halt { then: Then::Start }) => "halt+start".to_owned(),
        Ok(Plan::Halt { then: Then::Destroy }) => "halt+destroy".to_owned(),
        Ok(Plan::DropRestart) => "drop".to_owned(),
        Ok(Plan::DiscardRam) => "discard".to_owned(),
        Ok(Plan::Suspend) => "suspend".to_owned(),
        Ok(Plan::Store) => "store".to_owned(),
        Ok(Plan::Remove) => "remove".to_owned(),
        Ok(Plan::Pass) => "pass".to_owned(),
        Err(refused) => refused.status.to_string(),
    }
}

#[test]
fn every_request_in_every_state_has_its_documented_outcome() {
    let requests = [
        Request::Start,
        Request::Stop,
        Request::Restart,
        Request::Suspend,
        Request::Update { launch: true },
        Request::Destroy { force: false },
        Request::Destroy { force: true },
        Request::Talk,
    ];
    let mut table = String::new();
    for state in STATES {
        let row: Vec<_> = requests.iter().map(|request| outcome(state, *request)).collect();
        table.push_str(&format!("{state}: {}\n", row.join(" ")));
    }
    let expected = "\
creating: 412 412 412 412 412 412 412 412
created: launch - launch 412 store remove remove 412
starting: - halt - 412 412 412 halt+destroy 412
started: - halt halt+start suspend halt+start 412 halt+destroy pass
stopping: 412 - 412 412 412 412 halt+destroy 412
stopped: launch - launch 412 store remove remove 412
restarting: - drop - 412 store 412 remove 412
suspending: cancel 412 412 - 412 412 halt+destroy 412
suspended: resume discard launch - store remove remove 412
replacing: - halt - 412 412 412 halt+destroy 412
destroying: 412 412 412 412 412 - - 412
destroyed: 404 404 404 404 404 - - 404
failed: launch - launch 412 store remove remove 412
";
    assert_eq!(table, expected);
}

#[test]
fn refusals_say_the_state_and_what_to_do() {
    for state in STATES {
        for request in [
            Request::Start,
            Request::Talk,
            Request::Suspend,
            Request::Destroy { force: false },
        ] {
            if let Err(refused) = plan(state, request) {
                assert!(
                    refused.sentence.len() > 15,
                    "{state} {request:?}: {}",
                    refused.sentence
                );
            }
        }
    }
}

#[test]
fn words_are_read_back() {
    for state in STATES {
        assert_eq!(State::parse(state.as_str()), Some(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert_eq!(State::parse("running"), None);
}
