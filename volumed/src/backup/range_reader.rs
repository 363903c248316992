//! Small reads from a backup: a frame at a time.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use objstore::{GetError, Key, Remedy};

use super::block::{Address, BLOCK_BYTES, BlockCipher, BlockHeader, FRAME_BYTES, HEADER_BYTES};
use super::damage::{Damage, Flaw, classify};
use super::fetch::{ManifestError, manifest};
use super::manifest::{BlockRef, Manifest};
use super::names::{BlockName, SnapshotRef};
use super::restore::open_keys;
use super::{BLOCK, Backups};
use crate::keys::BackupKeys;

/// Headers kept, 2 KiB each.
const HEADERS_MAX: usize = 1_024;

/// Why a range could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RangeReaderError {
    /// The range passes the snapshot's end.
    #[error("{len} bytes at {offset} of a snapshot of {size_bytes}")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: usize,
        /// Size of the snapshot.
        size_bytes: u64,
    },
    /// An object is damaged or gone.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The store did not give it.
    #[error("reading a backup")]
    Store(#[from] GetError),
}

impl RangeReaderError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::OutOfRange { .. } => Remedy::FixRequest,
            Self::Damaged(damage) => damage.remedy(),
            Self::Store(source) => source.remedy(),
        }
    }
}

/// Reads ranges of one snapshot out of the bucket.
///
/// A read of one frame costs a GET of that frame, and one of 344 bytes before the first from its block. Frames are
/// authenticated one by one; that they together have the block's address is for [`verify`](super::verify()) to say.
#[derive(Debug)]
pub struct RangeReader {
    backups: Backups,
    volume_id: String,
    keys: BackupKeys,
    manifest: Manifest,
    headers: Mutex<HashMap<Address, Arc<BlockHeader>>>,
}

impl RangeReader {
    /// Reads the snapshot's manifest.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub async fn open(backups: &Backups, snapshot: &SnapshotRef) -> Result<Self, ManifestError> {
        let manifest = manifest(backups, snapshot).await?;
        let keys = open_keys(backups, snapshot, &manifest)?;
        Ok(Self {
            backups: backups.clone(),
            volume_id: snapshot.volume_id().to_owned(),
            keys,
            manifest,
            headers: Mutex::default(),
        })
    }

    /// Size of the snapshot.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.manifest.head.size_bytes
    }

    /// Reads `len` bytes from `offset`, of any alignment.
    ///
    /// # Errors
    /// [`RangeReaderError`].
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, RangeReaderError> {
        let size_bytes = self.size_bytes();
        let end = offset.checked_add(len as u64).filter(|end| *end <= size_bytes);
        let end = end.ok_or(RangeReaderError::OutOfRange {
            offset,
            len,
            size_bytes,
        })?;
        let mut out = BytesMut::with_capacity(len);
        let mut at = offset;
        while at < end {
            let number = index(at / BLOCK_BYTES as u64);
            let within = index(at % BLOCK_BYTES as u64);
            let part = index(end - at).min(BLOCK_BYTES - within);
            match self.manifest.blocks[number] {
                BlockRef::Undefined | BlockRef::Zero => out.resize(out.len() + part, 0),
                BlockRef::Data { address, writer } => {
                    let writer = self.manifest.writers[writer as usize].clone();
                    self.read_block(BlockName { writer, address }, within..within + part, &mut out)
                        .await?;
                }
            }
            at += part as u64;
        }
        assert!(out.len() == len, "{} bytes read of {len}", out.len());
        Ok(out.freeze())
    }

    async fn read_block(
        &self,
        name: BlockName,
        range: Range<usize>,
        out: &mut BytesMut,
    ) -> Result<(), RangeReaderError> {
        let key = name.key(&self.volume_id);
        let cipher = BlockCipher::new(&self.keys, &self.volume_id);
        let damaged = |flaw| Damage {
            object: key.clone(),
            flaw,
        };
        let header = self.header(&cipher, name.address, &key).await?;
        for frame in range.start / FRAME_BYTES..range.end.div_ceil(FRAME_BYTES) {
            let stored = header.frame_range(frame);
            let bytes = if stored.is_empty() {
                Bytes::new()
            } else {
                let object = self.get(&key, stored).await?;
                if object.total_bytes != header.total_bytes() {
                    let (expected_bytes, found_bytes) = (header.total_bytes(), object.total_bytes);
                    return Err(damaged(Flaw::Length {
                        expected_bytes,
                        found_bytes,
                    })
                    .into());
                }
                object.bytes
            };
            let mut plain = vec![0; FRAME_BYTES];
            cipher
                .open_frame(&header, frame, &bytes, &mut plain)
                .map_err(damaged)?;
            let start = range.start.saturating_sub(frame * FRAME_BYTES);
            let end = (range.end - frame * FRAME_BYTES).min(FRAME_BYTES);
            out.extend_from_slice(&plain[start..end]);
        }
        Ok(())
    }

    async fn header(
        &self,
        cipher: &BlockCipher<'_>,
        address: Address,
        key: &Key,
    ) -> Result<Arc<BlockHeader>, RangeReaderError> {
        let known = self
            .headers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&address)
            .cloned();
        if let Some(header) = known {
            return Ok(header);
        }
        let object = self.get(key, 0..HEADER_BYTES as u64).await?;
        let opened = cipher.open_header(address, &object.bytes);
        let header = Arc::new(opened.map_err(|flaw| Damage {
            object: key.clone(),
            flaw,
        })?);
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        if headers.len() >= HEADERS_MAX {
            headers.clear();
        }
        headers.insert(address, Arc::clone(&header));
        Ok(header)
    }

    async fn get(&self, key: &Key, range: Range<u64>) -> Result<objstore::Object, RangeReaderError> {
        match self.backups.store.get(key, Some(range), BLOCK).await {
            Ok(object) => Ok(object),
            Err(error) => Err(classify(error)?.into()),
        }
    }
}

/// Narrows an offset within a block or a count of blocks that is in memory.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or_else(|_| unreachable!("{value} exceeds this host's addresses"))
}

#[cfg(test)]
mod tests;
