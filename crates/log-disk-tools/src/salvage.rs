//! Makes an image of what data objects and GC objects still hold, when HEAD and the checkpoints are gone.

mod choice;
mod history;
#[cfg(test)]
mod tests;

use std::{fmt, io};

use log_disk::{BLOCK_BYTES, Flaw, Layout, ObjectKind, ObjectName, ObjectSeq, Role, Sealer};

use crate::{
    Bucket, BucketError, Finding, Listed, What,
    fsck::{extents, read_front},
};
use choice::Choice;
use history::{Candidate, History};

/// Where an image goes. What is never written reads as zeros.
pub trait Image {
    /// Makes it so many bytes long.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;

    /// Writes bytes at an offset, in bytes.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

impl Image for std::fs::File {
    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        Self::set_len(self, bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The store does not answer.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Nothing of the disk is left, or nothing that this key opens.
    #[error("no data object of the disk can be read: {damaged} are damaged or of another key")]
    Nothing {
        /// How many cannot be read.
        damaged: usize,
    },
    /// The image cannot be written.
    #[error("write the image: {0}")]
    Image(#[from] io::Error),
}

/// What an image holds.
#[derive(Debug)]
#[must_use]
pub struct Salvaged {
    /// Its size in blocks: the disk's, as the newest data object says.
    pub size_blocks: u64,
    /// Blocks with data.
    pub blocks: u64,
    /// The last data object that counts: everything up to it is there, nothing after.
    pub last: ObjectSeq,
    /// Data objects that are there and come after a hole in the history and are left out: what was
    /// written before them never arrived.
    pub beyond: usize,
    /// Data objects that are missing in the midst. Those were collected, and what of them was needed was kept elsewhere; but
    /// blocks that they zeroed may have come back.
    pub collected: usize,
    /// Runs of blocks that are lost: first block and how many. They read as zeros in the image.
    pub lost: Vec<(u64, u64)>,
    /// What was damaged.
    pub findings: Vec<Finding>,
}

impl Salvaged {
    /// Tells whether blocks are lost or objects damaged.
    pub fn is_damaged(&self) -> bool {
        !self.lost.is_empty() || !self.findings.is_empty()
    }
}

impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for (lba, blocks) in &self.lost {
            writeln!(f, "lost: blocks {lba}+{blocks}; they read as zeros in the image")?;
        }
        if self.beyond > 0 {
            let beyond = self.beyond;
            writeln!(
                f,
                "left out: {beyond} data objects behind a hole in the history; --beyond takes them, with what is missing before"
            )?;
        }
        if self.collected > 0 {
            let collected = self.collected;
            writeln!(
                f,
                "noted: {collected} holes where objects were collected; blocks that were zeroed or discarded may have come back"
            )?;
        }
        writeln!(
            f,
            "an image of {} blocks of 4 KiB, {} of them written, as of data object {}; check the file system in it before use",
            self.size_blocks, self.blocks, self.last
        )
    }
}

/// Finds the disk's wrapped key in any of its data objects, for where HEAD is gone.
///
/// # Errors
///
/// When the store does not answer.
pub fn find_wrapped_key(
    bucket: &mut dyn Bucket,
    disk: log_disk::DiskId,
) -> Result<Option<Vec<u8>>, BucketError> {
    let listed = Listed::of(bucket, disk)?;
    for name in listed.objects.keys().filter(|name| name.role != Role::Checkpoint) {
        let prefix = bucket.get(&name.key(disk), Some(0..log_disk::PREFIX_BYTES))?;
        let wrapped = prefix.map(|prefix| Layout::wrapped_key(&prefix));
        if let Some(Ok(wrapped)) = wrapped {
            return Ok(Some(wrapped));
        }
    }
    Ok(None)
}

/// Makes an image of a disk from its data and GC objects alone.
///
/// A block is as the newest object that counts wrote it. Which data objects count is told by their chain: each names the
/// one before it, and the newest epoch goes on from where the one before ended, so what a former owner uploaded late is left
/// out. The image is a prefix of the disk's history, but for what [`Salvaged`] says.
///
/// `beyond` also takes data objects that follow a hole near the end of the history: what is in them was written, but something
/// written before may be missing, and a file system may not bear that.
///
/// # Errors
///
/// When the store or the image fails, or nothing is left.
pub fn salvage(
    bucket: &mut dyn Bucket,
    sealer: &Sealer,
    image: &mut dyn Image,
    beyond: bool,
) -> Result<Salvaged, SalvageError> {
    let disk = sealer.disk();
    let listed = Listed::of(bucket, disk)?;
    let mut findings = Vec::new();
    let mut candidates = Vec::new();
    for name in listed.objects.keys().filter(|name| name.role != Role::Checkpoint) {
        let key = name.key(disk);
        let layout = match read_front(bucket, sealer, &key)? {
            Some(Ok(layout)) if is_called(&layout, *name) => layout,
            other => {
                let flaw = match other {
                    Some(Err(flaw)) => What::Damaged(flaw),
                    Some(Ok(_)) => What::Damaged(Flaw::Elsewhere),
                    None => What::Missing,
                };
                findings.push(Finding { key, what: flaw });
                continue;
            }
        };
        candidates.push(Candidate { name: *name, layout });
    }
    let history = History::of(&candidates, beyond).ok_or(SalvageError::Nothing {
        damaged: findings.len(),
    })?;
    let mut choice = Choice::default();
    for candidate in &candidates {
        let key = candidate.name.key(disk);
        let object = bucket.get(&key, None)?.unwrap_or_default();
        let opened = extents(sealer, &candidate.layout, &object);
        let sound: Vec<(u64, u64, Result<(), Flaw>)> = opened
            .map(|(lba, blocks, opened)| (lba, blocks, opened.map(drop)))
            .collect();
        for (lba, blocks, result) in &sound {
            if let Err(flaw) = result {
                let what = What::Blocks {
                    lba: *lba,
                    blocks: *blocks,
                    flaw: *flaw,
                };
                findings.push(Finding {
                    key: key.clone(),
                    what,
                });
            }
        }
        choice.offer(candidate, &history, |lba| {
            sound.iter().all(|(at, _, result)| *at != lba || result.is_ok())
        });
    }
    let chosen = choice.choose(history.size_blocks);
    image.set_len(history.size_blocks * BLOCK_BYTES as u64)?;
    let mut blocks = 0;
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(wanted) = chosen.wanted.get(&index) else {
            continue;
        };
        let object = bucket.get(&candidate.name.key(disk), None)?.unwrap_or_default();
        for (lba, _, opened) in extents(sealer, &candidate.layout, &object) {
            // It opened a moment ago; what does not any more is lost after all.
            let Ok(plain) = opened else { continue };
            for (start, count) in wanted.of(lba, (plain.len() / BLOCK_BYTES) as u64) {
                let from = usize::try_from(start - lba).unwrap_or(usize::MAX) * BLOCK_BYTES;
                let bytes = usize::try_from(count).unwrap_or(usize::MAX) * BLOCK_BYTES;
                image.write_at(start * BLOCK_BYTES as u64, &plain[from..from + bytes])?;
                blocks += count;
            }
        }
    }
    Ok(Salvaged {
        size_blocks: history.size_blocks,
        blocks,
        last: history.last,
        beyond: history.beyond,
        collected: history.collected,
        lost: chosen.lost,
        findings,
    })
}

fn is_called(layout: &Layout, name: ObjectName) -> bool {
    let role = match layout.header.kind {
        ObjectKind::Data => Role::Data,
        ObjectKind::Gc => Role::Gc,
    };
    (role, layout.header.seq, layout.header.epoch) == (name.role, name.seq, name.epoch)
}
