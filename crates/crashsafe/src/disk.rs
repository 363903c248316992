//! The port: every operation on a disk that durable code is built from.

use std::fmt::Debug;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Allow reading.
    pub read: bool,
    /// Allow writing.
    pub write: bool,
    /// Create the file when it is missing.
    pub create: bool,
    /// Create the file, or fail with `AlreadyExists`.
    pub create_new: bool,
    /// Cut the file to nothing.
    pub truncate: bool,
    /// Bypass the page cache where the file system can; offsets, lengths and buffers must then be aligned to 4 KiB.
    pub direct: bool,
    /// Permission bits of a file that is created.
    pub mode: u32,
}

impl OpenOptions {
    /// An existing file, to be read.
    pub const READ: Self = Self {
        read: true,
        write: false,
        create: false,
        create_new: false,
        truncate: false,
        direct: false,
        mode: 0o600,
    };
    /// An existing file, to be read and written.
    pub const READ_WRITE: Self = Self {
        write: true,
        ..Self::READ
    };
    /// A file to be read and written, created (0600) when it is missing.
    pub const CREATE: Self = Self {
        create: true,
        ..Self::READ_WRITE
    };
    /// A new file (0600), to be read and written.
    pub const CREATE_NEW: Self = Self {
        create_new: true,
        ..Self::READ_WRITE
    };
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::READ
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The file's length in bytes; 0 for a directory.
    pub len: u64,
}

/// What is known of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The file's length in bytes; 0 for a directory.
    pub len: u64,
    /// The bytes that it takes on the disk; extents shared by reflink count for each file.
    pub allocated_bytes: u64,
}

/// The room of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// What an unprivileged writer can still take, in bytes.
    pub free_bytes: u64,
}

