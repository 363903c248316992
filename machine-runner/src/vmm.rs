//! Virtual machine monitors: what every back end must be able to say and do.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub mod qemu;
pub mod qmp;
pub mod spec;

/// What a back end can do; asked before an operation is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // a set of independent abilities, named
pub struct Capabilities {
    /// A file or block device grows under a running guest.
    pub live_grow: bool,
    /// A disk grown behind a vhost-user socket is noticed by the guest.
    pub live_grow_vhost_user: bool,
    /// What the guest discards is given back to the host.
    pub discard: bool,
    /// A disk can be copied at a point in time while the guest writes.
    pub live_copy: bool,
    /// The guest's memory can be written away and read back.
    pub suspend: bool,
    /// A disk can be added to a running guest.
    pub hot_add: bool,
    /// A guest's panic is told apart from its reset.
    pub panic_event: bool,
}

/// Why an operation on a virtual machine was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmmError {
    /// The monitor's control channel.
    #[error("control the virtual machine")]
    Control(#[from] qmp::QmpError),
    /// The file system or a process.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it went wrong.
        #[source]
        source: std::io::Error,
    },
    /// No disk with this serial.
    #[error("no disk with serial {serial} in this virtual machine")]
    UnknownDisk {
        /// As asked.
        serial: String,
    },
    /// A disk may only grow.
    #[error("disk {serial} has {now_bytes} bytes and was to get {wanted_bytes}: a disk never shrinks")]
    Shrink {
        /// Serial.
        serial: String,
        /// Present size.
        now_bytes: u64,
        /// Wanted size.
        wanted_bytes: u64,
    },
    /// The monitor ended before it was ready, or while it was needed.
    #[error("qemu ended ({status}); its last words: {words}")]
    Ended {
        /// Exit status.
        status: String,
        /// The end of what it wrote to standard error.
        words: String,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {} s", limit.as_secs())]
    Timeout {
        /// What.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// A job of the monitor failed.
    #[error("{what}: {reason}")]
    Job {
        /// Which job.
        what: &'static str,
        /// The monitor's reason.
        reason: String,
    },
}

/// How far a virtual machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmStatus {
    /// The guest's processors run.
    Running,
    /// They do not, but the memory is there.
    Paused,
    /// The process is gone or about to.
    Ended,
}

/// A running virtual machine.
#[async_trait]
pub trait Vmm: Send + Sync + std::fmt::Debug {
    /// What this back end can do.
    fn capabilities(&self) -> Capabilities;

    /// How far it is.
    async fn status(&self) -> Result<VmStatus, VmmError>;

    /// Stops the guest's processors.
    async fn pause(&self) -> Result<(), VmmError>;

    /// Lets the guest's processors run again.
    async fn cont(&self) -> Result<(), VmmError>;

    /// Tells the guest the size of a disk whose backing has at least that size or can be given it. The same size
    /// again announces it again. Never smaller.
    async fn resize_disk(&self, serial: &str, size_bytes: u64) -> Result<(), VmmError>;

    /// Copies the bytes of a disk's backing file as they are when the copy begins into `target`, which exists. Copies
    /// are made one after the other; one that has succeeded is not made again under its `copy_id`, and one that is
    /// given up is broken off. Must be awaited to its end, or the copy goes on unobserved until the next one begins.
    async fn copy_disk(
        &self,
        serial: &str,
        target: &Path,
        copy_id: &str,
        given_up: &CancellationToken,
    ) -> Result<(), VmmError>;

    /// Writes memory and devices into `path` while the guest is paused. The machine stays as it is.
    async fn save(&self, path: &Path) -> Result<SavedImage, VmmError>;

    /// Ends the virtual machine at once.
    async fn quit(&self) -> Result<(), VmmError>;
}

/// Facts of a written RAM image; checked before it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedImage {
    /// Length in bytes.
    pub bytes: u64,
    /// CRC-32 (IEEE) of all bytes.
    pub crc32: u32,
}
