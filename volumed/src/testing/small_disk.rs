use std::io::Result;
use std::path::Path;

use crashsafe::{Disk, DiskFile, Entry, OpenOptions, RealDisk, Space, Stat};

/// The real disk, except that the file system of a pool seems to have so many bytes, used by nobody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallDisk {
    pub(crate) bytes: Option<u64>,
}

impl Disk for SmallDisk {
    fn open(&self, label: &'static str, path: &Path, options: OpenOptions) -> Result<Box<dyn DiskFile>> {
        RealDisk.open(label, path, options)
    }

    fn create_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        RealDisk.create_dir_all(label, path)
    }

    fn remove_file(&self, label: &'static str, path: &Path) -> Result<()> {
        RealDisk.remove_file(label, path)
    }

    fn remove_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        RealDisk.remove_dir_all(label, path)
    }

    fn rename(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        RealDisk.rename(label, from, to)
    }

    fn sync_dir(&self, label: &'static str, path: &Path) -> Result<()> {
        RealDisk.sync_dir(label, path)
    }

    fn reflink(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        RealDisk.reflink(label, from, to)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        RealDisk.list(path)
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        RealDisk.stat(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let Some(total_bytes) = self.bytes else {
            return RealDisk.space(path);
        };
        let mut used_bytes = 0;
        for entry in RealDisk.list(path)? {
            used_bytes += RealDisk
                .stat(&path.join(&entry.name))?
                .map_or(0, |s| s.allocated_bytes);
        }
        Ok(Space {
            total_bytes,
            free_bytes: total_bytes.saturating_sub(used_bytes),
        })
    }
}
