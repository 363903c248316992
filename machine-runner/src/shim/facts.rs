//! What daemon and shim tell each other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use guest_init::proto::GuestConfig;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::vmm::SavedImage;
use crate::vmm::spec::VmSpec;

/// Socket of the shim, in the machine's directory.
pub const SHIM_SOCKET: &str = "shim.sock";
/// Status of the last run, in the machine's directory.
pub const STATUS_FILE: &str = "status.json";
/// The RAM image, in the machine's directory.
pub const RAM_FILE: &str = "ram.img";
/// What the shim itself writes, in the machine's directory.
pub const SHIM_LOG: &str = "shim.log";

/// One run of a machine; arrives on the shim's standard input, because it holds secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// Id of this boot.
    pub boot_id: String,
    /// The virtual machine.
    pub vm: VmSpec,
    /// What the guest is told.
    pub guest: GuestConfig,
    /// The RAM image to start from; a cold boot without.
    pub resume: Option<SavedImage>,
    /// Seconds until the guest must have said hello.
    pub boot_limit_s: u64,
}

/// A process that cannot be taken for another one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

impl ProcessRef {
    /// The process that has this id now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start_ticks = start_ticks(&stat)?;
        Some(Self { pid, start_ticks })
    }

    /// Whether this very process still runs (a zombie does not).
    #[must_use]
    pub fn is_alive(self) -> bool {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else {
            return false;
        };
        let zombie = stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
        !zombie && start_ticks(&stat) == Some(self.start_ticks)
    }
}

/// The command's name may hold anything, brackets and spaces too: fields are counted from its last bracket.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// QEMU or the guest's kernel is coming up.
    Booting,
    /// The workload runs.
    Running,
    /// The RAM image is complete and QEMU is gone.
    Suspended,
    /// QEMU is gone.
    Ended,
}

/// What the shim knows; written to [`STATUS_FILE`] at each change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Grows by one with each change.
    pub seq: u64,
    /// Id of the boot.
    pub boot_id: String,
    /// The shim.
    pub shim: ProcessRef,
    /// QEMU.
    pub qemu: Option<ProcessRef>,
    /// How far the run is.
    pub phase: RunPhase,
    /// When the workload started, or was resumed.
    pub started_at: Option<Timestamp>,
    /// Whether the run began from a RAM image.
    pub resumed: bool,
    /// How it ended.
    pub exit: Option<ExitReport>,
    /// The RAM image that was written.
    pub saved: Option<SavedImage>,
    /// What the guest said about its volumes, by serial.
    pub volumes: BTreeMap<String, VolumeFacts>,
    /// Why the guest stands still, while the host has no room for what it writes.
    #[serde(default)]
    pub stalled: Option<String>,
}

/// What the guest said about a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// File system that the guest has just made.
    pub formatted: Option<String>,
    /// Size of the mounted file system, in bytes.
    pub fs_bytes: Option<u64>,
    /// Why the volume cannot be used.
    pub error: Option<String>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// The workload ended.
    Exited,
    /// The workload could not be started.
    NotStarted,
    /// The guest's kernel or its first process crashed.
    Panic,
    /// The guest did not say hello in time.
    BootTimeout,
    /// The guest was killed from outside: a stop ran out of time, or a kill was asked for.
    Killed,
    /// QEMU ended without a word from the guest.
    VmmLost,
    /// QEMU could not be started.
    VmmFailed,
    /// The shim died; found by the daemon.
    ShimLost,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Why.
    pub cause: ExitCause,
    /// Exit code of the workload.
    pub guest_exit_code: Option<i32>,
    /// Signal that killed the workload.
    pub guest_signal: Option<i32>,
    /// Whether the guest's kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Whether the end was asked for.
    pub requested_stop: bool,
    /// A sentence, where there is more to say.
    pub message: Option<String>,
    /// Whether another start would end the same way.
    #[serde(default)]
    pub lasting: bool,
    /// When.
    pub exited_at: Timestamp,
}

impl ExitReport {
    /// Whether the workload succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.cause == ExitCause::Exited && self.guest_exit_code == Some(0)
    }

    /// One number as a shell would give it.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match (self.guest_exit_code, self.guest_signal) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) if self.cause == ExitCause::Killed => 137,
            (None, None) => 1,
        }
    }
}

/// `POST /stop` of the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Signal number.
    pub signal: i32,
    /// Time until the workload is killed, in milliseconds.
    pub timeout_ms: u64,
}

/// `POST /exec` of the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Standard input, whole.
    pub stdin: Option<String>,
    /// Time until the command is killed, in milliseconds.
    pub timeout_ms: u64,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutcome {
    /// Exit code.
    pub exit_code: Option<i32>,
    /// Signal.
    pub exit_signal: Option<i32>,
    /// Whether its time ran out.
    pub timed_out: bool,
    /// Standard output, text; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Whether output beyond the limit was dropped.
    pub truncated: bool,
}

/// `POST /grow` of the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrowRequest {
    /// Serial of the disk.
    pub serial: String,
    /// New size of the device, in bytes.
    pub size_bytes: u64,
}

/// Answer to [`GrowRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grown {
    /// Size of the file system, in bytes.
    pub fs_bytes: u64,
    /// Size of the device, in bytes.
    pub device_bytes: u64,
}

/// `POST /copy` of the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// Serial of the disk.
    pub serial: String,
    /// File to write to; exists.
    pub target_path: PathBuf,
    /// Makes a repeated call find the first one's result.
    pub copy_id: String,
}

/// `POST /signal` of the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRequest {
    /// Signal number.
    pub signal: i32,
}

#[cfg(test)]
mod tests;
