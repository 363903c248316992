use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;

use super::{Qmp, QmpError};

const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n";

/// Answers each command by `script(command, id)`, a list of lines; `None` hangs up.
fn serve(
    greeting: &'static str,
    script: fn(&str, &Value) -> Option<Vec<String>>,
) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.sock");
    let listener = UnixListener::bind(&path).unwrap();
    daemon::spawn("scripted_qemu", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        writer.write_all(greeting.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let call: Value = serde_json::from_str(&line).unwrap();
            let command = call["execute"].as_str().unwrap().to_owned();
            let answers = if command == "qmp_capabilities" {
                Some(vec![json!({"return": {}, "id": call["id"]}).to_string()])
            } else {
                script(&command, &call["id"])
            };
            let Some(answers) = answers else { return };
            for answer in answers {
                writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
        }
    });
    (dir, path)
}

#[tokio::test]
async fn answers_find_their_askers_and_events_their_listeners() {
    let (_dir, path) = serve(GREETING, |command, id| {
        Some(vec![
            json!({"event": "STOP", "data": {"a": 1}, "timestamp": {}}).to_string(),
            "this is no JSON".to_owned(),
            json!({"return": {"told": command}, "id": 999_999}).to_string(),
            json!({"return": {"told": command}, "id": id}).to_string(),
        ])
    });
    let qmp = Qmp::connect(&path).await.unwrap();
    let mut events = qmp.events();
    assert_eq!(
        qmp.execute("stop", json!({})).await.unwrap(),
        json!({"told": "stop"})
    );
    assert_eq!(events.recv().await.unwrap().event, "STOP");
}

#[tokio::test]
async fn a_refusal_keeps_qemus_words() {
    let (_dir, path) = serve(GREETING, |_, id| {
        Some(vec![
            json!({"error": {"class": "GenericError", "desc": "no such node"}, "id": id}).to_string(),
        ])
    });
    let qmp = Qmp::connect(&path).await.unwrap();
    let error = qmp.execute("block_resize", json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "block_resize: GenericError: no such node");
}

#[tokio::test]
async fn a_hang_up_ends_the_call_and_every_later_one() {
    let (_dir, path) = serve(GREETING, |_, _| None);
    let qmp = Qmp::connect(&path).await.unwrap();
    assert!(matches!(
        qmp.execute("quit", json!({})).await,
        Err(QmpError::Gone { .. })
    ));
    assert!(matches!(
        qmp.execute("quit", json!({})).await,
        Err(QmpError::Gone { .. })
    ));
}

#[tokio::test]
async fn a_silent_qemu_is_given_up_after_the_limit() {
    let (_dir, path) = serve(GREETING, |_, _| Some(Vec::new()));
    let limit = std::time::Duration::from_millis(50);
    let qmp = Qmp::connect_with(&path, limit).await.unwrap();
    assert!(matches!(
        qmp.execute("stop", json!({})).await,
        Err(QmpError::Timeout { .. })
    ));
}

#[tokio::test]
async fn another_protocol_is_recognised() {
    let (_dir, path) = serve("220 mail.example ESMTP\n", |_, _| None);
    assert!(matches!(
        Qmp::connect(&path).await,
        Err(QmpError::Greeting { .. })
    ));
}
