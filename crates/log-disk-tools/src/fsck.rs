//! Checks a disk's objects against each other.

mod history;
mod map;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use log_disk::{
    Checkpoint, CheckpointRef, DiskId, Head, Layout, ObjectName, ObjectSeq, PREFIX_BYTES, Role, Sealer,
    head_key,
};

use crate::{Bucket, BucketError, Finding, Listed, What};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// HEAD, checkpoints, the map, and every object's front.
    Fronts,
    /// And every block that is needed.
    Blocks,
}

/// What a check came to.
#[derive(Debug, Default)]
#[must_use]
pub struct Checked {
    /// What is not as it should be, in the order in which it was seen.
    pub findings: Vec<Finding>,
    /// The disk's size in blocks, when HEAD could be read.
    pub size_blocks: Option<u64>,
    /// Blocks with data in the newest checkpoint, and those that were written since.
    pub mapped_blocks: u64,
    /// Objects that the newest state or a snapshot needs.
    pub objects: usize,
    /// Snapshots.
    pub snapshots: usize,
}

impl Checked {
    /// Tells whether anything is lost or in doubt.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.what.is_damage())
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if let Some(size_blocks) = self.size_blocks {
            writeln!(
                f,
                "{size_blocks} blocks of 4 KiB, {} of them written; {} objects needed, {} snapshots",
                self.mapped_blocks, self.objects, self.snapshots
            )?;
        }
        let damaged = self
            .findings
            .iter()
            .filter(|finding| finding.what.is_damage())
            .count();
        match damaged {
            0 => writeln!(f, "sound"),
            count => writeln!(f, "{count} findings of damage"),
        }
    }
}

/// Checks a disk. Its owner may run: what that changes meanwhile can look like an orphan.
///
/// # Errors
///
/// When the store does not answer; what is wrong with a disk is no error but a [`Finding`].
pub fn fsck(bucket: &mut dyn Bucket, sealer: &Sealer, depth: Depth) -> Result<Checked, BucketError> {
    let mut check = Check {
        bucket,
        sealer,
        disk: sealer.disk(),
        depth,
        listed: Listed::default(),
        layouts: BTreeMap::new(),
        needed: BTreeSet::new(),
        checked: Checked::default(),
    };
    check.run()?;
    Ok(check.checked)
}

