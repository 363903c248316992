//! A daemon on a directory of its own, and the calls that tests make.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use daemon::unix_http::{Client, Reply};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::image;
use crate::volumed::Volumed;

/// The image's name in every test.
pub(crate) const IMAGE: &str = "demo:1";
const CALL: Duration = Duration::from_secs(150);

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) volumed: Volumed,
    child: Option<Child>,
    client: Client,
}

fn assets() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/assets");
    let assets = std::env::var_os("HANGAR_ASSETS").map_or(own, PathBuf::from);
    for name in machine_runner::doctor::ASSETS {
        assert!(
            assets.join(name).is_file(),
            "{} is missing: run `cargo xtask setup`, or set HANGAR_ASSETS",
            assets.join(name).display()
        );
    }
    assets.canonicalize().unwrap()
}

impl Node {
    /// Starts a daemon and imports the image.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("mr").tempdir().unwrap();
        let volumed = Volumed::start(dir.path());
        image::make(&dir.path().join("oci"));
        let config = format!(
            "data_dir = '{0}/d'\nsocket = '{0}/api.sock'\nvolumed_socket = '{1}'\nassets_dir = '{2}'\nusage_interval_s = 1\n",
            dir.path().display(),
            volumed.socket.display(),
            assets().display()
        );
        crashsafe::write_atomic(
            &crashsafe::RealDisk,
            "test:config",
            &dir.path().join("config.toml"),
            config.as_bytes(),
            0o600,
        )
        .unwrap();
        let client = Client::new(dir.path().join("api.sock")).with_timeout(CALL);
        let mut node = Self {
            dir,
            volumed,
            child: None,
            client,
        };
        node.serve().await;
        let import = json!({"path": node.dir.path().join("oci"), "reference": IMAGE});
        let lines = node.call(Method::POST, "/v1/images", Some(import)).await;
        let lines = String::from_utf8(lines.body.to_vec()).unwrap();
        assert!(lines.contains("\"step\":\"result\""), "{lines}");
        node
    }

    /// Starts the daemon's process and waits until it answers.
    pub(crate) async fn serve(&mut self) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_machine-runner"))
            .args(["serve", "--config"])
            .arg(self.dir.path().join("config.toml"))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let answering = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while self.client.get::<Value>("/v1/health").await.is_err() {
                ticks.tick().await;
            }
        };
        let answered = tokio::time::timeout(Duration::from_secs(60), answering).await;
        assert!(answered.is_ok(), "the daemon does not answer: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// SIGKILL, as a crash.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.client
            .request(method, path, body.as_ref(), HeaderMap::new(), CALL)
            .await
            .unwrap()
    }

    /// A call that must succeed.
    pub(crate) async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let reply = self.call(method.clone(), path, body).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            reply.status.is_success(),
            "{method} {path}: {} {text}\n{}",
            reply.status,
            self.log()
        );
        reply.json().unwrap()
    }

    /// Creates a machine and returns its id.
    pub(crate) async fn create(&self, app: &str, mut config: Value) -> String {
        config["image"] = json!(IMAGE);
        let machine = self
            .ok(
                Method::POST,
                &format!("/v1/apps/{app}/machines"),
                Some(json!({"config": config})),
            )
            .await;
        machine["id"].as_str().unwrap().to_owned()
    }

    /// Creates a machine, waits until it runs, and returns a handle.
    pub(crate) async fn run(&self, app: &str, config: Value) -> Machine<'_> {
        let id = self.create(app, config).await;
        let machine = Machine {
            node: self,
            path: format!("/v1/apps/{app}/machines/{id}"),
            id,
        };
        machine.wait("started").await;
        machine
    }
}

/// A machine of a node.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
    pub(crate) id: String,
}

impl Machine<'_> {
    pub(crate) async fn get(&self, rest: &str) -> Value {
        self.node
            .ok(Method::GET, &format!("{}{rest}", self.path), None)
            .await
    }

    pub(crate) async fn post(&self, rest: &str, body: Value) -> Value {
        self.node
            .ok(Method::POST, &format!("{}{rest}", self.path), Some(body))
            .await
    }

    /// Waits for a state, beyond the minute that one call waits.
    pub(crate) async fn wait(&self, state: &str) -> Value {
        for _ in 0..3 {
            let path = format!("{}/wait?state={state}&timeout=60", self.path);
            let reply = self.node.call(Method::GET, &path, None).await;
            if reply.status.is_success() {
                return reply.json().unwrap();
            }
        }
        let machine = self.get("").await;
        let shim = self.node.dir.path().join("d/m").join(&self.id);
        let shim_log = std::fs::read_to_string(shim.join("shim.log")).unwrap_or_default();
        let console = std::fs::read_to_string(shim.join("console.log")).unwrap_or_default();
        panic!(
            "never {state}: {machine:#}\n{}\nshim: {shim_log}\nconsole: {console}",
            self.node.log()
        );
    }

    /// Runs a shell command that must succeed and returns its output.
    pub(crate) async fn sh(&self, script: &str) -> String {
        let answer = self
            .post("/exec", json!({"command": ["sh", "-c", script], "timeout": 100}))
            .await;
        assert_eq!(answer["exit_code"], 0, "{script}: {answer}");
        answer["stdout"].as_str().unwrap().to_owned()
    }

    /// Facts of the newest exit.
    pub(crate) async fn last_exit(&self) -> Value {
        let events = self.get("/events?limit=50").await;
        let exit = events
            .as_array()
            .unwrap()
            .iter()
            .find(|event| event["type"] == "exit");
        exit.unwrap_or_else(|| panic!("no exit in {events}"))["request"]["exit_event"].clone()
    }

    pub(crate) async fn destroy(&self) {
        self.node
            .ok(Method::DELETE, &format!("{}?force=true", self.path), None)
            .await;
        self.wait("destroyed").await;
    }
}

impl Drop for Node {
    /// Guests outlive the daemon by design: those of a test that failed half-way are ended by their shims' files.
    fn drop(&mut self) {
        let machines = std::fs::read_dir(self.dir.path().join("d/m"))
            .into_iter()
            .flatten()
            .flatten();
        for machine in machines {
            let status = machine_runner::shim::board::read(&machine.path());
            for process in status
                .into_iter()
                .flat_map(|status| [Some(status.shim), status.qemu])
                .flatten()
            {
                end(process);
            }
        }
        let networks = std::fs::read_dir(self.dir.path().join("d/net"))
            .into_iter()
            .flatten()
            .flatten();
        for network in networks {
            let text = std::fs::read(network.path().join("process.json")).unwrap_or_default();
            if let Ok(Some(process)) = serde_json::from_slice(&text) {
                end(process);
            }
        }
    }
}

fn end(process: machine_runner::shim::facts::ProcessRef) {
    let pid = i32::try_from(process.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid.filter(|_| process.is_alive()) {
        // Gone meanwhile is as good.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
