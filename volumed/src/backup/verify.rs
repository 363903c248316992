//! Reading a backup back, to know before it is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use objstore::{GetError, Remedy};

use super::block::{Address, BLOCK_BYTES};
use super::damage::Damage;
use super::fetch::{ManifestError, manifest};
use super::names::SnapshotRef;
use super::restore::{BlockError, BlockReader};
use super::{Backups, Progress};
use crate::random::Random;

/// Why a backup could not be verified. Damage is no error: it is what the report is for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The manifest could not be read: missing, deleted, or the store did not answer.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store did not give a block.
    #[error("verification of {snapshot}")]
    Store {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What the store said.
        #[source]
        source: GetError,
    },
}

impl VerifyError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Manifest(source) => source.remedy(),
            Self::Store { source, .. } => source.remedy(),
        }
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Stored blocks read, each once.
    pub blocks: u64,
    /// Bytes of plaintext in those that are whole.
    pub bytes: u64,
    /// Every object that is not what was stored.
    pub damages: Vec<Damage>,
}

impl VerifyReport {
    /// Tells whether the snapshot would restore.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

/// Reads every block of a snapshot, and checks each byte as a restore would.
///
/// # Errors
/// [`VerifyError`] when it could not be finished. A damaged manifest is reported, not an error.
pub async fn verify(
    backups: &Backups,
    snapshot: &SnapshotRef,
    progress: &Progress,
) -> Result<VerifyReport, VerifyError> {
    let manifest = match manifest(backups, snapshot).await {
        Ok(manifest) => manifest,
        Err(ManifestError::Damaged(damage)) => {
            return Ok(VerifyReport {
                damages: vec![damage],
                ..VerifyReport::default()
            });
        }
        Err(error) => return Err(error.into()),
    };
    let reader = BlockReader::new(backups, snapshot, &manifest).map_err(ManifestError::Damaged)?;
    // Owned names: a future over borrowed ones cannot be proved `Send` by today's compiler.
    let blocks: BTreeMap<Address, String> = manifest
        .data_blocks()
        .map(|(_, address, writer)| (address, writer.to_owned()))
        .collect();
    progress.begin(blocks.len() as u64 * BLOCK_BYTES as u64);
    let mut report = stream::iter(blocks)
        .map(|(address, writer)| verify_block(&reader, address, writer, progress))
        .buffer_unordered(backups.concurrency.max(1))
        .try_fold(VerifyReport::default(), |mut report, damage| async move {
            report.blocks += 1;
            match damage {
                None => report.bytes += BLOCK_BYTES as u64,
                Some(damage) => report.damages.push(damage),
            }
            Ok(report)
        })
        .await
        .map_err(|source| VerifyError::Store {
            snapshot: snapshot.clone(),
            source,
        })?;
    report
        .damages
        .sort_by(|left, right| left.object.cmp(&right.object));
    Ok(report)
}

/// Reads some blocks of a snapshot, chosen by `random`, one after the other, and checks them as a restore would.
///
/// * `most`: how many; all of them, in whatever order, when there are no more.
/// * `rest`: how long to pause after each.
///
/// # Errors
/// [`VerifyError`]; a damaged manifest too.
pub async fn verify_sample(
    backups: &Backups,
    snapshot: &SnapshotRef,
    most: u32,
    rest: Duration,
    random: &dyn Random,
) -> Result<VerifyReport, VerifyError> {
    let manifest = manifest(backups, snapshot).await?;
    let reader = BlockReader::new(backups, snapshot, &manifest).map_err(ManifestError::Damaged)?;
    let blocks: BTreeMap<Address, String> = manifest
        .data_blocks()
        .map(|(_, address, writer)| (address, writer.to_owned()))
        .collect();
    let mut blocks: Vec<(Address, String)> = blocks.into_iter().collect();
    let mut report = VerifyReport::default();
    for _ in 0..most {
        if blocks.is_empty() {
            break;
        }
        let (address, writer) = blocks.swap_remove(below(random, blocks.len()));
        let damage = verify_block(&reader, address, writer, &Progress::default()).await;
        let damage = damage.map_err(|source| VerifyError::Store {
            snapshot: snapshot.clone(),
            source,
        })?;
        report.blocks += 1;
        match damage {
            None => report.bytes += BLOCK_BYTES as u64,
            Some(damage) => report.damages.push(damage),
        }
        tokio::time::sleep(rest).await;
    }
    Ok(report)
}

/// Returns a number below `len`, which is not 0; near enough to equally likely.
fn below(random: &dyn Random, len: usize) -> usize {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    let scaled = (u128::from(u64::from_le_bytes(bytes)) * len as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

async fn verify_block(
    reader: &BlockReader<'_>,
    address: Address,
    writer: String,
    progress: &Progress,
) -> Result<Option<Damage>, GetError> {
    let read = reader.read(address, &writer).await;
    progress.advance(BLOCK_BYTES as u64);
    match read {
        Ok(_) => Ok(None),
        Err(BlockError::Damaged(damage)) => Ok(Some(damage)),
        Err(BlockError::Store(error)) => Err(error),
    }
}