struct Check<'a> {
    bucket: &'a mut dyn Bucket,
    sealer: &'a Sealer,
    disk: DiskId,
    depth: Depth,
    listed: Listed,
    /// Fronts that were read; `None` for those that cannot be.
    layouts: BTreeMap<ObjectName, Option<Layout>>,
    needed: BTreeSet<ObjectName>,
    checked: Checked,
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), BucketError> {
        self.listed = Listed::of(self.bucket, self.disk)?;
        for key in std::mem::take(&mut self.listed.strangers) {
            self.checked.findings.push(Finding {
                key,
                what: What::Stranger,
            });
        }
        let Some(head) = self.head()? else {
            return Ok(());
        };
        self.checked.size_blocks = Some(head.size_blocks);
        self.checked.snapshots = head.snapshots.len();
        let newest = match head.checkpoint {
            Some(reference) => self.checkpoint(&reference, true)?,
            None => None,
        };
        for snapshot in &head.snapshots {
            let _ = self.checkpoint(&snapshot.checkpoint, false)?;
        }
        self.history(&head)?;
        if self.depth == Depth::Blocks {
            for name in self.needed.clone() {
                self.blocks(name)?;
            }
        }
        self.orphans(newest.as_ref());
        self.checked.objects = self.needed.len();
        Ok(())
    }

    fn found(&mut self, name: ObjectName, what: What) {
        let key = name.key(self.disk);
        self.checked.findings.push(Finding { key, what });
    }

    fn head(&mut self) -> Result<Option<Head>, BucketError> {
        let key = head_key(self.disk);
        let decoded = match self.bucket.get(&key, None)? {
            None => Err(What::NoHead),
            Some(bytes) => Head::decode(self.sealer, &bytes).map_err(What::Damaged),
        };
        Ok(match decoded {
            Ok(head) => Some(head),
            Err(what) => {
                self.checked.findings.push(Finding { key, what });
                None
            }
        })
    }

    /// Checks a checkpoint and the map in it; returns its front.
    fn checkpoint(
        &mut self,
        reference: &CheckpointRef,
        newest: bool,
    ) -> Result<Option<Checkpoint>, BucketError> {
        let name = ObjectName {
            role: Role::Checkpoint,
            seq: reference.seq,
            epoch: reference.epoch,
        };
        if !self.is_there(name, reference.total_bytes) {
            return Ok(None);
        }
        let front = self.get(name, 0..reference.front_bytes)?.unwrap_or_default();
        let checkpoint = match Checkpoint::open(self.sealer, &front) {
            Ok(checkpoint) if checkpoint.header.number == reference.number => checkpoint,
            Ok(_) => {
                self.found(name, What::Damaged(log_disk::Flaw::Elsewhere));
                return Ok(None);
            }
            Err(flaw) => {
                self.found(name, What::Damaged(flaw));
                return Ok(None);
            }
        };
        self.map(&checkpoint, newest)?;
        Ok(Some(checkpoint))
    }

    /// Notes that an object is needed, and tells whether it is there in its size.
    fn is_there(&mut self, name: ObjectName, expected: u64) -> bool {
        let first = self.needed.insert(name);
        let what = match self.listed.objects.get(&name) {
            None => What::Missing,
            Some(found) if *found != expected => What::Size {
                found: *found,
                expected,
            },
            Some(_) => return true,
        };
        // Told once, however many need it.
        if first {
            self.found(name, what);
        }
        false
    }

    fn get(&mut self, name: ObjectName, range: std::ops::Range<u64>) -> Result<Option<Bytes>, BucketError> {
        self.bucket.get(&name.key(self.disk), Some(range))
    }

    /// Returns the front of a data or GC object; `None` when it cannot be read, which is told once.
    fn layout(&mut self, name: ObjectName) -> Result<Option<Layout>, BucketError> {
        if let Some(known) = self.layouts.get(&name) {
            return Ok(known.clone());
        }
        let key = name.key(self.disk);
        let opened = read_front(self.bucket, self.sealer, &key)?;
        let layout = match opened {
            None => {
                self.found(name, What::Missing);
                None
            }
            Some(Err(flaw)) => {
                self.found(name, What::Damaged(flaw));
                None
            }
            Some(Ok(layout)) if layout.header.seq != name.seq || layout.header.epoch != name.epoch => {
                self.found(name, What::Damaged(log_disk::Flaw::Elsewhere));
                None
            }
            Some(Ok(layout)) => Some(layout),
        };
        self.layouts.insert(name, layout.clone());
        Ok(layout)
    }

    /// Reads every block of an object.
    fn blocks(&mut self, name: ObjectName) -> Result<(), BucketError> {
        if name.role == Role::Checkpoint {
            return Ok(());
        }
        let Some(layout) = self.layout(name)? else {
            return Ok(());
        };
        let Some(object) = self.get(name, 0..layout.total_bytes)? else {
            return Ok(());
        };
        for (lba, blocks, opened) in extents(self.sealer, &layout, &object) {
            if let Err(flaw) = opened {
                self.found(name, What::Blocks { lba, blocks, flaw });
            }
        }
        Ok(())
    }

    /// Notes what nobody needs.
    fn orphans(&mut self, newest: Option<&Checkpoint>) {
        let awaits_deletion = |seq: ObjectSeq| newest.is_some_and(|newest| newest.objects.get(seq).is_some());
        let orphans: Vec<ObjectName> = self
            .listed
            .objects
            .keys()
            .filter(|name| !self.needed.contains(name) && !awaits_deletion(name.seq))
            .copied()
            .collect();
        for name in orphans {
            self.found(name, What::Orphan);
        }
    }
}

/// Reads an object's front; `None` when there is no such object.
pub(crate) fn read_front(
    bucket: &mut dyn Bucket,
    sealer: &Sealer,
    key: &str,
) -> Result<Option<Result<Layout, log_disk::Flaw>>, BucketError> {
    let Some(prefix) = bucket.get(key, Some(0..PREFIX_BYTES))? else {
        return Ok(None);
    };
    let front = match Layout::front_bytes(&prefix) {
        Ok(bytes) if bytes > prefix.len() as u64 => match bucket.get(key, Some(0..bytes))? {
            Some(front) => front,
            None => return Ok(None),
        },
        Ok(_) => prefix,
        Err(flaw) => return Ok(Some(Err(flaw))),
    };
    Ok(Some(Layout::open(sealer, &front)))
}

/// Opens every extent with data of a whole object: its first block, how many, and the blocks.
pub(crate) fn extents<'a>(
    sealer: &'a Sealer,
    layout: &'a Layout,
    object: &'a [u8],
) -> impl Iterator<Item = (u64, u64, Result<Vec<u8>, log_disk::Flaw>)> + 'a {
    let with_data = layout
        .extents
        .iter()
        .enumerate()
        .filter(|(_, extent)| !extent.is_zero());
    with_data.map(move |(index, extent)| {
        let range = (usize::try_from(extent.stored.start).ok()).zip(usize::try_from(extent.stored.end).ok());
        let stored = range.and_then(|(begin, end)| object.get(begin..end));
        let opened = stored
            .ok_or(log_disk::Flaw::Cut)
            .and_then(|stored| layout.open_extent(sealer, index, stored));
        (extent.lba.0, extent.blocks, opened)
    })
}
