use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{judge, try_check};
use crate::checks::{CheckKind, CheckSpec, HttpCheck};
use crate::record::Forward;

fn spec(kind: CheckKind) -> CheckSpec {
    CheckSpec {
        name: "c".to_owned(),
        kind,
        port: 80,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(2),
        grace: Duration::ZERO,
    }
}

fn http() -> CheckKind {
    CheckKind::Http(HttpCheck {
        method: "GET".to_owned(),
        path: "/up".to_owned(),
        headers: vec![("X-A".to_owned(), "b".to_owned())],
    })
}

/// Answers one connection with `answer` once it has a whole request; returns what was asked.
async fn serve(answer: &'static str) -> (Vec<Forward>, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host_port = listener.local_addr().unwrap().port();
    let forward = Forward {
        protocol: "tcp".to_owned(),
        guest_port: 80,
        host_address: "127.0.0.1".to_owned(),
        host_port,
    };
    let served = daemon::spawn("server", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !answer.is_empty() && !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (vec![forward], served)
}

#[tokio::test]
async fn an_http_check_asks_as_configured_and_passes_on_200() {
    let (forwards, served) = serve("HTTP/1.1 200 OK\r\n\r\nfine").await;
    let tried = try_check(&spec(http()), &forwards).await;
    assert!(
        tried.success && tried.output.starts_with("HTTP 200: fine ("),
        "{}",
        tried.output
    );
    let asked = served.await.unwrap();
    assert!(
        asked.starts_with("GET /up HTTP/1.1\r\n") && asked.contains("X-A: b\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_tcp_check_sees_through_a_forwarder_that_accepts_and_hangs_up() {
    let (forwards, _served) = serve("").await;
    assert!(!try_check(&spec(CheckKind::Tcp), &forwards).await.success);
}

#[tokio::test]
async fn a_port_that_nobody_forwards_or_serves_fails_with_a_reason() {
    assert_eq!(
        try_check(&spec(CheckKind::Tcp), &[]).await.output,
        "port 80 is not forwarded"
    );
    let (mut forwards, served) = serve("").await;
    served.abort();
    forwards[0].host_port = 1;
    assert!(!try_check(&spec(http()), &forwards).await.success);
}

#[test]
fn answers_are_judged_by_their_status() {
    for (answer, success) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.0 503 Down\r\n\r\n", false),
        ("HTTP/1.1 301 Moved\r\n\r\n", false),
        ("SSH-2.0-x\r\n", false),
        ("", false),
    ] {
        assert_eq!(judge(answer).success, success, "{answer:?}");
    }
}
