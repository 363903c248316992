use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{ApiError, ApiJson};

/// A server of the routes below, on a socket in a directory of its own.
struct Server {
    directory: tempfile::TempDir,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let socket = directory.path().join("t.sock");
        let task = start_on(&socket, &shutdown);
        listening(&socket).await;
        Self {
            directory,
            shutdown,
            task,
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("t.sock")
    }

    fn client(&self) -> Client {
        Client::new(self.socket())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn start_on(socket: &Path, shutdown: &CancellationToken) -> JoinHandle<std::io::Result<()>> {
    let (socket, shutdown) = (socket.to_path_buf(), shutdown.clone());
    crate::spawn(
        "test server",
        async move { serve(&socket, routes(), shutdown).await },
    )
}

async fn listening(socket: &Path) {
    while tokio::net::UnixStream::connect(socket).await.is_err() {
        tokio::task::yield_now().await;
    }
}

fn routes() -> Router {
    let streamed = || async {
        let pieces = futures_util::stream::iter(["one\n", "two\n"]).map(Ok::<_, std::io::Error>);
        axum::body::Body::from_stream(pieces.chain(futures_util::stream::pending()))
    };
    let router = Router::new()
        .route(
            "/echo",
            post(|ApiJson(body): ApiJson<Value>| async move { axum::Json(body) }),
        )
        .route(
            "/who",
            get(
                |headers: HeaderMap| async move { axum::Json(headers["x-who"].to_str().unwrap().to_owned()) },
            ),
        )
        .route("/gone", delete(|| async { StatusCode::NO_CONTENT }))
        .route("/text", get(|| async { "not json" }))
        .route("/never", get(std::future::pending::<&'static str>))
        .route("/stream", get(streamed))
        .route(
            "/taken",
            get(|| async { ApiError::conflict("the volume is taken").with_code("attached") }),
        );
    crate::api_error::with_json_fallbacks(router)
}

#[tokio::test]
async fn a_json_body_goes_there_and_back() {
    let server = Server::start().await;
    let answer: Value = server
        .client()
        .post("/echo", &json!({"size_gb": 2}))
        .await
        .unwrap();
    assert_eq!(answer, json!({"size_gb": 2}));
    server.stop().await;
}

#[tokio::test]
async fn an_empty_answer_is_unit() {
    let server = Server::start().await;
    server.client().delete::<()>("/gone").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn headers_reach_the_server() {
    let server = Server::start().await;
    let headers = HeaderMap::from_iter([("x-who".parse().unwrap(), "flaps".parse().unwrap())]);
    let reply = server
        .client()
        .request(Method::GET, "/who", None, headers, Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(reply.json::<String>().unwrap(), "flaps");
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_carries_status_sentence_and_code() {
    let server = Server::start().await;
    let error = server.client().get::<Value>("/taken").await.unwrap_err();
    assert_eq!(error.status(), Some(409));
    assert_eq!(error.to_string(), "the volume is taken");
    assert_eq!(error.code().as_deref(), Some("attached"));
    assert_eq!(ApiError::from(error).status, StatusCode::CONFLICT);
    server.stop().await;
}

#[tokio::test]
async fn request_hands_over_a_refusal_as_a_reply() {
    let server = Server::start().await;
    let client = server.client();
    let reply = client
        .request(
            Method::GET,
            "/taken",
            None,
            HeaderMap::new(),
            Duration::from_secs(30),
        )
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(
        reply.json::<Value>().unwrap(),
        json!({"error": "the volume is taken", "status": "attached"})
    );
    server.stop().await;
}

#[tokio::test]
async fn malformed_json_an_unknown_path_and_a_wrong_method_are_told_apart() {
    let server = Server::start().await;
    let client = server.client();
    let bad = client.post::<Value>("/echo", &json!(null)).await;
    assert!(bad.is_ok(), "null is JSON: {bad:?}");
    for (method, path, status) in [(Method::GET, "/nowhere", 404), (Method::DELETE, "/text", 405)] {
        let reply = client
            .request(method, path, None, HeaderMap::new(), Duration::from_secs(30))
            .await
            .unwrap();
        assert_eq!(reply.status.as_u16(), status);
        assert!(reply.json::<Value>().unwrap()["error"].is_string());
    }
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_a_decode_error() {
    let server = Server::start().await;
    assert!(matches!(
        server.client().get::<Value>("/text").await,
        Err(CallError::Decode(_))
    ));
    server.stop().await;
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let server = Server::start().await;
    let client = server.client().with_timeout(Duration::from_millis(20));
    let error = client.get::<Value>("/never").await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    assert!(!error.never_sent());
    server.stop().await;
}

#[tokio::test]
async fn a_stream_gives_its_pieces_before_it_ends() {
    let server = Server::start().await;
    let client = server.client();
    let mut reply = client
        .request_stream(
            Method::GET,
            "/stream",
            None,
            HeaderMap::new(),
            Duration::from_secs(30),
        )
        .await
        .unwrap();
    let mut text = Vec::new();
    while text.len() < 8 {
        text.extend_from_slice(&reply.next().await.unwrap().unwrap());
    }
    assert_eq!(text, b"one\ntwo\n");
    drop(reply);
    server.stop().await;
}

#[tokio::test]
async fn nobody_there_is_refused_by_name_and_never_sent() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let error = Client::new(&socket).get::<Value>("/").await.unwrap_err();
    assert!(error.to_string().contains("none.sock"), "{error}");
    assert!(error.never_sent());
    assert_eq!(ApiError::from(error).status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let server = Server::start().await;
    let socket = server.socket();
    assert_eq!(
        std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let beside: Vec<_> = std::fs::read_dir(server.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock") && name != "t.sock")
        .collect();
    assert_eq!(beside, Vec::<String>::new(), "the private directory is gone");
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_server_whose_directory_was_taken_away_stops_like_any_other() {
    let server = Server::start().await;
    std::fs::remove_dir_all(server.directory.path()).unwrap();
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_live_server_is_refused_and_untouched() {
    let server = Server::start().await;
    let error = serve(&server.socket(), routes(), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    server.client().delete::<()>("/gone").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_live_server_that_takes_no_lock_is_refused_too() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("t.sock");
    let _foreign = tokio::net::UnixListener::bind(&socket).unwrap();
    let error = serve(&socket, routes(), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_dead_servers_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("t.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "a dead server leaves its socket");
    let shutdown = CancellationToken::new();
    let task = start_on(&socket, &shutdown);
    listening(&socket).await;
    Client::new(&socket).delete::<()>("/gone").await.unwrap();
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_in_the_way_is_kept() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = serve(file.path(), routes(), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(file.path().exists());
}

#[tokio::test]
async fn a_path_over_the_limit_is_refused_with_its_length() {
    let socket = PathBuf::from(format!("/tmp/{}.sock", "x".repeat(100)));
    let error = serve(&socket, routes(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("110 bytes"), "{error}");
}

#[tokio::test]
async fn a_path_without_a_slash_is_not_sent() {
    let error = Client::new("/nonexistent")
        .get::<Value>("v1/health")
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Request(_)), "{error}");
}
