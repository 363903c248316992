use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};

use super::*;

type Calls = Arc<Mutex<Vec<String>>>;

fn runner_without_drain(layout: &Layout, calls: Calls) {
    std::fs::create_dir(layout.below("run")).unwrap();
    let note = |verb: &'static str| {
        move |State(calls): State<Calls>, Path((_, id)): Path<(String, String)>| async move {
            calls.lock().unwrap().push(format!("{verb} {id}"));
            if id == "gone" && verb == "start" {
                return Err(http::StatusCode::NOT_FOUND);
            }
            if id == "ill" && verb == "start" {
                return Err(http::StatusCode::INTERNAL_SERVER_ERROR);
            }
            Ok(axum::Json(json!({"ok": true})))
        }
    };
    let machines =
        ["m1", "gone", "ill"].map(|id| json!({"id": id, "state": "started", "hangar": {"app": "a1"}}));
    let router = Router::new()
        .route("/v1/machines", get(async move || axum::Json(machines)))
        .route("/v1/apps/{app}/machines/{id}/stop", post(note("stop")))
        .route("/v1/apps/{app}/machines/{id}/start", post(note("start")))
        .route("/v1/apps/{app}/machines/{id}/wait", get(note("wait")))
        .with_state(calls);
    let listener = tokio::net::UnixListener::bind(layout.socket("machine-runner")).unwrap();
    drop(daemon::spawn("fake-runner", async move {
        axum::serve(listener, router).await
    }));
}

#[tokio::test]
async fn what_a_clean_stop_ended_the_next_start_begins_again() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    let calls = Calls::default();
    runner_without_drain(&layout, calls.clone());
    stop(&layout).await;
    assert_eq!(
        calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.starts_with("wait"))
            .count(),
        3
    );
    calls.lock().unwrap().clear();
    resume(&layout).await;
    assert_eq!(calls.lock().unwrap().len(), 3);
    let left: Vec<Guest> = serde_json::from_str(&std::fs::read_to_string(record(&layout)).unwrap()).unwrap();
    assert_eq!(
        left,
        [Guest {
            app: "a1".to_owned(),
            id: "ill".to_owned()
        }],
        "only what may still start is tried again"
    );
}

#[tokio::test]
async fn a_node_that_stopped_nothing_starts_nothing() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    let calls = Calls::default();
    runner_without_drain(&layout, calls.clone());
    resume(&layout).await;
    assert!(calls.lock().unwrap().is_empty());
}
