//! Writes read-only EROFS file systems from a description of a tree, without root, mounts or helper programs.
//!
//! The writer is pure: a [`Tree`] and a [`Contents`] provider go in, bytes leave through an [`Output`] at ascending
//! offsets. The same input always gives the same bytes. Files are stored uncompressed, whole blocks in a data area
//! and the rest beside the inode; blocks of zeros are never written, so that the output may be a sparse file.
//!
//! The byte tables are in `docs/formats/image-store.md`; they follow the kernel's `fs/erofs/erofs_fs.h`, and use no
//! feature newer than Linux 5.4.

mod directory;
mod emit;
mod format;
mod plan;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::io;

pub use format::{BLOCK_BYTES, NAME_BYTES_MAX};

/// The index of an inode in a [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(usize);

impl InodeId {
    /// The root directory of every tree.
    pub const ROOT: Self = Self(0);

    /// Returns the position of this inode in the order of [`Tree::add`], the root being 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A moment in Unix time, as a file system stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Whole seconds since 1970, never negative.
    pub seconds: u64,
    /// 0..1_000_000_000.
    pub nanoseconds: u32,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, whose bytes the [`Contents`] provider knows.
    File { size_bytes: u64 },
    /// A directory: names (1..=255 bytes, no `/`, no NUL, neither `.` nor `..`) and what they name.
    Directory(BTreeMap<Vec<u8>, InodeId>),
    /// A symbolic link: 1..=4095 bytes.
    Symlink(Vec<u8>),
    /// A character device: major 0..4096, minor 0..2^20.
    CharacterDevice { major: u32, minor: u32 },
    /// A block device, in the same ranges.
    BlockDevice { major: u32, minor: u32 },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

/// One file, directory or device; several names may lead to it, except to a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Permission bits with set-id and sticky, `0o0000..=0o7777`; the file type comes from [`Inode::kind`].
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: FileTime,
    /// Full names (`security.capability`) and values of at most 65,535 bytes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub kind: Kind,
}

/// A tree of inodes below one root directory. Inodes that no directory names are left out of the image.
#[derive(Debug, Clone)]
pub struct Tree {
    inodes: Vec<Inode>,
}

impl Tree {
    /// Starts a tree with its root directory.
    ///
    /// # Panics
    /// When `root` is not a directory.
    #[must_use]
    pub fn new(root: Inode) -> Self {
        assert!(
            matches!(root.kind, Kind::Directory(_)),
            "the root of a tree is a directory"
        );
        Self { inodes: vec![root] }
    }

    /// Adds an inode that nothing names yet.
    pub fn add(&mut self, inode: Inode) -> InodeId {
        self.inodes.push(inode);
        InodeId(self.inodes.len() - 1)
    }

    /// Returns an inode of this tree.
    ///
    /// # Panics
    /// When `id` comes from another tree.
    #[must_use]
    pub fn get(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0]
    }

    /// Returns an inode of this tree for change.
    ///
    /// # Panics
    /// When `id` comes from another tree.
    pub fn get_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0]
    }

    /// Returns what `name` is in the directory `parent`; `None` when there is no such name or no such directory.
    #[must_use]
    pub fn child(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        match &self.get(parent).kind {
            Kind::Directory(children) => children.get(name).copied(),
            _ => None,
        }
    }
}

/// Gives the bytes of regular files.
pub trait Contents {
    /// Fills `buf` with the bytes of `file` from `offset` on; the range lies within the file's size.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being read.
    fn read_at(&mut self, file: InodeId, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// Takes the bytes of the image.
pub trait Output {
    /// Writes `bytes` at `offset`; offsets ascend and do not overlap, and what is skipped must read as zeros.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// What an image carries besides its tree.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The file system's UUID.
    pub uuid: [u8; 16],
    /// The build time in the superblock; inodes with exactly this `mtime` can be stored in the short form.
    pub build_time: FileTime,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The size of the image: a multiple of [`BLOCK_BYTES`]. Bytes never written up to here are zeros.
    pub size_bytes: u64,
    /// How many inodes the image has.
    pub inodes: u64,
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A directory holds a name that no file system can.
    #[error("file name {name:?}: a name is 1 to 255 bytes, without '/' or NUL, and not '.' or '..'")]
    Name { name: String },
    /// Two names lead to one directory, or a directory contains itself.
    #[error("directory {name:?} has two names")]
    LinkedDirectory { name: String },
    /// A symbolic link's target is empty or longer than 4,095 bytes.
    #[error("symbolic link {name:?} has a target of {bytes} bytes; the limit is 4095")]
    SymlinkTarget { name: String, bytes: usize },
    /// An extended attribute that the format cannot hold.
    #[error("extended attribute {xattr:?} of {name:?}: its name space or its size cannot be stored")]
    Xattr { name: String, xattr: String },
    /// The attributes of one inode together pass what its header can say.
    #[error("extended attributes of {name:?} take {bytes} bytes; the limit is 262140")]
    XattrsTooLarge { name: String, bytes: usize },
    /// A device number out of range.
    #[error("device {name:?} has number {major}:{minor}; the limits are 4095 and 1048575")]
    Device { name: String, major: u32, minor: u32 },
    /// The image would pass 2^32 blocks.
    #[error("the image would be larger than 16 TiB")]
    TooLarge,
    /// A file's bytes could not be read.
    #[error("read the content of {name:?}")]
    Contents {
        name: String,
        #[source]
        source: io::Error,
    },
    /// The image could not be written.
    #[error("write the image")]
    Output(#[source] io::Error),
}

/// Returns whether the format can hold an extended attribute of this full name.
#[must_use]
pub fn can_store_xattr(name: &[u8]) -> bool {
    format::split_xattr_name(name).is_some()
}

/// Writes the image of `tree`.
///
/// Cost: each file's bytes are read once; memory is a few hundred bytes per inode.
///
/// # Errors
/// [`WriteError`]; what was written until then is worthless.
pub fn write(
    tree: &Tree,
    options: &Options,
    contents: &mut dyn Contents,
    output: &mut dyn Output,
) -> Result<Summary, WriteError> {
    let plan = plan::Plan::new(tree, options)?;
    emit::emit(tree, options, &plan, contents, output)
}
