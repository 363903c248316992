//! Daemons that outlived a killed `hangar up`: found by process id and start time, and ended before new ones start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::UpError;
use super::child::signal;
use crate::node::{DAEMONS, Layout};

/// How long an orphan may take to end after SIGTERM, and then after SIGKILL.
const GRACE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

/// Where a daemon's process is written down.
pub(super) fn record_path(layout: &Layout, name: &str) -> PathBuf {
    layout.below("run").join(format!("{name}.pid"))
}

/// Writes a process down: id, and start time so that a later process of the same id is not mistaken for it.
pub(super) fn remember(record: &Path, pid: u32) -> std::io::Result<()> {
    let Some(start_ticks) = start_ticks(pid) else {
        return Ok(());
    };
    let text = format!("{pid} {start_ticks}\n");
    crashsafe::write_atomic(&crashsafe::RealDisk, "hangar:pid", record, text.as_bytes(), 0o600)
}

/// Removes the record of a process that has ended.
pub(super) fn forget(record: &Path) {
    // A record left behind names a process that is no more, which `end` sees.
    let _gone = std::fs::remove_file(record);
}

/// Ends what an earlier `hangar up` left behind. Guests are no such thing: they belong to their shims.
pub(super) async fn end(layout: &Layout) -> Result<(), UpError> {
    for name in DAEMONS.iter().rev().chain(&["s3"]) {
        let record = record_path(layout, name);
        if let Some(pid) = living(&record) {
            tracing::warn!(daemon = *name, pid, "daemon of an earlier run is ended");
            end_one(name, pid, &record).await?;
        }
        forget(&record);
    }
    Ok(())
}

async fn end_one(name: &str, pid: u32, record: &Path) -> Result<(), UpError> {
    for kind in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        signal(Some(pid), kind);
        let gone = async {
            while living(record).is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(GRACE, gone).await.is_ok() {
            return Ok(());
        }
    }
    Err(UpError::Orphan {
        name: name.to_owned(),
        pid: pid.cast_signed(),
    })
}

/// The recorded process, when it is that process that lives.
fn living(record: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(record).ok()?;
    let (pid, ticks) = text.trim().split_once(' ')?;
    let pid: u32 = pid.parse().ok()?;
    (start_ticks(pid)? == ticks.parse::<u64>().ok()?).then_some(pid)
}

/// Field 22 of `/proc/PID/stat`; None when there is no such process, or only its zombie.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests;
