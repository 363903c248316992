//! Commands that run beside the databases.

mod shell_words;

pub use shell_words::{OpenQuote, split};

use std::{io, process::ExitStatus};

use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::config;

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// Its line cannot be split.
    #[error("command '{line}'")]
    Line {
        /// The line.
        line: String,
        /// What is wrong with it.
        source: OpenQuote,
    },
    /// It did not start.
    #[error("start '{line}'")]
    Start {
        /// The line.
        line: String,
        /// What the system said.
        source: io::Error,
    },
    /// One of those that must succeed first did not.
    #[error("'{line}' ended with {status}")]
    Ended {
        /// The line.
        line: String,
        /// How.
        status: ExitStatus,
    },
}

/// Runs all commands but the last, one after the other, and starts the last.
///
/// * `candidate`: whether the node may become primary.
/// * `stop`: ends what runs; then nothing is started any more.
///
/// # Errors
/// One cannot be started, or one of the first fails.
pub async fn start(
    commands: &[config::Command],
    candidate: bool,
    stop: &CancellationToken,
) -> Result<Option<Child>, SupervisorError> {
    let Some((last, first)) = commands.split_last() else {
        return Ok(None);
    };
    for command in first.iter().filter(|command| candidate || !command.if_candidate) {
        let mut child = spawn(&command.line)?;
        let status = wait(&mut child, stop).await;
        let status = status.map_err(|source| SupervisorError::Start {
            line: command.line.clone(),
            source,
        })?;
        if stop.is_cancelled() {
            return Ok(None);
        }
        if !status.success() {
            return Err(SupervisorError::Ended {
                line: command.line.clone(),
                status,
            });
        }
    }
    if last.if_candidate && !candidate || stop.is_cancelled() {
        return Ok(None);
    }
    spawn(&last.line).map(Some)
}

fn spawn(line: &str) -> Result<Child, SupervisorError> {
    let words = split(line).map_err(|source| SupervisorError::Line {
        line: line.to_owned(),
        source,
    })?;
    let (program, args) = words.split_first().ok_or_else(|| SupervisorError::Start {
        line: line.to_owned(),
        source: io::Error::from(io::ErrorKind::NotFound),
    })?;
    let started = Command::new(program).args(args).spawn();
    tracing::info!(line, "started command");
    started.map_err(|source| SupervisorError::Start {
        line: line.to_owned(),
        source,
    })
}

/// Waits for a command's end. When the node is to stop, the command is asked to, and waited for.
///
/// # Errors
/// As the system.
pub async fn wait(child: &mut Child, stop: &CancellationToken) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = stop.cancelled() => {}
    }
    if let Some(pid) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw)
    {
        let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if let Err(error) = asked {
            tracing::debug!(%error, "command was gone");
        }
    }
    child.wait().await
}
