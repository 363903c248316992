//! Each request of the kernel.

use std::{
    ffi::OsStr, io, os::unix::fs::FileExt as _, path::Path, sync::Arc, sync::atomic::Ordering,
    time::SystemTime,
};

use fuser::{
    AccessFlags, BackingId, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{Cost, Mount, changes::attributes_reply};
use crate::{
    db::files::FileKind,
    fuse::{
        attributes::{self, VALID, is_index, validity},
        errno,
        files::{Content, OpenFile},
        listing,
        locks::{self, Asked},
    },
    name::MountName,
    store::State,
};

/// The journal's first bytes: what is written there may end a transaction.
const JOURNAL_HEADER_BYTES: u64 = 8;

/// What the kernel talks to.
#[derive(Debug)]
pub(in crate::fuse) struct FileSystem(Arc<Mount>);

impl FileSystem {
    pub(in crate::fuse) fn new(mount: Arc<Mount>) -> Self {
        Self(mount)
    }

    /// How a file is opened, and what the kernel reads and writes instead, if it can.
    fn passthrough(
        &self,
        target: &MountName,
        file: &OpenFile,
        make: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        if !is_index(target) || !self.0.passthrough.load(Ordering::Relaxed) {
            return None;
        }
        file.backing(make)
    }
}

fn utf8(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(Errno::EINVAL)
}

impl Filesystem for FileSystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let needed = InitFlags::FUSE_POSIX_LOCKS | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
        config.add_capabilities(needed).map_err(|missing| {
            io::Error::other(format!(
                "the kernel's file systems in user space lack {missing:?}"
            ))
        })?;
        let _without_is_fine = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let mut passthrough = self.0.passthrough.load(Ordering::Relaxed);
        passthrough = passthrough
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok();
        self.0.passthrough.store(passthrough, Ordering::Relaxed);
        self.0.kernel.set_shares_index(passthrough);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = utf8(name).and_then(|name| self.0.look_up(name));
        match found {
            Ok((target, attributes)) => {
                reply.entry_with_ttls(&validity(&target), &validity(&target), &attributes, Generation(0))
            }
            Err(error) if error.code() == libc::ENOENT => {
                let name = utf8(name).ok().and_then(|name| name.parse::<MountName>().ok());
                match name {
                    // No number: the kernel need not ask again until it is told, or makes it.
                    Some(target) if validity(&target) == VALID => {
                        let mut nothing = attributes::of_root(&self.0);
                        nothing.ino = INodeNo(0);
                        reply.entry(&VALID, &nothing, Generation(0));
                    }
                    Some(_) | None => reply.error(error),
                }
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        self.0.inodes().forget(number.0, lookups);
    }

    fn getattr(&self, _: &Request, number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        attributes_reply(&self.0, number.0, handle.map(|handle| handle.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let handle = handle.map(|handle| handle.0);
        match size {
            Some(len) => self.0.truncate(number.0, handle, len, reply),
            // Owners and modes are the daemon's: SQLite as root gives journals to the owner of the database.
            None => attributes_reply(&self.0, number.0, handle, reply),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (handle, file, target) = match self.0.open(number.0) {
            Ok(opened) => opened,
            Err(error) => return reply.error(error),
        };
        let handle = FileHandle(handle);
        let Some(file) = file else {
            // What it says is as long as it is, whatever the size said when it was asked for.
            return reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO);
        };
        match self.passthrough(&target, &file, |file| reply.open_backing(file)) {
            Some(backing) => reply.opened_passthrough(handle, FopenFlags::empty(), &backing),
            None => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let parsed = utf8(name).and_then(|name| {
            let target = name.parse::<MountName>();
            target.map(|target| (name, target)).map_err(|error| match error {
                crate::name::NameError::Long { .. } => Errno::ENAMETOOLONG,
                crate::name::NameError::NoFileName(_) | crate::name::NameError::Reserved(_) => Errno::EACCES,
            })
        });
        match parsed {
            Ok((name, target)) => self.0.create_file(name, &target, reply),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(handle) = self.0.handles.get(handle.0) else {
            return reply.error(Errno::EBADF);
        };
        match &handle.content {
            Content::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let to = from.saturating_add(size as usize).min(bytes.len());
                reply.data(&bytes[from..to]);
            }
            Content::File(file) => {
                let mut bytes = vec![0; size as usize];
                match read_at(&file.file, &mut bytes, offset) {
                    Ok(read) => reply.data(&bytes[..read]),
                    Err(error) => reply.error(errno::of_io(&error)),
                }
            }
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mount = &self.0;
        let Some(handle) = mount.handles.get(handle.0) else {
            return reply.error(Errno::EBADF);
        };
        let Content::File(open) = &handle.content else {
            return reply.error(Errno::EACCES);
        };
        let written = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let by_itself = open.is_orphan()
            || is_index(&handle.target)
            || matches!(handle.target, MountName::SuperJournal(_));
        let Some((slot, file)) = mount.file_of(&handle.target).filter(|_| !by_itself) else {
            if mount.is_stale_index(&handle.target) {
                return reply.written(written);
            }
            return match open.file.write_all_at(data, offset) {
                Ok(()) => reply.written(written),
                Err(error) => reply.error(errno::of_io(&error)),
            };
        };
        let may_commit = match file {
            FileKind::RollbackJournal => offset < JOURNAL_HEADER_BYTES,
            // A log that begins anew: the database must be durable.
            FileKind::Wal => offset == 0,
            FileKind::Database | FileKind::Shm => false,
        };
        let cost = if may_commit { Cost::Slow } else { Cost::Quick };
        let done = move |reply: ReplyWrite, done: Result<(), crate::store::Refusal>| match done {
            Ok(()) => reply.written(written),
            Err(refusal) => reply.error(errno::of(&refusal)),
        };
        // At once if it can be: then the bytes need not be kept.
        if let Some(mut state) = slot.lane().try_take() {
            let waits = (cost == Cost::Slow).then(|| mount.may_wait());
            if waits.is_none_or(|waits| waits.is_some()) {
                let result = mount.write_to(&slot, &mut state, file, data, offset);
                return done(reply, result);
            }
        }
        let (owned, data) = (Arc::clone(mount), data.to_vec());
        let of = Arc::clone(&slot);
        slot.lane().queue(move |state: &mut State| {
            let result = owned.write_to(&of, state, file, &data, offset);
            done(reply, result);
        });
    }

    fn flush(&self, _: &Request, number: INodeNo, _: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        locks::close(&self.0, number.0, owner.0, Some(reply));
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Some((handle, owners)) = self.0.handles.remove(handle.0) {
            for owner in owners {
                locks::close(&self.0, handle.number, owner, None);
            }
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        let mount = &self.0;
        let Some(handle) = mount.handles.get(handle.0) else {
            return reply.error(Errno::EBADF);
        };
        let Content::File(open) = &handle.content else {
            return reply.ok();
        };
        let by_itself = open.is_orphan() || matches!(handle.target, MountName::SuperJournal(_));
        match mount.file_of(&handle.target).filter(|_| !by_itself) {
            // Built anew after a crash.
            Some((_, FileKind::Shm)) => reply.ok(),
            Some((slot, file)) => mount.act(
                &slot,
                |_| Cost::Slow,
                move |mount, slot, state| match mount.store.with(slot, state, |database| database.sync(file))
                {
                    Ok(()) => reply.ok(),
                    Err(refusal) => reply.error(errno::of(&refusal)),
                },
            ),
            None => {
                let (mount, open) = (Arc::clone(mount), Arc::clone(open));
                self.0.elsewhere.queue(move |()| {
                    let directory = mount.store.super_journal("");
                    let synced = open.file.sync_all();
                    let disk = &mount.store.node().disk;
                    match synced.and_then(|()| disk.sync_dir("super", &directory)) {
                        Ok(()) => reply.ok(),
                        Err(error) => reply.error(errno::of_io(&error)),
                    }
                });
            }
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = listing::entries(&self.0).into_iter().zip(1..);
        for ((number, kind, name), next) in entries.skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if reply.add(number, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Names become durable with the files that SQLite syncs.
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match rustix::fs::statvfs(self.0.store.root()) {
            Ok(stat) => reply.statfs(
                stat.f_blocks,
                stat.f_bfree,
                stat.f_bavail,
                stat.f_files,
                stat.f_ffree,
                u32::try_from(stat.f_bsize).unwrap_or(4096),
                u32::try_from(stat.f_namemax).unwrap_or(255),
                u32::try_from(stat.f_frsize).unwrap_or(4096),
            ),
            Err(error) => reply.error(errno::of_io(&error.into())),
        }
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match utf8(name).and_then(|name| name.parse().map_err(|_| Errno::ENOENT)) {
            Ok(target) => self.0.unlink(&target, reply),
            Err(error) => reply.error(error),
        }
    }

    fn getlk(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        let asked = Asked {
            number: number.0,
            handle: handle.0,
            owner: owner.0,
            start,
            end,
            kind,
            waits: false,
        };
        locks::get(&self.0, asked, reply);
    }

    fn setlk(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        _pid: u32,
        waits: bool,
        reply: ReplyEmpty,
    ) {
        let asked = Asked {
            number: number.0,
            handle: handle.0,
            owner: owner.0,
            start,
            end,
            kind,
            waits,
        };
        locks::set(&self.0, asked, reply);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EPERM);
    }

    // What follows is not there, and the kernel does not ask again.

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}

/// Reads as much as there is.
fn read_at(file: &std::fs::File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}
