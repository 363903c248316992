//! Restoring a snapshot into a fresh volume.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use objstore::{GetError, Remedy};

use super::block::{Address, BLOCK_BYTES, BlockCipher, FRAME_BYTES, FRAMES, OpenBlock};
use super::damage::{Damage, classify};
use super::fetch::{ManifestError, manifest};
use super::manifest::{BlockRef, Manifest, ManifestHead};
use super::names::{BlockName, SnapshotRef};
use super::{BLOCK, Backups, Progress};
use crate::bulk::ImageSink;
use crate::keys::{BackupKeys, UnwrapError};

/// Why a snapshot was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Its manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A block is damaged or gone.
    #[error("restore of {snapshot}: block {block}")]
    Damaged {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Which 4 MiB of the volume.
        block: usize,
        /// The object, and what is wrong with it.
        #[source]
        source: Damage,
    },
    /// The store did not give a block.
    #[error("restore of {snapshot}: block {block}")]
    Store {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Which 4 MiB of the volume.
        block: usize,
        /// What the store said.
        #[source]
        source: GetError,
    },
    /// The target is too small.
    #[error("restore of {snapshot}: its {needed_bytes} bytes do not fit into a volume of {target_bytes}")]
    TooSmall {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Size of the snapshot.
        needed_bytes: u64,
        /// Size of the target.
        target_bytes: u64,
    },
    /// The target could not be written.
    #[error("restore of {snapshot}: writing the volume")]
    Sink {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl RestoreError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Manifest(source) => source.remedy(),
            Self::Damaged { source, .. } => source.remedy(),
            Self::Store { source, .. } => source.remedy(),
            Self::TooSmall { .. } => Remedy::FixRequest,
            Self::Sink { .. } => Remedy::Retry,
        }
    }
}

/// A volume that holds what the snapshot held, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot's facts.
    pub head: ManifestHead,
    /// Bytes written: those of frames that are not zeros, and on encrypted targets the zeros that a guest may rely on.
    pub bytes_written: u64,
}

/// Fills a fresh volume with a snapshot and syncs it. Every block is checked against its address before it is written.
///
/// * `sink`: reads as zeros so far, or was left by an earlier try of the same restore; it may be larger than the
///   snapshot, and what lies beyond is not touched.
///
/// Holds [`Backups::concurrency`] blocks in memory at a time.
///
/// # Errors
/// [`RestoreError`]; the volume is then partly filled.
pub async fn restore(
    backups: &Backups,
    snapshot: &SnapshotRef,
    sink: &dyn ImageSink,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    let manifest = manifest(backups, snapshot).await?;
    let (needed_bytes, target_bytes) = (manifest.head.size_bytes, sink.size_bytes());
    if target_bytes < needed_bytes {
        return Err(RestoreError::TooSmall {
            snapshot: snapshot.clone(),
            needed_bytes,
            target_bytes,
        });
    }
    let blocks = BlockReader::new(backups, snapshot, &manifest).map_err(ManifestError::Damaged)?;
    progress.begin(needed_bytes);
    let bytes_written = stream::iter(0..manifest.blocks.len())
        .map(|number| restore_block(&blocks, &manifest, sink, number, progress))
        .buffer_unordered(backups.concurrency.max(1))
        .try_fold(0, |sum, written| async move { Ok(sum + written) })
        .await?;
    let synced = sink.sync().await;
    synced.map_err(|source| RestoreError::Sink {
        snapshot: snapshot.clone(),
        source,
    })?;
    Ok(Restored {
        head: manifest.head,
        bytes_written,
    })
}

async fn restore_block(
    blocks: &BlockReader<'_>,
    manifest: &Manifest,
    sink: &dyn ImageSink,
    number: usize,
    progress: &Progress,
) -> Result<u64, RestoreError> {
    let offset = number as u64 * BLOCK_BYTES as u64;
    let len = (manifest.head.size_bytes - offset).min(BLOCK_BYTES as u64);
    let sink_error = |source| RestoreError::Sink {
        snapshot: blocks.snapshot.clone(),
        source,
    };
    let written = match manifest.blocks[number] {
        BlockRef::Undefined => 0,
        BlockRef::Zero => {
            sink.zero(offset, len).await.map_err(sink_error)?;
            0
        }
        BlockRef::Data { address, writer } => {
            let writer = &manifest.writers[writer as usize];
            let open = blocks
                .read(address, writer)
                .await
                .map_err(|error| error.named(blocks.snapshot, number))?;
            write_runs(sink, offset, usize::try_from(len).unwrap_or(BLOCK_BYTES), &open)
                .await
                .map_err(sink_error)?
        }
    };
    progress.advance(len);
    Ok(written)
}

