//! The operating system's own file systems.

use std::fs::{DirBuilder, File};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::{Disk, DiskFile, Entry, OpenOptions, Space, Stat, shared_extents};

/// The unit of `st_blocks`, whatever the file system's own.
const STAT_BLOCK_BYTES: u64 = 512;

/// The real disk. Has no state: every value is the same disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, _: &'static str, path: &Path, options: OpenOptions) -> Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile {
            file: open(path, options)?,
        }))
    }

    fn create_dir_all(&self, _: &'static str, path: &Path) -> Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn remove_file(&self, _: &'static str, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, _: &'static str, path: &Path) -> Result<()> {
        std::fs::remove_dir_all(path)
    }

    #[allow(clippy::disallowed_methods)] // this is the place that the ban sends everyone to
    fn rename(&self, _: &'static str, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, _: &'static str, path: &Path) -> Result<()> {
        File::open(path)?.sync_all()
    }

    fn reflink(&self, _: &'static str, from: &Path, to: &Path) -> Result<()> {
        let source = File::open(from)?;
        let copy = open(to, OpenOptions::CREATE_NEW)?;
        let linked = rustix::fs::ioctl_ficlone(&copy, &source).map_err(|errno| match errno {
            // Another file system, none that can, or a kernel that does not know the call.
            Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS => Error::new(
                ErrorKind::Unsupported,
                format!("no reflink from {} to {}", from.display(), to.display()),
            ),
            errno => errno.into(),
        });
        if linked.is_err() {
            std::fs::remove_file(to)?;
        }
        linked
    }

    fn differences(&self, one: &Path, other: &Path) -> Result<Option<Vec<Range<u64>>>> {
        shared_extents::differences(&File::open(one)?, &File::open(other)?)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                Error::new(
                    ErrorKind::InvalidData,
                    format!("{} holds a name that is not UTF-8: {name:?}", path.display()),
                )
            })?;
            // A name that goes while we list it was not there to be listed.
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => entries.push(Entry {
                    name,
                    is_dir: true,
                    len: 0,
                }),
                Ok(metadata) => entries.push(Entry {
                    name,
                    is_dir: false,
                    len: metadata.len(),
                }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Stat {
                is_dir: metadata.is_dir(),
                len: if metadata.is_dir() { 0 } else { metadata.len() },
                allocated_bytes: metadata.blocks() * STAT_BLOCK_BYTES,
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            total_bytes: stat.f_blocks * stat.f_frsize,
            free_bytes: stat.f_bavail * stat.f_frsize,
        })
    }
}

fn open(path: &Path, options: OpenOptions) -> Result<File> {
    let open_with = |flags: OFlags| {
        std::fs::OpenOptions::new()
            .read(options.read)
            .write(options.write)
            .create(options.create)
            .create_new(options.create_new)
            .truncate(options.truncate)
            .mode(options.mode)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
    };
    if !options.direct {
        return open_with(OFlags::empty());
    }
    match open_with(OFlags::DIRECT) {
        // The file system knows no direct access. A new file may be there already: it is ours, and empty.
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            if options.create_new {
                std::fs::remove_file(path).or_else(|error| match error.kind() {
                    ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?;
            }
            open_with(OFlags::empty())
        }
        opened => opened,
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        uninterrupted(|| fallocate(&self.file, FallocateFlags::empty(), offset, len))
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        uninterrupted(|| fallocate(&self.file, flags, offset, len))
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata()?;
        if metadata.file_type().is_block_device() {
            // Its inode has no length; its end has.
            return Ok(seek(&self.file, SeekFrom::End(0))?);
        }
        Ok(metadata.len())
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        // The descriptor's own position moves, and nobody uses it: reads and writes name theirs.
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // A block device knows no holes.
            Err(Errno::INVAL) if self.file.metadata()?.file_type().is_block_device() => {
                let len = self.len()?;
                return Ok((offset < len).then_some(offset..len));
            }
            Err(errno) => return Err(errno.into()),
        };
        let end = match seek(&self.file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            // Cut short by somebody else in between.
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        Ok((start < end).then_some(start..end))
    }

    fn as_raw_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}

/// Repeats a call for as long as a signal interrupts it.
fn uninterrupted(mut call: impl FnMut() -> rustix::io::Result<()>) -> Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(Error::from),
        }
    }
}

#[cfg(test)]
mod tests;
