//! The daemon as a process: listeners, the root token, a clean end.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daemon::unix_http::Client;
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};

struct Flaps {
    child: Child,
    socket: std::path::PathBuf,
}

impl Flaps {
    async fn start(data: &Path) -> Self {
        let config = data.join("config.toml");
        let text = format!(
            "listen = '127.0.0.1:0'\nsocket = '{0}/f.sock'\ncatalog = '{0}/flaps/catalog.db'\ntoken_file = '{0}/flaps/token'\naddress_file = '{0}/addr'\nvolumed_socket = '{0}/v.sock'\nmachine_runner_socket = '{0}/m.sock'\n",
            data.display()
        );
        crashsafe::write_atomic(&crashsafe::RealDisk, "test", &config, text.as_bytes(), 0o600).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_flaps"))
            .args(["serve", "--config"])
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let flaps = Self {
            child,
            socket: data.join("f.sock"),
        };
        let client = Client::new(&flaps.socket);
        let up = async {
            while client.get::<Value>("/v1/health").await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), up).await.unwrap();
        flaps
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let headers =
            HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        let client = Client::new(&self.socket);
        let reply = client
            .request(method, path, body.as_ref(), headers, Duration::from_secs(10))
            .await
            .unwrap();
        (reply.status.as_u16(), reply.json().unwrap())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Flaps {
    fn drop(&mut self) {
        // It may have ended already, as the test wanted.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn apps_and_the_root_token_outlive_a_killed_daemon() {
    let data = tempfile::tempdir().unwrap();
    let mut flaps = Flaps::start(data.path()).await;
    let file = data.path().join("flaps/token");
    let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::metadata(data.path().join("flaps/catalog.db"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let body = json!({"name": "a1", "org_slug": "personal"});
    assert_eq!(
        flaps.call(Method::POST, "/v1/apps", &token, Some(body)).await.0,
        201
    );
    flaps.signal(rustix::process::Signal::KILL);
    flaps.child.wait().unwrap();

    let mut flaps = Flaps::start(data.path()).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), token);
    assert_eq!(flaps.call(Method::GET, "/v1/apps/a1", &token, None).await.0, 200);
    assert_eq!(flaps.call(Method::GET, "/v1/apps/a1", "other", None).await.0, 401);
    assert_eq!(
        flaps
            .call(Method::GET, "/v1/apps/a1/volumes", &token, None)
            .await
            .0,
        503
    );
    flaps.signal(rustix::process::Signal::TERM);
    assert!(flaps.child.wait().unwrap().success());
    assert!(!flaps.socket.exists());
}

#[tokio::test]
async fn a_token_file_of_the_operators_own_replaces_the_old_token() {
    let data = tempfile::tempdir().unwrap();
    drop(Flaps::start(data.path()).await);
    let file = data.path().join("flaps/token");
    let old = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    crashsafe::write_atomic(&crashsafe::RealDisk, "test", &file, b"chosen\n", 0o600).unwrap();
    let flaps = Flaps::start(data.path()).await;
    assert_eq!(
        flaps
            .call(Method::GET, "/v1/platform/regions", "chosen", None)
            .await
            .0,
        200
    );
    assert_eq!(
        flaps
            .call(Method::GET, "/v1/platform/regions", &old, None)
            .await
            .0,
        401
    );
}