/// Writes a block, leaving runs of zero frames to [`ImageSink::zero`].
async fn write_runs(sink: &dyn ImageSink, offset: u64, len: usize, open: &OpenBlock) -> io::Result<u64> {
    let mut written = 0;
    for (zero, run) in runs(&open.zero_frames, len) {
        let at = offset + run.start as u64;
        if zero {
            sink.zero(at, run.len() as u64).await?;
        } else {
            written += run.len() as u64;
            sink.write_at(at, open.plain.slice(run)).await?;
        }
    }
    Ok(written)
}

/// Joins neighbouring frames that are alike, up to `len` bytes.
fn runs(zero_frames: &[bool; FRAMES], len: usize) -> Vec<(bool, Range<usize>)> {
    let mut runs: Vec<(bool, Range<usize>)> = Vec::new();
    for (index, zero) in zero_frames.iter().enumerate().take(len.div_ceil(FRAME_BYTES)) {
        let end = ((index + 1) * FRAME_BYTES).min(len);
        match runs.last_mut() {
            Some((last, run)) if last == zero => run.end = end,
            Some(_) | None => runs.push((*zero, index * FRAME_BYTES..end)),
        }
    }
    runs
}

/// Reads whole blocks of one snapshot.
pub(super) struct BlockReader<'a> {
    backups: &'a Backups,
    pub(super) snapshot: &'a SnapshotRef,
    keys: Arc<BackupKeys>,
}

/// Why a block could not be read.
pub(super) enum BlockError {
    Damaged(Damage),
    Store(GetError),
}

impl BlockError {
    fn named(self, snapshot: &SnapshotRef, block: usize) -> RestoreError {
        let snapshot = snapshot.clone();
        match self {
            Self::Damaged(source) => RestoreError::Damaged {
                snapshot,
                block,
                source,
            },
            Self::Store(source) => RestoreError::Store {
                snapshot,
                block,
                source,
            },
        }
    }
}

impl<'a> BlockReader<'a> {
    pub(super) fn new(
        backups: &'a Backups,
        snapshot: &'a SnapshotRef,
        manifest: &Manifest,
    ) -> Result<Self, Damage> {
        let keys = open_keys(backups, snapshot, manifest)?;
        Ok(Self {
            backups,
            snapshot,
            keys: Arc::new(keys),
        })
    }

    /// Reads and checks a whole block.
    pub(super) async fn read(&self, address: Address, writer: &str) -> Result<OpenBlock, BlockError> {
        let key = BlockName {
            writer: writer.to_owned(),
            address,
        }
        .key(self.snapshot.volume_id());
        let object = match self.backups.store.get(&key, None, BLOCK).await {
            Ok(object) => object.bytes,
            Err(error) => {
                return Err(match classify(error) {
                    Ok(damage) => BlockError::Damaged(damage),
                    Err(error) => BlockError::Store(error),
                });
            }
        };
        let (keys, volume_id) = (Arc::clone(&self.keys), self.snapshot.volume_id().to_owned());
        let open = move || BlockCipher::new(&keys, &volume_id).open(address, &object);
        let opened = self.backups.workers.run(open).await;
        opened.map_err(|flaw| BlockError::Damaged(Damage { object: key, flaw }))
    }
}

pub(super) fn open_keys(
    backups: &Backups,
    snapshot: &SnapshotRef,
    manifest: &Manifest,
) -> Result<BackupKeys, Damage> {
    let key = backups
        .cluster_key
        .unwrap(snapshot.volume_id(), &manifest.head.wrapped_key);
    let damaged = |error: UnwrapError| Damage {
        object: snapshot.manifest_key(),
        flaw: error.into(),
    };
    Ok(key.map_err(damaged)?.backup_keys())
}

#[cfg(test)]
mod tests;
