//! The slice: superblocks, ring, pages of the map, cache, one after the other in one file or block device.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use crashsafe::{Disk as _, RealDisk};
use log_disk::{PAGE_BYTES, SUPERBLOCK_PAGES, Superblock};
use rustix::fs::OFlags;

use super::settings::SliceSettings;
use super::sys::Pages;

/// What is written at once when a new file is filled.
const FILL_PAGES: usize = 256;
/// A ring of a file is written once before it is used, up to so many bytes: overwriting is several times faster than writing
/// for the first time, because the file system has nothing to note down.
const FILL_BYTES_MAX: u64 = 4 << 30;

/// Why a slice cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// It could not be opened, read or written.
    #[error("slice {}: {doing}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is smaller than its parts.
    #[error("slice {} has {found} bytes, the settings need {needed}", path.display())]
    Small {
        /// Which.
        path: PathBuf,
        /// How large it is.
        found: u64,
        /// How large it must be.
        needed: u64,
    },
    /// Its journal was formatted for another size of ring.
    #[error("slice {}: the journal has {found} pages, the settings say {wanted}", path.display())]
    Ring {
        /// Which.
        path: PathBuf,
        /// What the superblock says.
        found: u64,
        /// What the settings say.
        wanted: u64,
    },
}

/// An open slice. Reads and writes go past the page cache, in whole pages.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    file: Arc<File>,
    settings: Arc<SliceSettings>,
}

impl Slice {
    /// Opens the slice, making it when it is a file that is not there. A block device is opened exclusively.
    ///
    /// # Errors
    /// [`SliceError`].
    pub(super) fn open(settings: &SliceSettings) -> Result<Self, SliceError> {
        let failed = |doing| {
            let path = settings.path.clone();
            move |source| SliceError::Io { path, doing, source }
        };
        let exists = match std::fs::metadata(&settings.path) {
            Ok(metadata) => Some(metadata.file_type().is_block_device()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("look")(error)),
        };
        if exists.is_none() {
            make(settings).map_err(failed("make"))?;
        }
        let exclusive = if exists == Some(true) {
            OFlags::EXCL
        } else {
            OFlags::empty()
        };
        let flags = (OFlags::DIRECT | exclusive).bits();
        let mut options = File::options();
        options.read(true).write(true);
        let file = options
            .custom_flags(i32::try_from(flags).unwrap_or(0))
            .open(&settings.path)
            .map_err(failed("open"))?;
        let found = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))
            .map_err(|errno| failed("measure")(errno.into()))?;
        let needed = settings.total_bytes();
        if found < needed {
            let path = settings.path.clone();
            return Err(SliceError::Small { path, found, needed });
        }
        Ok(Self {
            file: Arc::new(file),
            settings: Arc::new(settings.clone()),
        })
    }

    /// Returns its layout.
    pub(super) fn settings(&self) -> &SliceSettings {
        &self.settings
    }

    /// Returns a descriptor of its own for a ring.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Returns the byte at which a position of the ring lies.
    pub(super) fn ring_offset(&self, position: u64) -> u64 {
        (SUPERBLOCK_PAGES + position % self.settings.ring_pages()) * PAGE_BYTES as u64
    }

    /// Reads whole pages.
    pub(super) fn read(&self, offset: u64, pages: &mut Pages) -> io::Result<()> {
        self.file.read_exact_at(pages.as_bytes_mut(), offset)
    }

    /// Writes whole pages.
    pub(super) fn write(&self, offset: u64, pages: &Pages) -> io::Result<()> {
        self.file.write_all_at(pages.as_bytes(), offset)
    }

    /// Reads pages of the ring; they do not wrap.
    pub(super) fn read_ring(&self, position: u64, pages: &mut Pages) -> io::Result<()> {
        self.read(self.ring_offset(position), pages)
    }

    /// Reads the two superblocks.
    pub(super) fn superblocks(&self) -> io::Result<[Vec<u8>; 2]> {
        let mut pages = Pages::new(2);
        self.read(0, &mut pages)?;
        let (first, second) = pages.as_bytes().split_at(PAGE_BYTES);
        Ok([first.to_vec(), second.to_vec()])
    }

    /// Writes a superblock into both pages, durably, one after the other: one of the two is whole at any time.
    pub(super) fn write_superblock(&self, superblock: &Superblock) -> io::Result<()> {
        let mut pages = Pages::new(1);
        pages.as_bytes_mut().copy_from_slice(&superblock.encode());
        for page in 0..SUPERBLOCK_PAGES {
            self.write(page * PAGE_BYTES as u64, &pages)?;
            self.sync()?;
        }
        Ok(())
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Names an I/O error of this slice.
    pub(super) fn failed(&self, doing: &'static str, source: io::Error) -> SliceError {
        SliceError::Io {
            path: self.settings.path.clone(),
            doing,
            source,
        }
    }
}

/// Makes the file, durably, under another name first: a half-made one is never found.
#[allow(clippy::disallowed_methods)] // gigabytes of zeros are no content for an atomic write; synced before they get their name
fn make(settings: &SliceSettings) -> io::Result<()> {
    let mut draft = settings.path.clone().into_os_string();
    draft.push(".new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        settings.total_bytes(),
    )?;
    let zeros = vec![0; FILL_PAGES * PAGE_BYTES];
    let mut left = settings.map_at().min(FILL_BYTES_MAX);
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(&zeros[..len])?;
        left -= len as u64;
    }
    file.sync_all()?;
    std::fs::rename(&draft, &settings.path)?;
    let parent = settings
        .path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    RealDisk.sync_dir("disk:slice", parent.unwrap_or_else(|| std::path::Path::new(".")))
}

#[cfg(test)]
mod tests;
