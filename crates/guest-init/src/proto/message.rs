//! The JSON bodies of the protocol.
//!
//! Readers ignore fields they do not know; a change that an older peer would misread takes a new version.

use serde::{Deserialize, Serialize};

use super::config::{FsType, GuestConfig, NameRecord};

/// Opens a session; host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHello {
    /// Random, chosen by the host, echoed by the guest.
    pub session_id: String,
    /// Oldest protocol version the host speaks.
    pub version_min: u16,
    /// Newest protocol version the host speaks.
    pub version_max: u16,
    /// Number of the last event the host has stored; later ones are sent again. 0: all that are kept.
    #[serde(default)]
    pub events_after: u64,
}

/// Accepts a session, or says why not; guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The host's session id.
    pub session_id: String,
    /// Version spoken from here on; `None` when the two have none in common.
    pub version: Option<u16>,
    /// Oldest version the guest speaks.
    pub version_min: u16,
    /// Newest version the guest speaks.
    pub version_max: u16,
    /// The guest kernel's boot id: changes at each boot, survives suspend and resume.
    pub boot_id: String,
    /// How far the guest is.
    pub phase: Phase,
}

/// How far a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for [`Request::Config`].
    Waiting,
    /// Mounts and prepares.
    Preparing,
    /// The workload runs.
    Running,
    /// The workload has ended or is being ended; power-off follows.
    Stopping,
}

/// What the host asks for; each call gets one final [`Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Start the workload. Once per boot. Answered [`Reply::Done`] when it is accepted; events tell the rest.
    Config(Box<GuestConfig>),
    /// Run a command beside the workload. [`Reply::ExecStarted`], then [`Reply::ExecExit`] after the ends of
    /// both output streams.
    Exec(Exec),
    /// Send a signal to the workload's process.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// End the workload and power off.
    Stop {
        /// Signal to begin with.
        signal: i32,
        /// Time until everything is killed, in milliseconds.
        timeout_ms: u64,
    },
    /// Grow the file system of a volume to its device's size.
    Grow {
        /// The volume's device.
        serial: String,
        /// The size that the device must have reached, in bytes; waited for up to ten seconds.
        min_bytes: u64,
    },
    /// Report what the volumes' file systems hold.
    Usage,
    /// Replace all names of the app network.
    Names {
        /// The new records.
        records: Vec<NameRecord>,
    },
    /// Bring the guest into a state worth saving: file systems synced. Answered [`Reply::Done`].
    PrepareSuspend,
    /// The guest was restored from a saved state.
    Resumed {
        /// The host's wall clock, milliseconds since 1970.
        wall_clock_unix_ms: u64,
        /// Bytes of host randomness in hexadecimal.
        entropy: String,
    },
}

/// A command to run beside the workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; a program without a slash is searched for in `PATH`.
    pub command: Vec<String>,
    /// Added to the workload's environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// As [`GuestConfig::user`]; default: the workload's.
    #[serde(default)]
    pub user: Option<String>,
    /// Working directory; default: the workload's.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Time until the command and all it started are killed, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Whether the command reads the stdin stream; otherwise it reads nothing.
    #[serde(default)]
    pub stdin: bool,
    /// Gives the command a terminal of this size; its output is then all standard output.
    #[serde(default)]
    pub tty: Option<TtySize>,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// What the guest answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// The request was not carried out.
    Error {
        /// What kind of failure.
        kind: ErrorKind,
        /// A sentence for people.
        message: String,
    },
    /// The command runs. The only reply that is not final.
    ExecStarted {
        /// Its process id in the guest.
        pid: i32,
    },
    /// The command ended.
    ExecExit(ExecExit),
    /// The file system has this size now.
    Grown {
        /// Size by statfs, in bytes.
        fs_bytes: u64,
        /// Size of the device, in bytes.
        device_bytes: u64,
    },
    /// What the volumes' file systems hold.
    Usage(Vec<VolumeUsage>),
}

impl Reply {
    /// Returns whether the call ends with this reply.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::ExecStarted { .. })
    }
}

/// Kinds of failed requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Not in this phase: no workload yet, or configured already.
    WrongPhase,
    /// No such volume, program or user.
    NotFound,
    /// The program may not be run.
    NotExecutable,
    /// A field of the request makes no sense.
    Invalid,
    /// The device did not reach the size in time.
    Timeout,
    /// Too many commands at once.
    Busy,
    /// The kernel refused.
    Io,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal that killed it.
    pub signal: Option<i32>,
    /// Whether its time ran out.
    pub timed_out: bool,
}

/// What a volume's file system holds, by statfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUsage {
    /// The volume's device.
    pub serial: String,
    /// Its file system.
    pub fstype: FsType,
    /// Bytes per block.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for users other than root.
    pub blocks_avail: u64,
    /// Size of the device, in bytes.
    pub device_bytes: u64,
}

/// An event with its number; numbers start at 1 and grow by 1 per boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// The number; 0 for [`Event::Heartbeat`], which is never repeated.
    pub seq: u64,
    /// What happened.
    pub event: Event,
}

/// What happened in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A blank volume got its file system.
    Formatted {
        /// The volume's device.
        serial: String,
        /// Its file system.
        fstype: FsType,
    },
    /// A volume is mounted. Its file system was grown to its device's size, unless the kernel refused.
    Mounted {
        /// The volume's device.
        serial: String,
        /// Size by statfs, in bytes.
        fs_bytes: u64,
    },
    /// A volume cannot be used. The workload is not started; [`Event::Failed`] follows.
    VolumeError {
        /// The volume's device.
        serial: String,
        /// A sentence for people.
        message: String,
    },
    /// The workload runs.
    Started {
        /// Its process id in the guest.
        pid: i32,
    },
    /// The workload could not be started; power-off follows.
    Failed {
        /// A sentence for people.
        message: String,
        /// Exit code as a shell would give it: 127 not found, 126 not executable, 125 otherwise.
        code: i32,
    },
    /// The workload ended; power-off follows.
    Exited {
        /// Exit code, when it ended by itself.
        code: Option<i32>,
        /// Signal that killed it.
        signal: Option<i32>,
        /// Whether the kernel killed it, or something it had started, for want of memory.
        oom_killed: bool,
        /// Whether the end was asked for by [`Request::Stop`].
        requested_stop: bool,
    },
    /// Volumes are unmounted (or not, in time); the machine powers off now.
    PoweringOff {
        /// Volumes that could not be unmounted in time; they were synced and detached.
        busy: Vec<String>,
    },
    /// What the workload wrote was lost because no host read it.
    LogLost {
        /// How many bytes.
        bytes: u64,
    },
    /// The guest is alive; every five seconds while a session is open.
    Heartbeat {
        /// Time since boot, in milliseconds.
        uptime_ms: u64,
    },
}

#[cfg(test)]
mod tests;
