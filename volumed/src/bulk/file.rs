//! One pool file, read and written by io_uring where it has a descriptor and through the disk port where not.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use crashsafe::{Disk, DiskFile, OpenOptions};
use rustix::fs::Advice;

use super::Bulk;
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
    file: UringFile,
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
            (Some(bulk), Some(descriptor)) => {
                // The descriptor's own file, whatever its path leads to by now.
                let path = format!("/proc/self/fd/{descriptor}");
                let reopened = File::options()
                    .read(true)
                    .write(access == Access::Write)
                    .open(path)?;
                let advised = reopened.try_clone()?;
                Some(Ring {
                    file: bulk.open(reopened).await?,
                    advised,
                })
            }
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
        let bytes = ring.file.read_at(offset, len).await?;
        // A backup reads each byte once: it must not push what guests use out of the page cache. Advice may fail.
        let len = std::num::NonZeroU64::new(len as u64);
        let _advised = rustix::fs::fadvise(&ring.advised, offset, len, Advice::DontNeed);
        Ok(bytes)
    }

    pub(super) async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        match &self.uring {
            Some(ring) => ring.file.write_at(offset, data).await,
            None => self.disk.write_at(&data, offset),
        }
    }

    pub(super) async fn sync(&self) -> io::Result<()> {
        match &self.uring {
            Some(ring) => ring.file.sync().await,
            None => self.disk.sync_data(),
        }
    }
}
