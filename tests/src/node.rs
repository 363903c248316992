//! A real node on a temporary data directory: `hangar up` with all its daemons, spoken to over the public API.

mod http;

pub use http::Answer;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};
use tempfile::TempDir;

/// How long a node may take from its start to its `ready` line.
const READY: Duration = Duration::from_secs(60);

/// Returns the directory of freshly built programs; builds them once a test run.
///
/// # Panics
/// When the build breaks: no process test can say anything then.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let test = std::env::current_exe().expect("the test binary has a path");
        let dir = test.parent().expect("a program lies in a directory");
        // Tests lie in target/<profile>/deps, other programs in target/<profile>.
        let dir = if dir.ends_with("deps") {
            dir.parent().expect("deps has a parent")
        } else {
            dir
        }
        .to_path_buf();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // The whole workspace, as `cargo test` builds it: a part of it would resolve other features and build twice.
        build.args(["build", "--quiet", "--workspace", "--bins"]);
        if dir.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo starts");
        assert!(status.success(), "the daemons do not build: {status}");
        dir
    })
}

/// Returns the directory of guest kernel and initramfs.
///
/// # Panics
/// When `cargo xtask setup` has not made them.
pub fn assets() -> PathBuf {
    let dir = match std::env::var_os("HANGAR_ASSETS") {
        Some(dir) => PathBuf::from(dir),
        None => programs()
            .parent()
            .expect("target/<profile> has a parent")
            .join("assets"),
    };
    assert!(
        dir.join("vmlinux").exists(),
        "no guest kernel in {}; run `cargo xtask setup`",
        dir.display()
    );
    dir
}

/// A running node. Dropping it stops the daemons and their guests and deletes the data.
#[derive(Debug)]
pub struct Node {
    dir: Option<TempDir>,
    up: Child,
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Node {
    /// Starts a node on an empty data directory.
    ///
    /// # Errors
    /// When it is not ready within a minute; its logs are named.
    pub fn start() -> Result<Self> {
        // Short, because Unix socket paths below it may have 100 bytes at most.
        Self::start_in(tempfile::Builder::new().prefix("hg").tempdir_in("/tmp")?)
    }

    /// Starts a node on a data directory that may hold an earlier node's state.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in(dir: TempDir) -> Result<Self> {
        let mut command = Command::new(programs().join("hangar"));
        command
            .args(["up", "--listen", "127.0.0.1:0"])
            .env("HANGAR_DATA", dir.path())
            .env("HANGAR_ASSETS", assets());
        let errors = File::create(dir.path().join("up.err"))?;
        let mut up = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let stdout = up.stdout.take().context("standard output of hangar up")?;
        let mut node = Self {
            dir: Some(dir),
            up,
            base: String::new(),
            token: String::new(),
            client: reqwest::Client::new(),
        };
        node.wait_ready(stdout)?;
        let address = std::fs::read_to_string(node.path("run/flaps.addr"))?;
        node.base = format!("http://{}", address.trim());
        node.token = std::fs::read_to_string(node.path("flaps/token"))?
            .trim()
            .to_owned();
        Ok(node)
    }

    fn wait_ready(&self, stdout: std::process::ChildStdout) -> Result<()> {
        let (sender, receiver) = mpsc::sync_channel(256);
        let reader = move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens once the node is ready; the pipe is drained all the same.
                let _ = sender.try_send(line);
            }
        };
        std::thread::Builder::new()
            .name("hangar-up".into())
            .spawn(reader)?;
        loop {
            match receiver.recv_timeout(READY) {
                Ok(line) if line.starts_with("ready") => return Ok(()),
                Ok(_) => {}
                Err(_) => bail!("the node is not ready after {READY:?}:\n{}", self.logs()),
            }
        }
    }

    /// Returns a path below the data directory.
    ///
    /// # Panics
    /// After [`Self::stop_keeping`].
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir
            .as_ref()
            .expect("the node has its directory")
            .path()
            .join(relative)
    }

    /// Returns the ends of all logs, for a failing test's message.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = std::fs::read_to_string(self.path("up.err")).unwrap_or_default();
        for name in ["volumed", "machine-runner", "flaps", "s3"] {
            let log = std::fs::read_to_string(self.path(&format!("log/{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(30).collect();
            text.push_str(&format!("\n--- {name}\n"));
            text.extend(lines.iter().rev().map(|line| format!("{line}\n")));
        }
        text
    }

    /// Runs the `hangar` command against this node and returns (exit code, standard output, standard error).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn hangar(&self, words: &[&str]) -> Result<(i32, String, String)> {
        let mut command = Command::new(programs().join("hangar"));
        let out = command
            .args(words)
            .env("HANGAR_DATA", self.path(""))
            .stdin(Stdio::null())
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            out.status.code().unwrap_or(-1),
            text(&out.stdout),
            text(&out.stderr),
        ))
    }

    /// Returns the process id of a daemon, a child of `hangar up`.
    ///
    /// # Errors
    /// When no child runs that program.
    pub fn pid_of(&self, daemon: &str) -> Result<i32> {
        let parent = self.up.id();
        // A child is listed under the thread that started it.
        let mut children = String::new();
        for thread in std::fs::read_dir(format!("/proc/{parent}/task"))? {
            children += &std::fs::read_to_string(thread?.path().join("children"))?;
        }
        for pid in children.split_whitespace() {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = String::from_utf8_lossy(words.split(|byte| *byte == 0).next().unwrap_or_default())
                .into_owned();
            if Path::new(&program).file_name().is_some_and(|name| name == daemon) {
                return Ok(pid.parse()?);
            }
        }
        bail!("hangar up has no child {daemon}\n{}", self.logs())
    }

    /// Ends a daemon by SIGKILL; `hangar up` brings it back.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, daemon: &str) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid_of(daemon)?).context("a process id")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
    }

    /// Stops the node cleanly and returns its data directory.
    ///
    /// # Errors
    /// When `hangar up` does not end with success.
    pub fn stop_keeping(mut self) -> Result<TempDir> {
        self.stop()?;
        self.dir.take().context("the node has its directory")
    }

    fn stop(&mut self) -> Result<()> {
        if self.up.try_wait()?.is_none() {
            rustix::process::kill_process(
                rustix::process::Pid::from_child(&self.up),
                rustix::process::Signal::TERM,
            )?;
        }
        let status = self.up.wait()?;
        if !status.success() {
            bail!("hangar up ended with {status}\n{}", self.logs());
        }
        Ok(())
    }

    /// Calls the public API; see [`http`].
    ///
    /// # Errors
    /// When no whole HTTP answer comes back.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        http::call(&self.client, &self.base, &self.token, method, path, body).await
    }

    /// Calls the public API and requires a 2xx answer.
    ///
    /// # Errors
    /// The status and the body of any other.
    pub async fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.call(method, path, body).await?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path}: {} {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }

    /// Repeats `probe` until it has an answer; the daemons' own state decides, the pause only spares the processor.
    ///
    /// # Errors
    /// After `seconds`, with the node's logs.
    pub async fn until<T, F>(&self, what: &str, seconds: u64, mut probe: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            if let Some(value) = probe().await? {
                return Ok(value);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("waited {seconds} s for {what}\n{}", self.logs());
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.dir.is_some() {
            // A test that failed has said why; a stop that fails on top of it has nobody to tell.
            let _ = self.stop();
        }
    }
}
