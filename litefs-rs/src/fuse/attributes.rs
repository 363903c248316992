//! What a file is: its kind, its mode, its size.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::{
    errno,
    fs::Mount,
    inodes::ROOT,
    special::{LAG_BYTES, POS_BYTES, content},
};
use crate::{
    db::{Role, files::FileKind},
    name::MountName,
};

/// How long the kernel may believe what it was told: everything that changes a file goes through it, or it is told.
pub(super) const VALID: Duration = Duration::from_secs(3600);
/// For what changes by itself.
pub(super) const NOT_VALID: Duration = Duration::ZERO;

/// Returns how long the kernel may believe in what it is told of a file.
pub(super) fn validity(target: &MountName) -> Duration {
    match target {
        MountName::Database(_) | MountName::SideFile(..) => VALID,
        MountName::Lag
        | MountName::Primary
        | MountName::Pos(_)
        | MountName::Lock(_)
        | MountName::SuperJournal(_) => NOT_VALID,
    }
}

/// Returns what the directory is.
pub(super) fn of_root(mount: &Mount) -> FileAttr {
    let perm = match mount.store.role() {
        Role::Primary => 0o777,
        Role::Replica => 0o555,
    };
    FileAttr {
        kind: FileType::Directory,
        nlink: 2,
        ..plain(mount, ROOT, perm, 0, UNIX_EPOCH)
    }
}

/// Returns what a file is by its name.
pub(super) fn of(mount: &Mount, number: u64, target: &MountName) -> Result<FileAttr, Errno> {
    match target {
        MountName::Lag => Ok(plain(mount, number, 0o444, LAG_BYTES, mount.now())),
        MountName::Primary | MountName::Lock(_) => {
            let content = content(mount, target).ok_or(Errno::ENOENT)?;
            Ok(plain(mount, number, 0o444, content.len() as u64, UNIX_EPOCH))
        }
        MountName::Pos(database) => {
            let slot = mount.store.get(database).ok_or(Errno::ENOENT)?;
            let since = slot.noted().since_ms.and_then(|ms| u64::try_from(ms).ok());
            let since = UNIX_EPOCH + Duration::from_millis(since.unwrap_or(0));
            Ok(plain(mount, number, 0o666, POS_BYTES, since))
        }
        MountName::Database(_) | MountName::SideFile(..) | MountName::SuperJournal(_) => {
            let path = mount.path(target).ok_or(Errno::ENOENT)?;
            let metadata = std::fs::metadata(path).map_err(|error| errno::of_io(&error))?;
            Ok(of_file(mount, number, target, &metadata))
        }
    }
}

/// Returns what a file is that is open.
pub(super) fn of_file(mount: &Mount, number: u64, target: &MountName, metadata: &Metadata) -> FileAttr {
    let read_only = matches!(target, MountName::Database(_)) && mount.store.role() == Role::Replica;
    let perm = if read_only { 0o444 } else { 0o666 };
    let mtime = metadata.modified().unwrap_or(UNIX_EPOCH);
    FileAttr {
        blocks: metadata.blocks(),
        ..plain(mount, number, perm, metadata.len(), mtime)
    }
}

fn plain(mount: &Mount, number: u64, perm: u16, size: u64, mtime: SystemTime) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: mtime,
        mtime,
        ctime: mtime,
        crtime: mtime,
        kind: FileType::RegularFile,
        perm,
        nlink: 1,
        uid: mount.owner.0,
        gid: mount.owner.1,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Tells whether a name stands for a file of a database that SQLite shares as memory.
pub(super) fn is_index(target: &MountName) -> bool {
    matches!(target, MountName::SideFile(_, FileKind::Shm))
}
