//! The file system: a directory, and the file in it.

use std::{
    ffi::OsStr,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nbd::{Errno, Span};
use rustix::fs::FallocateFlags;

use crate::{
    FILE_NAME,
    courier::{Asker, Courier},
    queue::Op,
};

const FILE: INodeNo = INodeNo(2);
/// Names never change; sizes do, and are asked for each time.
const NAME_TTL: Duration = Duration::from_secs(3600);
const ATTR_TTL: Duration = Duration::ZERO;
/// Bytes of the longest write, and of the longest read.
const MAX_BYTES: u32 = 1 << 20;
/// Requests that the kernel may have with us without waiting.
const BACKGROUND: u16 = 128;

/// Whom in the kernel an answer goes to.
pub(crate) enum Caller {
    Read(ReplyData),
    Write(ReplyWrite, u32),
    Other(ReplyEmpty),
}

impl Asker for Caller {
    fn answer(self, result: Result<Vec<u8>, Errno>) {
        match (self, result) {
            (Self::Read(reply), Ok(data)) => reply.data(&data),
            (Self::Write(reply, bytes), Ok(_)) => reply.written(bytes),
            (Self::Other(reply), Ok(_)) => reply.ok(),
            (Self::Read(reply), Err(errno)) => reply.error(told(errno)),
            (Self::Write(reply, _), Err(errno)) => reply.error(told(errno)),
            (Self::Other(reply), Err(errno)) => reply.error(told(errno)),
        }
    }
}

fn told(errno: Errno) -> fuser::Errno {
    match errno {
        Errno::Perm => fuser::Errno::EPERM,
        Errno::NoMem => fuser::Errno::ENOMEM,
        Errno::Inval | Errno::Overflow => fuser::Errno::EINVAL,
        Errno::NoSpc => fuser::Errno::ENOSPC,
        Errno::NotSup => fuser::Errno::EOPNOTSUPP,
        Errno::Io | Errno::Shutdown => fuser::Errno::EIO,
    }
}

/// The file system.
pub(crate) struct OneFile {
    courier: Courier<Caller>,
    minimum_block: u32,
}

impl OneFile {
    pub(crate) fn new(courier: Courier<Caller>, minimum_block: u32) -> Self {
        Self {
            courier,
            minimum_block,
        }
    }

    /// Tells whether a range lies within the file.
    fn holds(&self, offset: u64, bytes: u64) -> bool {
        offset
            .checked_add(bytes)
            .is_some_and(|end| end <= self.courier.bytes())
    }
}

fn attr(ino: INodeNo, bytes: u64, minimum_block: u32) -> FileAttr {
    let is_file = ino == FILE;
    FileAttr {
        ino,
        size: if is_file { bytes } else { 0 },
        blocks: if is_file { bytes.div_ceil(512) } else { 0 },
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_file {
            FileType::RegularFile
        } else {
            FileType::Directory
        },
        perm: if is_file { 0o600 } else { 0o700 },
        nlink: if is_file { 1 } else { 2 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: minimum_block.max(4096),
        flags: 0,
    }
}

impl Filesystem for OneFile {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Kernels that lack one of these work all the same, only slower.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_write(MAX_BYTES);
        let _ = config.set_max_readahead(MAX_BYTES);
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {
        self.courier.end();
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent != INodeNo::ROOT || name != FILE_NAME {
            return reply.error(fuser::Errno::ENOENT);
        }
        let attr = attr(FILE, self.courier.bytes(), self.minimum_block);
        reply.entry_with_ttls(&ATTR_TTL, &NAME_TTL, &attr, Generation(0));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let minimum_block = self.minimum_block;
        match ino {
            FILE => self.courier.look(Box::new(move |bytes| {
                reply.attr(&ATTR_TTL, &attr(FILE, bytes, minimum_block));
            })),
            INodeNo::ROOT => reply.attr(&NAME_TTL, &attr(ino, 0, minimum_block)),
            _ => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // Times are nobody's concern; the size is the export's.
        if mode.is_some() || uid.is_some() || gid.is_some() || size.is_some() {
            return reply.error(fuser::Errno::EPERM);
        }
        reply.attr(&ATTR_TTL, &attr(ino, self.courier.bytes(), self.minimum_block));
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if ino != FILE {
            return reply.error(fuser::Errno::EISDIR);
        }
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let there = self.courier.bytes().saturating_sub(offset);
        let bytes = size.min(u32::try_from(there).unwrap_or(u32::MAX));
        if bytes == 0 {
            return reply.data(&[]);
        }
        self.courier
            .ask(Op::Read(Span { offset, bytes }), Caller::Read(reply));
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Ok(bytes) = u32::try_from(data.len()) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        if !self.holds(offset, bytes.into()) {
            return reply.error(fuser::Errno::ENOSPC);
        }
        let data = Bytes::copy_from_slice(data);
        self.courier
            .ask(Op::Write { offset, data }, Caller::Write(reply, bytes));
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // A close makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.courier.ask(Op::Flush, Caller::Other(reply));
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let kind = mode - FallocateFlags::KEEP_SIZE;
        let no_hole = kind == FallocateFlags::ZERO_RANGE;
        if !no_hole && kind != FallocateFlags::PUNCH_HOLE {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        }
        if length == 0 {
            return reply.error(fuser::Errno::EINVAL);
        }
        if !self.holds(offset, length) {
            return reply.error(fuser::Errno::ENOSPC);
        }
        let zero = Op::Zero {
            offset,
            bytes: length,
            no_hole,
        };
        self.courier.ask(zero, Caller::Other(reply));
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if ino != INodeNo::ROOT {
            return reply.error(fuser::Errno::ENOTDIR);
        }
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (FILE, FileType::RegularFile, FILE_NAME),
        ];
        for (next, (ino, kind, name)) in (1..).zip(entries) {
            if next > offset && reply.add(ino, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
