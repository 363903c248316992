//! One pool file, read and written by io_uring where it has a descriptor and through the disk port where not.
//!
//! By io_uring the page cache is left out where the file system allows it: a backup reads each byte once, which must neither
//! push what guests use out of memory nor pay for pages that nobody will look at again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use crashsafe::{Disk, DiskFile, OpenOptions};
use rustix::fs::{Advice, OFlags};

use super::Bulk;
use super::aligned::is_aligned;
use super::uring::UringFile;

const LABEL: &str = "bulk";

/// An existing file, open for positioned reads and writes.
#[derive(Debug)]
pub(super) struct PoolFile {
    disk: Box<dyn DiskFile>,
    uring: Option<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// Past the page cache; none where the file system has no such way.
    direct: Option<UringFile>,
    /// For what is not aligned.
    cached: UringFile,
    /// The same file once more, for advice to the page cache.
    advised: File,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl PoolFile {
    pub(super) async fn open(
        disk: &dyn Disk,
        bulk: Option<&Bulk>,
        path: &Path,
        access: Access,
    ) -> io::Result<Self> {
        let options = match access {
            Access::Read => OpenOptions::READ,
            Access::Write => OpenOptions::READ_WRITE,
        };
        let file = disk.open(LABEL, path, options)?;
        let uring = match (bulk, file.as_raw_fd()) {
            (Some(bulk), Some(descriptor)) => Some(Ring::open(bulk, descriptor, access).await?),
            (_, None) | (None, _) => None,
        };
        Ok(Self { disk: file, uring })
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    /// The next range that is no hole.
    pub(super) fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(offset)
    }

    /// Reads exactly `len` bytes.
    pub(super) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let Some(ring) = &self.uring else {
            let mut bytes = vec![0; len];
            self.disk.read_exact_at(&mut bytes, offset)?;
            return Ok(Bytes::from(bytes));
        };
        ring.read_at(offset, len).await
    }

    pub(super) async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        match &self.uring {
            Some(ring) => ring.write_at(offset, data).await,
            None => self.disk.write_at(&data, offset),
        }
    }

    pub(super) async fn sync(&self) -> io::Result<()> {
        match &self.uring {
            Some(ring) => ring.cached.sync().await,
            None => self.disk.sync_data(),
        }
    }
}

impl Ring {
    async fn open(bulk: &Bulk, descriptor: RawFd, access: Access) -> io::Result<Self> {
        // The descriptor's own file, whatever its path leads to by now.
        let path = format!("/proc/self/fd/{descriptor}");
        let open = |flags: OFlags| {
            File::options()
                .read(true)
                .write(access == Access::Write)
                .custom_flags(flags.bits().cast_signed())
                .open(&path)
        };
        let cached = open(OFlags::empty())?;
        let direct = match open(OFlags::DIRECT) {
            Ok(file) => Some(bulk.open(file, true).await?),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            direct,
            advised: cached.try_clone()?,
            cached: bulk.open(cached, false).await?,
        })
    }

    /// The way past the page cache, for a request that can take it.
    fn past_the_cache(&self, offset: u64, len: usize) -> Option<&UringFile> {
        let aligned = usize::try_from(offset).is_ok_and(is_aligned) && is_aligned(len);
        self.direct.as_ref().filter(|_| aligned)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if let Some(direct) = self.past_the_cache(offset, len) {
            match direct.read_at(offset, len).await {
                // A file system that wants it aligned to more.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                done => return done,
            }
        }
        let bytes = self.cached.read_at(offset, len).await?;
        let len = std::num::NonZeroU64::new(len as u64);
        // Advice may fail.
        let _advised = rustix::fs::fadvise(&self.advised, offset, len, Advice::DontNeed);
        Ok(bytes)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        if let Some(direct) = self.past_the_cache(offset, data.len()) {
            match direct.write_at(offset, data.clone()).await {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                done => return done,
            }
        }
        self.cached.write_at(offset, data).await
    }
}
