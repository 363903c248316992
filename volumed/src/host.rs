//! Volumes mounted on the host itself, so that a database without a machine can live on one.
//!
//! What the kernel has (loop devices, mappings, mounts) outlives volumed and dies with the host: every call looks first and
//! does what is missing.

mod export_file;
mod ext4;
pub mod linux;
mod mount_table;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::command::CommandError;
use crate::pool::Device;
use crate::volume::{FsType, FsUsage, VolumeId};

/// Stands in a volume's record for the machine that holds it. No machine has this id.
pub const HOLDER: &str = "host";

/// What a block device holds, as far as formatting is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// First and last MiB read as zeros.
    Blank,
    /// Anything else.
    Something,
}

/// Why the host did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Something else is mounted there.
    #[error("{} is where {mounted} is mounted; unmount that or choose another directory", path.display())]
    Occupied {
        /// The mount point.
        path: PathBuf,
        /// What is there.
        mounted: String,
    },
    /// A mount would hide files.
    #[error("{} is not an empty directory; choose another one, or move what is in there", path.display())]
    NotEmpty {
        /// The mount point.
        path: PathBuf,
    },
    /// Somebody has files open.
    #[error("{} is in use; end what has files or directories open there, then try again", path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// A program was not there, or ended with an error.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A program's output is not what it prints by its documentation.
    #[error("{program} printed {said:?}")]
    Output {
        /// Which.
        program: &'static str,
        /// What it printed.
        said: String,
    },
}

/// The host's devices and mounts. Every call is idempotent: after a crash, or a boot, the same call comes again.
#[async_trait]
pub trait HostMounts: Send + Sync + Debug {
    /// Makes the plaintext of an activated slice a block device and returns its node.
    async fn map(&self, id: &VolumeId, device: &Device) -> Result<PathBuf, HostError>;

    /// Takes that block device away.
    async fn unmap(&self, id: &VolumeId, device: &Device) -> Result<(), HostError>;

    /// Looks at the first and last MiB of a block device of `size_bytes`.
    async fn content(&self, block: &Path, size_bytes: u64) -> Result<Content, HostError>;

    /// Makes a file system; what was on the device is lost.
    async fn format(&self, block: &Path, fstype: FsType) -> Result<(), HostError>;

    /// Mounts a block device on a directory, which is made when missing and must be empty.
    ///
    /// An ext4 that is smaller than its device is checked and grown before: not every one can be grown while it is mounted.
    /// One that cannot be grown is mounted as it is; [`grow`](Self::grow) says then what is in the way.
    async fn mount(&self, block: &Path, path: &Path, fstype: FsType) -> Result<(), HostError>;

    /// Unmounts the slice from a directory; anything else mounted there stays.
    async fn unmount(&self, id: &VolumeId, device: &Device, path: &Path) -> Result<(), HostError>;

    /// Makes block device and mounted file system as large as the slice.
    async fn grow(
        &self,
        id: &VolumeId,
        device: &Device,
        path: &Path,
        fstype: FsType,
    ) -> Result<FsUsage, HostError>;

    /// Writes out what was written to the file system mounted on `path`.
    async fn sync(&self, path: &Path) -> Result<(), HostError>;

    /// Counts the file system mounted on `path`; an error when none is.
    async fn usage(&self, path: &Path) -> Result<FsUsage, HostError>;
}
