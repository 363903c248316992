//! Control groups (version 2) of the guest: `workload` for the workload, one below `exec` per command.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tokio::io::Interest;

use crate::sys;

const ROOT: &str = "/sys/fs/cgroup";

/// Name of the group the workload runs in.
pub(crate) const WORKLOAD: &str = "workload";

/// Name of the group above those of commands.
pub(crate) const EXEC: &str = "exec";

/// Has the kernel count memory and processes per group.
pub(crate) fn enable_controllers() {
    for controller in ["+memory", "+pids", "+cpu", "+io"] {
        // A kernel without one of them still works, it only counts less.
        if let Err(error) = write(&Path::new(ROOT).join("cgroup.subtree_control"), controller) {
            crate::console::say(&format!("cgroup controller {controller}: {error}"));
        }
    }
}

/// A group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes the group, unless it exists.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let path = Path::new(ROOT).join(name);
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// Keeps the group's memory below what is left now, so that a shortage is the group's own and ends with a kill in it.
    ///
    /// Of the whole guest's shortage the kernel makes no end as reliably: it evicts the pages of programs that run, reads
    /// them again, and may go on like that for minutes, this process among the victims. Swap is not counted.
    pub(crate) fn limit_memory(&self) {
        let limited = fs::read_to_string("/proc/meminfo").and_then(|text| match memory_limit(&text) {
            Some(bytes) => write(&self.path.join("memory.max"), &bytes.to_string()),
            None => Err(io::Error::other("/proc/meminfo has no MemAvailable")),
        });
        if let Err(error) = limited {
            crate::console::say(&format!("limit of memory of {}: {error}", self.path.display()));
        }
    }

    /// Opens the file that a process writes itself into to join.
    pub(crate) fn procs(&self) -> io::Result<OwnedFd> {
        Ok(File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"))?
            .into())
    }

    /// Kills every process of the group and of those below it.
    pub(crate) fn kill(&self) {
        if let Err(error) = write(&self.path.join("cgroup.kill"), "1") {
            crate::console::say(&format!("kill group {}: {error}", self.path.display()));
        }
    }

    /// Returns how many of the group's processes the kernel killed for want of memory. That counts kills of
    /// the whole guest's shortage too, not only those of a limit of the group.
    pub(crate) fn oom_kills(&self) -> u64 {
        read_count(
            &fs::read_to_string(self.path.join("memory.events")).unwrap_or_default(),
            "oom_kill",
        )
    }

    /// Waits until no process is left in the group and below.
    pub(crate) async fn emptied(&self) -> io::Result<()> {
        let path = self.path.join("cgroup.events");
        // The kernel signals a change of this file as priority data.
        let events = sys::watch(File::open(&path)?.into(), Interest::PRIORITY)?;
        while read_count(&fs::read_to_string(&path)?, "populated") != 0 {
            events.ready(Interest::PRIORITY).await?.clear_ready();
        }
        Ok(())
    }

    /// Removes the group if it is empty.
    pub(crate) fn remove(&self) {
        // Something the command left behind may live on.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Kept for the kernel and for this process when the workload takes all it can get, in KiB; at least, and as a share.
const RESERVE_KIB_MIN: u64 = 4 * 1024;
const RESERVE_SHARE: u64 = 64;

/// Returns how many bytes a workload may have, from what the kernel says of its memory.
fn memory_limit(meminfo: &str) -> Option<u64> {
    let kib = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    let reserve = RESERVE_KIB_MIN.max(total / RESERVE_SHARE);
    Some(available.saturating_sub(reserve).max(available / 2) * 1024)
}

fn read_count(text: &str, key: &str) -> u64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests;
