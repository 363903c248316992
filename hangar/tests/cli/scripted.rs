//! An API that answers by script: what the program makes of states that follow each other, and of refusals.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{Ran, machine, run_with};

type Answers = Arc<Mutex<BTreeMap<String, VecDeque<(u16, Value)>>>>;

/// Answers of an API in the order in which they are given; the last one of a call stays.
pub(crate) struct Script {
    base: String,
}

impl Script {
    pub(crate) async fn start(answers: impl IntoIterator<Item = (&str, u16, Value)>) -> Self {
        let script = Answers::default();
        for (call, status, body) in answers {
            let mut script = script.lock().unwrap();
            script
                .entry(call.to_owned())
                .or_default()
                .push_back((status, body));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(script);
        drop(daemon::spawn("scripted-flaps", async move {
            axum::serve(listener, router).await
        }));
        Self { base }
    }

    pub(crate) async fn run(&self, words: &[&str]) -> Ran {
        let variables = [
            ("HANGAR_ENDPOINT", self.base.as_str()),
            ("FLY_API_TOKEN", "good"),
            ("FLY_APP", "a1"),
        ];
        run_with(words, &variables).await
    }
}

async fn answer(State(answers): State<Answers>, request: Request) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path());
    let mut answers = answers.lock().unwrap();
    let (status, body) = match answers.get_mut(&call) {
        Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
        Some(queue) => queue[0].clone(),
        None => (404, json!({"error": format!("{call} is not in the script")})),
    };
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

const MACHINES: &str = "POST /v1/apps/a1/machines";
const SHOW: &str = "GET /v1/apps/a1/machines/m1";
const WAIT: &str = "GET /v1/apps/a1/machines/m1/wait";

fn failed(state: &str) -> Value {
    let mut machine = machine(state);
    let exit = json!({"exit_code": 127, "cause": "not_started", "error": "workload: /nosuch: not found"});
    machine["events"] = json!([{"type": "exit", "status": state, "request": {"exit_event": exit}}]);
    machine
}

#[tokio::test]
async fn a_machine_whose_program_is_missing_ends_the_run_with_the_reason() {
    for state in ["failed", "restarting"] {
        let script = Script::start([
            (MACHINES, 200, machine("starting")),
            (WAIT, 200, json!({"ok": true})),
            (SHOW, 200, failed(state)),
        ])
        .await;
        let ran = script.run(&["machine", "run", "demo", "--", "/nosuch"]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.words
                .contains("machine m1 did not start: workload: /nosuch: not found"),
            "{ran:?}"
        );
        let ran = script.run(&["machine", "status", "m1"]).await;
        assert!(
            ran.out
                .contains("exit_code=127,error=workload: /nosuch: not found"),
            "{ran:?}"
        );
    }
}