/// A file system as durable code sees it.
///
/// Calls block; asynchronous code makes them on a thread of its own. Each takes a `label` that names the operation of
/// the caller (`"pool:create"`): a recorder joins it with the call (`"pool:create:rename"`), so that a test can aim at it.
///
/// Durability, the same for every implementation:
/// * what was written to a file survives a power cut from the next [`DiskFile::sync_data`] or `sync_all` of that file on;
/// * a name that was created, renamed or removed stays so from the next [`sync_dir`](Self::sync_dir) of its directory
///   on; a synced file without a synced name may be gone;
/// * before that each change may survive or not, in any combination, except that a rename is never seen half done.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file; the label also names every call on the file.
    ///
    /// # Errors
    /// As the system: `NotFound`, `AlreadyExists`, and so on.
    fn open(&self, label: &'static str, path: &Path, options: OpenOptions) -> Result<Box<dyn DiskFile>>;

    /// Creates a directory (0700) and those above it that are missing; nothing happens when it is there. Syncs nothing:
    /// see [`crate::create_dir_durable`].
    ///
    /// # Errors
    /// As the system.
    fn create_dir_all(&self, label: &'static str, path: &Path) -> Result<()>;

    /// Removes a file's name. The bytes go with the last open handle.
    ///
    /// # Errors
    /// As the system; `NotFound` when there is no such file.
    fn remove_file(&self, label: &'static str, path: &Path) -> Result<()>;

    /// Removes a directory and everything below it.
    ///
    /// # Errors
    /// As the system; `NotFound` when there is no such directory.
    fn remove_dir_all(&self, label: &'static str, path: &Path) -> Result<()>;

    /// Renames a file or directory, replacing a file of the new name in one step.
    ///
    /// # Errors
    /// As the system.
    fn rename(&self, label: &'static str, from: &Path, to: &Path) -> Result<()>;

    /// Makes the names in `path` durable.
    ///
    /// # Errors
    /// As the system. After an error nothing is known about what is durable.
    fn sync_dir(&self, label: &'static str, path: &Path) -> Result<()>;

    /// Creates `to` (0600) as a copy of `from` that shares its extents: what `from` held at that instant, synced or not.
    /// The copy needs its own sync, and its directory too.
    ///
    /// # Errors
    /// `Unsupported` where the file system cannot, and then `to` does not exist; `AlreadyExists` when it did before;
    /// else as the system.
    fn reflink(&self, label: &'static str, from: &Path, to: &Path) -> Result<()>;

    /// Returns where two files may differ, in order, or `None` where that cannot be told. Elsewhere both have the same
    /// blocks, or none: nothing is read. What only the longer one has is a difference.
    ///
    /// Both must be synced, and nobody may write to them meanwhile.
    ///
    /// # Errors
    /// As the system.
    fn differences(&self, _one: &Path, _other: &Path) -> Result<Option<Vec<Range<u64>>>> {
        Ok(None)
    }

    /// Lists a directory, sorted by name.
    ///
    /// # Errors
    /// As the system; `InvalidData` for a name that is not UTF-8, which nothing of ours creates.
    fn list(&self, path: &Path) -> Result<Vec<Entry>>;

    /// Returns what is known of `path`, or `None` when there is nothing.
    ///
    /// # Errors
    /// As the system, `NotFound` excepted.
    fn stat(&self, path: &Path) -> Result<Option<Stat>>;

    /// Returns the room of the file system that holds `path`.
    ///
    /// # Errors
    /// As the system.
    fn space(&self, path: &Path) -> Result<Space>;
}

/// An open file of a [`Disk`].
#[allow(clippy::len_without_is_empty)] // an empty file is nothing special here
pub trait DiskFile: Send + Sync + Debug {
    /// Reads into `bytes` from `offset` on; fewer bytes than asked for come back only where the file ends.
    ///
    /// # Errors
    /// As the system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file as needed.
    ///
    /// # Errors
    /// As the system; some of the bytes may then be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Cuts or grows the file to `len` bytes; what is added reads zero and takes no room.
    ///
    /// # Errors
    /// As the system.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Reserves room for `len` bytes from `offset` on, and grows the file to their end if it is shorter.
    ///
    /// # Errors
    /// As the system: `StorageFull`, or `Unsupported` where the file system cannot.
    fn allocate(&self, offset: u64, len: u64) -> Result<()>;

    /// Makes `len` bytes from `offset` on read zero and gives their room back; the file keeps its length.
    ///
    /// # Errors
    /// As the system.
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()>;

    /// Makes the file's bytes and its length durable, but not its name.
    ///
    /// # Errors
    /// As the system. After an error the bytes written since the last success may be lost for good, whatever a second
    /// call says: the caller must treat the file as damaged.
    fn sync_data(&self) -> Result<()>;

    /// As [`sync_data`](Self::sync_data), with times and permissions too.
    ///
    /// # Errors
    /// As `sync_data`.
    fn sync_all(&self) -> Result<()>;

    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// As the system.
    fn len(&self) -> Result<u64>;

    /// Returns the next run of bytes at or after `offset` that may be other than zero, or `None` when only holes follow.
    /// The start is `offset` or the run's own; a file system that knows no holes gives everything as one run.
    ///
    /// # Errors
    /// As the system.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>>;

    /// Returns the descriptor, for bulk reads and writes outside this trait, or `None` where those would escape a
    /// recorder or a simulation: then the caller uses this trait.
    fn as_raw_fd(&self) -> Option<RawFd>;

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else as [`read_at`](Self::read_at).
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let wanted = bytes.len();
        let read = self.read_at(bytes, offset)?;
        if read == wanted {
            return Ok(());
        }
        let message = format!("{wanted} bytes wanted at {offset}, the file gave {read}");
        Err(Error::new(ErrorKind::UnexpectedEof, message))
    }
}

impl<D: Disk + ?Sized> Disk for Arc<D> {
    fn open(&self, label: &'static str, path: &Path, options: OpenOptions) -> Result<Box<dyn DiskFile>> {
        (**self).open(label, path, options)
    }
    fn create_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        (**self).create_dir_all(label, path)
    }
    fn remove_file(&self, label: &'static str, path: &Path) -> Result<()> {
        (**self).remove_file(label, path)
    }
    fn remove_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        (**self).remove_dir_all(label, path)
    }
    fn rename(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        (**self).rename(label, from, to)
    }
    fn sync_dir(&self, label: &'static str, path: &Path) -> Result<()> {
        (**self).sync_dir(label, path)
    }
    fn reflink(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        (**self).reflink(label, from, to)
    }
    fn differences(&self, one: &Path, other: &Path) -> Result<Option<Vec<Range<u64>>>> {
        (**self).differences(one, other)
    }
    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        (**self).list(path)
    }
    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        (**self).stat(path)
    }
    fn space(&self, path: &Path) -> Result<Space> {
        (**self).space(path)
    }
}
