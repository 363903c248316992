//! The floor of a start: the same QEMU command line without any of our daemons.

use super::Start;
use anyhow::{Context, Result, bail};
use guest_init::proto::{Event, GuestConfig, Incoming, Request, Session};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::Instant,
};

/// A QEMU command line to start again and again.
pub(super) struct Bare {
    program: PathBuf,
    args: Vec<String>,
    overlay_bytes: u64,
    config: GuestConfig,
}

/// What of a machine's networks the bare guest has.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Networks {
    /// A card to the world that nobody sets up.
    Least,
    /// Both cards, set up by guest-init as in a machine.
    Both,
}

/// Ends the process when dropped.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bare {
    /// Takes the command line of the QEMU that runs in the machine directory `dir`.
    pub(super) fn of_running_machine(dir: &Path, networks: Networks) -> Result<Self> {
        let dir = fs::canonicalize(dir)?;
        let words = processes()?.find_map(|process| {
            let here = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == dir);
            let words = fs::read(process.join("cmdline")).ok()?;
            let words: Vec<String> = words
                .split(|byte| *byte == 0)
                .map(|w| String::from_utf8_lossy(w).into_owned())
                .collect();
            (here && words[0].contains("qemu-system")).then_some(words)
        });
        let words = words.with_context(|| format!("a QEMU process in {}", dir.display()))?;
        let mut args = Vec::new();
        let mut rest = words[1..words.len() - 1].iter().peekable();
        while let Some(word) = rest.next() {
            let of_app_network = rest
                .peek()
                .is_some_and(|value| value.contains("id=app,") || value.contains("netdev=app"));
            if networks == Networks::Least && word.starts_with('-') && of_app_network {
                rest.next();
            } else {
                args.push(word.clone());
            }
        }
        let overlay_bytes = fs::metadata(dir.join("overlay.img"))?.len();
        let config = config((networks == Networks::Both).then(|| set_up(&args)).transpose()?)?;
        Ok(Self {
            program: PathBuf::from(&words[0]),
            args,
            overlay_bytes,
            config,
        })
    }

    /// Starts it in a fresh directory, measures until the workload runs, and ends it.
    pub(super) async fn start(&self) -> Result<Start> {
        let dir = tempfile::Builder::new().prefix("hg").tempdir_in("/tmp")?;
        File::create(dir.path().join("overlay.img"))?.set_len(self.overlay_bytes)?;
        let (called, begun) = (SystemTime::from(daemon::wall_clock::now()), Instant::now());
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let qemu = Qemu(command.spawn()?);
        let socket = dir.path().join("agent.sock");
        let started = tokio::time::timeout(Duration::from_secs(60), until_started(&socket, &self.config));
        started
            .await
            .context("the bare guest did not start within a minute")??;
        let whole = begun.elapsed();
        let until_qemu = listening_since(dir.path())?.duration_since(called)?;
        drop(qemu);
        Ok(Start { until_qemu, whole })
    }
}

/// Returns when the QEMU of a machine's directory began to listen to its guest's agent, the last thing before the boot.
pub(super) fn listening_since(dir: &Path) -> Result<SystemTime> {
    let socket = dir.join("agent.sock");
    let bound = fs::symlink_metadata(&socket).with_context(|| format!("look at {}", socket.display()))?;
    Ok(bound.modified()?)
}

fn processes() -> Result<impl Iterator<Item = PathBuf>> {
    let numbered = |name: &std::ffi::OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    Ok(fs::read_dir("/proc")?
        .flatten()
        .filter(move |entry| numbered(&entry.file_name()))
        .map(|entry| entry.path()))
}

/// Plays the host's part on the agent port until the guest says that its workload runs.
async fn until_started(socket: &Path, config: &GuestConfig) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut stream = loop {
        ticks.tick().await;
        if let Ok(stream) = UnixStream::connect(socket).await {
            break stream;
        }
    };
    let mut session = Session::host();
    session.open(&daemon::random::hex(16), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let sent = session.outgoing().len();
        if sent > 0 {
            stream.write_all(session.outgoing()).await?;
            session.sent(sent);
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            bail!("QEMU closed the agent port");
        }
        session.receive(&buffer[..read]);
        while let Some(incoming) = session.next()? {
            match incoming {
                Incoming::Hello(_) => {
                    session.request(&Request::Config(Box::new(config.clone())))?;
                }
                Incoming::Event(numbered) if matches!(numbered.event, Event::Started { .. }) => return Ok(()),
                Incoming::Event(numbered) if matches!(numbered.event, Event::Failed { .. }) => {
                    bail!("the bare guest's workload: {:?}", numbered.event)
                }
                _ => {}
            }
        }
    }
}

fn config(network: Option<Value>) -> Result<GuestConfig> {
    let argv = ["/bin/sh", "-c", "while true; do sleep 1; done"];
    let mut config = json!({"hostname": "bare", "machine_id": "bare", "argv": argv});
    if let Some(network) = network {
        config["network"] = network;
    }
    Ok(serde_json::from_value(config)?)
}

/// Describes both cards of the command line as machine-runner describes them to a guest.
fn set_up(args: &[String]) -> Result<Value> {
    let mac = |netdev: &str| {
        let card = args
            .iter()
            .find(|word| word.contains(&format!("netdev={netdev},")));
        let mac = card.and_then(|word| word.split_once("mac="));
        mac.map(|(_, mac)| mac.to_owned())
            .with_context(|| format!("the MAC address of {netdev}"))
    };
    Ok(json!({
        "user_net": {"mac": mac("world")?},
        "app_net": {"mac": mac("app")?, "address": "fdaa:0:1::2", "prefix": 48},
    }))
}