#[tokio::test]
async fn a_workload_that_crashes_is_waited_for_until_it_runs() {
    let mut crashed = machine("restarting");
    let exit = json!({"exit_code": 1, "cause": "exited", "error": null});
    crashed["events"] = json!([{"type": "exit", "request": {"exit_event": exit}}]);
    let script = Script::start([
        (MACHINES, 200, machine("starting")),
        (WAIT, 200, json!({"ok": true})),
        (SHOW, 200, crashed),
        (SHOW, 200, machine("started")),
    ])
    .await;
    let ran = script.run(&["machine", "run", "demo"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("Machine started"), "{ran:?}");
}

#[tokio::test]
async fn a_start_waits_until_the_machine_runs_and_a_command_waits_for_a_start() {
    const START: &str = "POST /v1/apps/a1/machines/m1/start";
    const EXEC: &str = "POST /v1/apps/a1/machines/m1/exec";
    let busy = json!({"error": "failed_precondition: machine is starting, not started; start it first"});
    let script = Script::start([
        (START, 200, json!({"previous_state": "stopped"})),
        (WAIT, 200, json!({"ok": true})),
        (SHOW, 200, machine("started")),
    ])
    .await;
    let ran = script.run(&["machine", "start", "m1"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "m1 has been started\n"),
        "{ran:?}"
    );
    let script = Script::start([
        (START, 200, json!({"previous_state": "stopped"})),
        (WAIT, 200, json!({"ok": true})),
        (SHOW, 200, failed("failed")),
    ])
    .await;
    let ran = script.run(&["machine", "start", "m1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert!(ran.words.contains("did not start: workload: /nosuch"), "{ran:?}");

    let script = Script::start([
        (EXEC, 412, busy.clone()),
        (EXEC, 200, json!({"exit_code": 0, "stdout": "hi\n", "stderr": ""})),
        (WAIT, 200, json!({"ok": true})),
        (SHOW, 200, machine("starting")),
        (SHOW, 200, machine("started")),
    ])
    .await;
    let ran = script.run(&["machine", "exec", "m1", "echo hi"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "hi\n"), "{ran:?}");
    let script = Script::start([(EXEC, 412, busy), (SHOW, 200, machine("stopped"))]).await;
    let ran = script.run(&["machine", "exec", "m1", "echo hi"]).await;
    assert_eq!(ran.code, 1, "nothing will start it: {ran:?}");
}

#[tokio::test]
async fn a_conflict_that_no_waiting_cures_is_a_no() {
    let held = json!({"error": "volume vol_1: volume vol_1 is already attached to machine m2"});
    let script = Script::start([(MACHINES, 412, held)]).await;
    assert_eq!(script.run(&["machine", "run", "demo"]).await.code, 1);
    let busy = json!({"error": "volume vol_1 is extending; try again when its state is created"});
    let script = Script::start([(MACHINES, 409, busy)]).await;
    assert_eq!(script.run(&["machine", "run", "demo"]).await.code, 3);
}

#[tokio::test]
async fn an_empty_list_says_what_another_cluster_key_would_show() {
    let node = json!({"volumed": {"other_keys": {"ck-1": 2}}});
    let script = Script::start([
        ("GET /hangar/v1/snapshots", 200, json!([])),
        ("GET /hangar/v1/node", 200, node),
    ])
    .await;
    let ran = script.run(&["volumes", "snapshots", "list"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.words
            .contains("2 snapshots sealed under another cluster key (ck-1)")
            && ran.words.contains("hangar key import"),
        "{ran:?}"
    );
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // a test's input is not durable
async fn an_exported_key_never_replaces_a_file() {
    let script = Script::start([("POST /hangar/v1/key/export", 200, json!({"text": "ours"}))]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.key");
    let words = ["key", "export", "-o", path.to_str().unwrap()];
    let first = script.run(&words).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "ours\n");

    std::fs::write(&path, "the only copy of another").unwrap();
    let second = script.run(&words).await;
    assert_eq!(second.code, 1, "{second:?}");
    assert!(
        second.words.contains("cluster.key") && second.words.contains("name another file"),
        "{second:?}"
    );
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "the only copy of another"
    );
}

#[tokio::test]
async fn what_was_given_wrongly_is_named_and_not_asked_of_the_node() {
    let script = Script::start([(
        "GET /v1/apps",
        401,
        json!({"error": "no valid token in the header"}),
    )])
    .await;
    let ran = script.run(&["images", "import", "./nope"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.words.contains("./nope: No such file or directory"), "{ran:?}");
    for (words, code, said) in [
        (
            vec!["--endpoint", "nonsense", "apps", "list"],
            2,
            "use a URL like",
        ),
        (vec!["volumes", "update", "vol_1"], 2, "nothing to change"),
        (
            vec!["volumes", "create", "data", "-s", "-1", "-y"],
            2,
            "invalid size \"-1\"",
        ),
        (vec!["-t", "bad", "apps", "list"], 1, "does not know this token"),
    ] {
        let ran = script.run(&words).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.words.contains(said), "{ran:?}");
        assert!(!ran.words.contains("header"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_snapshot_is_deleted_in_its_own_app_only_and_with_consent() {
    const DELETE: &str = "DELETE /hangar/v1/snapshots/vs_1";
    let script = Script::start([
        (
            "GET /hangar/v1/snapshots/vs_1",
            200,
            json!({"id": "vs_1", "app": "a1"}),
        ),
        (DELETE, 200, json!({"id": "vs_1", "state": "deleting"})),
    ])
    .await;
    let delete = ["volumes", "snapshots", "delete", "vs_1", "-a"];
    let ran = script.run(&[&delete[..], &["a1", "-y"]].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for (refused, code) in [(&["a2", "-y"][..], 1), (&["a1"], 2)] {
        let ran = script.run(&[&delete[..], refused].concat()).await;
        assert_eq!(ran.code, code, "{ran:?}");
    }
}

#[tokio::test]
async fn a_snapshot_is_verified_in_its_own_app_only() {
    const VERIFY: &str = "POST /hangar/v1/snapshots/vs_1/verify";
    let script = Script::start([
        (
            "GET /hangar/v1/snapshots/vs_1",
            200,
            json!({"id": "vs_1", "app": "a1"}),
        ),
        (VERIFY, 200, json!({"blocks": 1, "bytes": 4, "errors": []})),
    ])
    .await;
    let verify = ["volumes", "snapshots", "verify", "vs_1", "-a"];
    let ran = script.run(&[&verify[..], &["a1"]].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = script.run(&[&verify[..], &["a2"]].concat()).await;
    assert_eq!(
        (ran.code, ran.words.as_str()),
        (1, "Error: snapshot vs_1 is of app 'a1'\n")
    );
}
