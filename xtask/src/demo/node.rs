//! The throw-away node of the demonstration: a data directory, `hangar up`, and the `hangar` command.

use crate::shell;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Seconds that a node may take from `hangar up` to its `ready` line.
const READY_SECONDS: u64 = 60;

/// A running node; dropping it ends it.
pub(super) struct Node {
    dir: PathBuf,
    up: Child,
}

impl Node {
    /// Starts a node on an empty data directory and waits until it says that it is ready.
    pub(super) fn start() -> Result<Self> {
        let dir = shell::target_dir().join("demo");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).context("clear the last demonstration's data directory")?;
        }
        std::fs::create_dir_all(&dir)?;
        let mut command = hangar(&dir);
        let port = free_port()?;
        command
            .args(["up", "--listen", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::piped());
        eprintln!("$ hangar up");
        let mut up = command.spawn().context("start hangar up")?;
        let stdout = up.stdout.take().context("standard output of hangar up")?;
        let node = Self { dir, up };
        node.wait_ready(stdout)?;
        Ok(node)
    }

    /// Reads `hangar up`'s lines on a thread, so that a node that never gets ready is noticed.
    fn wait_ready(&self, stdout: std::process::ChildStdout) -> Result<()> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(64);
        let reader = move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                eprintln!("  {line}");
                // A full or closed channel only means that nobody waits any more.
                let _ = sender.try_send(line);
            }
        };
        std::thread::Builder::new()
            .name("hangar-up".into())
            .spawn(reader)?;
        loop {
            match receiver.recv_timeout(Duration::from_secs(READY_SECONDS)) {
                Ok(line) if line.starts_with("ready") => return Ok(()),
                Ok(_) => {}
                Err(_) => bail!(
                    "the node was not ready after {READY_SECONDS} s; see {}/node/log",
                    self.dir.display()
                ),
            }
        }
    }

    /// Returns the demonstration's directory; the node's data is below it in `node`.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns where the programs are.
    pub(super) fn bin_dir(&self) -> PathBuf {
        shell::target_dir().join("release")
    }

    /// Runs `hangar` with its output shown.
    pub(super) fn hangar(&self, words: &[&str]) -> Result<()> {
        shown(words);
        let status = hangar(&self.dir).args(words).status()?;
        if !status.success() {
            bail!("`hangar {}` ended with {status}", words.join(" "));
        }
        Ok(())
    }

    /// Runs `hangar` and reads its standard output as JSON.
    pub(super) fn json(&self, words: &[&str]) -> Result<Value> {
        shown(words);
        self.json_quietly(words)
    }

    /// Like [`Self::json`], without showing the command: for polls.
    pub(super) fn json_quietly(&self, words: &[&str]) -> Result<Value> {
        let text = shell::output(hangar(&self.dir).args(words))?;
        serde_json::from_str(&text).with_context(|| format!("JSON from `hangar {}`: {text}", words.join(" ")))
    }

    /// Runs a shell line in a machine and returns its output, trimmed.
    pub(super) fn exec(&self, machine: &str, line: &str) -> Result<String> {
        let quoted = format!("/bin/sh -c '{line}'");
        shown(&["machine", "exec", machine, &quoted, "-a", "demo"]);
        let words = [
            "machine",
            "exec",
            machine,
            &quoted,
            "-a",
            "demo",
            "--timeout",
            "120",
            "--json",
        ];
        let answer = self.json_quietly(&words)?;
        if answer["exit_code"] != 0 {
            bail!("`{line}` in the guest: {answer}");
        }
        let out = answer["stdout"].as_str().unwrap_or("").trim().to_owned();
        eprintln!("{out}");
        Ok(out)
    }

    /// Polls until `probe` has an answer.
    #[allow(
        clippy::disallowed_methods,
        reason = "a demonstration polls as a person would"
    )]
    pub(super) fn until<T>(
        &self,
        what: &str,
        seconds: u64,
        probe: impl Fn() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(value) = probe()? {
                return Ok(value);
            }
            if Instant::now() > deadline {
                bail!("waited {seconds} s for {what}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Sends SIGKILL to one daemon of this node, found by its command line among `hangar up`'s children.
    pub(super) fn kill_daemon(&self, name: &str) -> Result<()> {
        let parent = self.up.id();
        // A child is listed under the thread that started it.
        let mut children = String::new();
        for thread in std::fs::read_dir(format!("/proc/{parent}/task"))? {
            children += &std::fs::read_to_string(thread?.path().join("children"))?;
        }
        for pid in children.split_whitespace() {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = words.split(|byte| *byte == 0).next().unwrap_or_default();
            if Path::new(&*String::from_utf8_lossy(program))
                .file_name()
                .is_some_and(|file| file == name)
            {
                eprintln!("$ kill -9 {pid}   # {name}");
                let pid = rustix::process::Pid::from_raw(pid.parse()?).context("a process id")?;
                return Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?);
            }
        }
        bail!("no {name} among the children of hangar up ({children})")
    }

    /// Stops the node cleanly.
    pub(super) fn stop(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.up);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.up.wait()?;
        if !status.success() {
            bail!("hangar up ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if matches!(self.up.try_wait(), Ok(None)) {
            // Errors have nobody left to tell: the demonstration has already failed.
            let _ = self.stop();
        }
    }
}

fn shown(words: &[&str]) {
    eprintln!("$ hangar {}", words.join(" "));
}

fn hangar(dir: &Path) -> Command {
    let mut command = Command::new(shell::target_dir().join("release/hangar"));
    command
        .env("HANGAR_DATA", dir.join("node"))
        .env("HANGAR_ASSETS", guest_boot::assets_dir());
    command
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
