//! One supervised daemon: started, logged, restarted with back-off, stopped.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crashsafe::Disk as _;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::orphans;
use crate::node::Layout;

/// A log is set aside at a daemon's start when it is larger than this.
const LOG_BYTES_MAX: u64 = 32 << 20;
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// A daemon that ran this long was well: its next end starts the back-off anew.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    record: PathBuf,
}

impl Spec {
    pub(super) fn new(layout: &Layout, name: &str, program: PathBuf, arguments: Vec<OsString>) -> Self {
        let record = orphans::record_path(layout, name);
        Self {
            name: name.to_owned(),
            program,
            arguments,
            log: layout.log(name),
            record,
        }
    }
}

/// A supervised daemon.
#[derive(Debug)]
pub(super) struct Child {
    spec: Spec,
    ends: Arc<AtomicU32>,
    stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

impl Child {
    /// Starts it and keeps it running.
    pub(super) fn start(spec: Spec) -> Self {
        let ends = Arc::new(AtomicU32::new(0));
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let supervisor = Supervisor {
            spec: spec.clone(),
            ends: ends.clone(),
            stop: stop.clone(),
            kill: kill.clone(),
        };
        let task = daemon::spawn("supervise", supervisor.run());
        Self {
            spec,
            ends,
            stop,
            kill,
            task,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn log(&self) -> &Path {
        &self.spec.log
    }

    /// How often it ended by itself.
    pub(super) fn ends(&self) -> u32 {
        self.ends.load(Ordering::Acquire)
    }

    /// Sends SIGTERM, waits, and after `grace` SIGKILL.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            tracing::warn!(
                daemon = self.spec.name,
                "daemon did not end in time and was killed"
            );
            self.kill.cancel();
            let _ended = self.task.await;
        }
    }
}

struct Supervisor {
    spec: Spec,
    ends: Arc<AtomicU32>,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let mut back_off = BACK_OFF_MIN;
        while !self.stop.is_cancelled() {
            let begun = Instant::now();
            match self.once().await {
                Ok(Ended::Asked) => return,
                Ok(Ended::ByItself(status)) => {
                    tracing::warn!(daemon = self.spec.name, %status, "daemon ended and is restarted");
                }
                Err(error) => {
                    let program = self.spec.program.display();
                    tracing::error!(daemon = self.spec.name, %program, %error, "daemon could not be started");
                }
            }
            self.ends.fetch_add(1, Ordering::AcqRel);
            back_off = if begun.elapsed() > WELL_AFTER {
                BACK_OFF_MIN
            } else {
                back_off
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(back_off) => {}
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    async fn once(&self) -> std::io::Result<Ended> {
        let log = open_log(&self.spec.log)?;
        let mut child = Command::new(&self.spec.program)
            .args(&self.spec.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Its own group: an interrupt from the terminal is ours to pass on, in order.
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        if let Some(pid) = pid {
            orphans::remember(&self.spec.record, pid)?;
            tracing::info!(daemon = self.spec.name, pid, "daemon started");
        }
        let ended = tokio::select! {
            status = child.wait() => Ended::ByItself(status?),
            () = self.stop.cancelled() => {
                signal(pid, rustix::process::Signal::TERM);
                tokio::select! {
                    status = child.wait() => { status?; }
                    () = self.kill.cancelled() => child.kill().await?,
                }
                Ended::Asked
            }
        };
        orphans::forget(&self.spec.record);
        Ok(ended)
    }
}

enum Ended {
    Asked,
    ByItself(std::process::ExitStatus),
}

pub(super) fn signal(pid: Option<u32>, signal: rustix::process::Signal) {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended a moment ago, which is what was wanted.
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    let size = std::fs::metadata(path)
        .map(|metadata| metadata.len())
        .unwrap_or(0);
    if size > LOG_BYTES_MAX {
        crashsafe::RealDisk.rename("hangar:log_rotate", path, &path.with_extension("log.1"))?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// The last lines of a log, for an error message.
pub(super) fn tail(path: &Path) -> String {
    const LINES: usize = 12;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16 << 10)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests;
