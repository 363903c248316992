use std::collections::BTreeSet;
use std::io::Result;
use std::ops::Range;
use std::path::Path;

use crashsafe::{Disk, DiskFile, Entry, OpenOptions, RealDisk, Space, Stat};

const BLOCK: u64 = 4096;

/// The real disk, except that the file system of a pool seems to have so many bytes, used by nobody else, and may play that
/// files share blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallDisk {
    pub(crate) bytes: Option<u64>,
    /// Whether files can be made that share blocks: here they are copied, and compared byte by byte.
    pub(crate) shares: bool,
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
        if !self.shares {
            return RealDisk.reflink(label, from, to);
        }
        let (source, target) = (
            RealDisk.open(label, from, OpenOptions::READ)?,
            RealDisk.open(label, to, OpenOptions::CREATE_NEW)?,
        );
        target.set_len(source.len()?)?;
        let mut at = 0;
        while let Some(data) = source.next_data(at)? {
            let mut bytes = vec![0; usize::try_from(data.end - data.start).unwrap()];
            source.read_exact_at(&mut bytes, data.start)?;
            target.write_at(&bytes, data.start)?;
            at = data.end;
        }
        Ok(())
    }

    fn differences(&self, one: &Path, other: &Path) -> Result<Option<Vec<Range<u64>>>> {
        if !self.shares {
            return RealDisk.differences(one, other);
        }
        let (one, other) = (
            RealDisk.open("compare", one, OpenOptions::READ)?,
            RealDisk.open("compare", other, OpenOptions::READ)?,
        );
        let mut starts = BTreeSet::new();
        for file in [&one, &other] {
            let mut at = 0;
            while let Some(data) = file.next_data(at)? {
                starts.extend((data.start / BLOCK..data.end.div_ceil(BLOCK)).map(|block| block * BLOCK));
                at = data.end;
            }
        }
        let mut differing = Vec::new();
        for start in starts {
            let (mut mine, mut theirs) = ([0; 4096], [0; 4096]);
            one.read_at(&mut mine, start)?;
            other.read_at(&mut theirs, start)?;
            if mine != theirs {
                differing.push(start..start + BLOCK);
            }
        }
        Ok(Some(differing))
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
