//! Uploading a snapshot.

mod base;
mod block_list;
mod lost;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use objstore::{ListError, PutError, Remedy};

pub use base::Base;

use base::BaseBlocks;
use block_list::{Block, BlockList};

use super::block::{Address, BLOCK_BYTES, BlockCipher};
use super::damage::Damage;
use super::fetch::{ManifestError, any_manifest};
use super::manifest::{Decoded, Manifest, ManifestHead};
use super::names::{BlockName, IdError, SnapshotRef};
use super::state::{self, StateError};
use super::{BLOCK, Backups, Compression, MANIFEST, Progress};
use crate::bulk::{Content, ImageSource, is_zero};
use crate::keys::{BackupKeys, UnwrapError};

/// Why a snapshot was not uploaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// Its ids cannot be part of keys.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Its data key does not open.
    #[error("upload of {snapshot}")]
    Key {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Why.
        #[source]
        source: UnwrapError,
    },
    /// Image and head disagree on the size.
    #[error("upload of {snapshot}: the image has {image_bytes} bytes, the volume {head_bytes}")]
    Size {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Size of the image.
        image_bytes: u64,
        /// Size in the head.
        head_bytes: u64,
    },
    /// The image could not be read.
    #[error("upload of {snapshot}: reading byte {offset} of the image")]
    Source {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Where the read began.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store did not take an object.
    #[error("upload of {snapshot}")]
    Put {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What the store said.
        #[source]
        source: PutError,
    },
    /// The base, or the snapshot's own earlier manifest, could not be read.
    #[error("upload of {snapshot}")]
    Manifest {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// Whether the base's blocks are still there is not known.
    #[error("upload of {snapshot}: looking for the blocks of its base")]
    List {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What the store said.
        #[source]
        source: ListError,
    },
    /// The volume's register.
    #[error("upload of {snapshot}")]
    State {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The snapshot was deleted or abandoned meanwhile. It can never be uploaded under this id.
    #[error("upload of {snapshot}: it was deleted or given up")]
    Abandoned {
        /// The snapshot.
        snapshot: SnapshotRef,
    },
}

impl UploadError {
    /// What the caller can do. After `Retry` the same call continues where this one stopped.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Id(source) => source.remedy(),
            Self::Key { source, .. } => source.remedy(),
            Self::Size { .. } => Remedy::Report,
            Self::Source { .. } => Remedy::Retry,
            Self::Put { source, .. } => source.remedy(),
            Self::Manifest { source, .. } => source.remedy(),
            Self::List { source, .. } => source.remedy(),
            Self::State { source, .. } => source.remedy(),
            Self::Abandoned { .. } => Remedy::Stop,
        }
    }
}

/// What became of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseUse {
    /// None was given.
    None,
    /// Its blocks were re-used.
    Used,
    /// It is gone: everything was uploaded.
    Missing,
    /// It or a block of it is damaged or lost, or it is under another key: everything was uploaded.
    Unusable,
}

/// A snapshot that is in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// As published, what `upload` fills in included.
    pub head: ManifestHead,
    /// Bytes of blocks that this call sent. Less than [`ManifestHead::stored_bytes`] after a resumed upload.
    pub uploaded_bytes: u64,
    /// Blocks that the base did not have.
    pub blocks_new: u64,
    /// Blocks that were taken over from the base without reading them.
    pub blocks_unread: u64,
    /// What became of the base.
    pub base: BaseUse,
    /// What was found wrong with it.
    pub base_damage: Option<Damage>,
}

/// Uploads a snapshot, and returns when its manifest is durable in the bucket.
///
/// * `head`: the facts; `parent`, `stored_bytes`, `data_blocks` and `digest` are filled in here.
/// * `source`: the snapshot's image, which must not change.
/// * `base`: a snapshot of the same volume whose blocks are re-used where the content is the same, and not even read
///   where it is known that nothing changed.
///
/// May be called again after an error or a crash with the same arguments: it continues, or finds that it was done. Until
/// it has succeeded, or [`abandon`](super::abandon) was called, nothing of the volume is swept.
///
/// Holds [`Backups::concurrency`] blocks in memory at a time.
///
/// # Errors
/// [`UploadError`]; [`remedy`](UploadError::remedy) says whether to call again.
pub async fn upload(
    backups: &Backups,
    head: ManifestHead,
    source: &dyn ImageSource,
    base: Option<Base<'_>>,
    progress: &Progress,
) -> Result<Uploaded, UploadError> {
    let snapshot = SnapshotRef::new(&head.volume_id, &head.snapshot_id)?;
    if source.size_bytes() != head.size_bytes {
        let (image_bytes, head_bytes) = (source.size_bytes(), head.size_bytes);
        return Err(UploadError::Size {
            snapshot,
            image_bytes,
            head_bytes,
        });
    }
    let data_key = backups
        .cluster_key
        .unwrap(snapshot.volume_id(), &head.wrapped_key);
    let data_key = data_key.map_err(|source| UploadError::Key {
        snapshot: snapshot.clone(),
        source,
    })?;
    let base_snapshot = base
        .as_ref()
        .map(|base| SnapshotRef::new(snapshot.volume_id(), base.snapshot_id))
        .transpose()?;
    let changed = base.and_then(|base| base.changed);
    let run = Run {
        backups,
        snapshot,
        source,
        progress,
        keys: Arc::new(data_key.backup_keys()),
    };

    if let Some(head) = run.published().await? {
        run.close().await?;
        return Ok(Uploaded {
            head,
            uploaded_bytes: 0,
            blocks_new: 0,
            blocks_unread: 0,
            base: BaseUse::None,
            base_damage: None,
        });
    }
    state::open(
        &*backups.store,
        run.snapshot.volume_id(),
        run.snapshot.snapshot_id(),
    )
    .await
    .map_err(|source| run.state(source))?;
    // Only now: what a base names is safe from a sweep because this upload was open when the base was read.
    let found = run.read_base(base_snapshot).await?;
    let parent = found.manifest.as_ref().map(|base| base.head.snapshot_id.clone());
    let blocks = found
        .manifest
        .map(|base| BaseBlocks::new(&base, head.size_bytes, changed.as_deref()));
    let head = ManifestHead { parent, ..head };
    let uploaded = run.blocks_and_manifest(head, blocks.unwrap_or_default()).await?;
    Ok(Uploaded {
        base: found.base,
        base_damage: found.damage,
        ..uploaded
    })
}

/// A base as it was found.
struct FoundBase {
    /// When it can be built on.
    manifest: Option<Manifest>,
    base: BaseUse,
    damage: Option<Damage>,
}

struct Run<'a> {
    backups: &'a Backups,
    snapshot: SnapshotRef,
    source: &'a dyn ImageSource,
    progress: &'a Progress,
    keys: Arc<BackupKeys>,
}

/// What the codec made of a block's bytes.
enum Sealed {
    Zero,
    Reused { address: Address, writer: Arc<str> },
    New { address: Address, object: Bytes },
}

impl Run<'_> {
    fn state(&self, source: StateError) -> UploadError {
        UploadError::State {
            snapshot: self.snapshot.clone(),
            source,
        }
    }

    async fn close(&self) -> Result<(), UploadError> {
        let closed = state::close(
            &*self.backups.store,
            self.snapshot.volume_id(),
            self.snapshot.snapshot_id(),
        )
        .await;
        closed.map_err(|source| self.state(source))
    }

    /// Finds out whether the snapshot is in the bucket already.
    async fn published(&self) -> Result<Option<ManifestHead>, UploadError> {
        match any_manifest(self.backups, &self.snapshot).await {
            Ok(Decoded::Complete(manifest)) => Ok(Some(manifest.head)),
            Ok(Decoded::Void { .. }) => {
                self.close().await?;
                Err(UploadError::Abandoned {
                    snapshot: self.snapshot.clone(),
                })
            }
            Err(ManifestError::NotFound { .. }) => Ok(None),
            Err(source) => Err(UploadError::Manifest {
                snapshot: self.snapshot.clone(),
                source,
            }),
        }
    }

    async fn read_base(&self, base: Option<SnapshotRef>) -> Result<FoundBase, UploadError> {
        let without = |base, damage| FoundBase {
            manifest: None,
            base,
            damage,
        };
        let Some(base) = base else {
            return Ok(without(BaseUse::None, None));
        };
        let manifest = match any_manifest(self.backups, &base).await {
            Ok(Decoded::Complete(manifest)) => manifest,
            Ok(Decoded::Void { .. }) => return Ok(without(BaseUse::Missing, None)),
            Err(error) => match error.damage() {
                Some(damage) if matches!(error, ManifestError::NotFound { .. }) => {
                    return Ok(without(BaseUse::Missing, Some(damage)));
                }
                Some(damage) => return Ok(without(BaseUse::Unusable, Some(damage))),
                None => {
                    return Err(UploadError::Manifest {
                        snapshot: self.snapshot.clone(),
                        source: error,
                    });
                }
            },
        };
        if !self.same_key(&manifest) {
            return Ok(without(BaseUse::Unusable, None));
        }
        let lost = lost::block(&*self.backups.store, &manifest).await;
        match lost.map_err(|source| UploadError::List {
            snapshot: self.snapshot.clone(),
            source,
        })? {
            Some(damage) => Ok(without(BaseUse::Unusable, Some(damage))),
            None => Ok(FoundBase {
                manifest: Some(manifest),
                base: BaseUse::Used,
                damage: None,
            }),
        }
    }

    /// Tells whether the base's blocks were sealed under this upload's keys, as they must be to stand in its manifest.
    fn same_key(&self, base: &Manifest) -> bool {
        let key = self
            .backups
            .cluster_key
            .unwrap(self.snapshot.volume_id(), &base.head.wrapped_key);
        key.is_ok_and(|key| key.backup_keys().address == self.keys.address)
    }

    async fn blocks_and_manifest(
        &self,
        mut head: ManifestHead,
        base: BaseBlocks,
    ) -> Result<Uploaded, UploadError> {
        self.progress.begin(head.size_bytes);
        let base = Arc::new(base);
        let count = usize::try_from(head.size_bytes.div_ceil(BLOCK_BYTES as u64)).unwrap_or(usize::MAX);
        let mut work = stream::iter(0..count)
            .map(|number| {
                let base = Arc::clone(&base);
                async move { self.block(number, &base).await.map(|done| (number, done)) }
            })
            .buffer_unordered(self.backups.concurrency.max(1));

        let mut list = BlockList::new(count, self.snapshot.snapshot_id());
        let mut blocks_unread = 0;
        while let Some(done) = work.next().await {
            let (number, (block, read)) = done?;
            blocks_unread += u64::from(!read);
            list.enter(number, block);
        }
        drop(work);
        let BlockList {
            blocks,
            writers,
            new,
            stored_bytes,
            uploaded_bytes,
            ..
        } = list;
        head.stored_bytes = stored_bytes;
        let mut manifest = Manifest {
            head,
            blocks,
            writers,
        };
        manifest.head.data_blocks = manifest.data_blocks().count() as u64;
        manifest.head.digest = manifest.content_digest();
        let head = self.publish(manifest).await?;
        self.close().await?;
        Ok(Uploaded {
            head,
            uploaded_bytes,
            blocks_new: new.len() as u64,
            blocks_unread,
            base: BaseUse::None,
            base_damage: None,
        })
    }

    /// Deals with one block; returns too whether it was read.
    async fn block(&self, number: usize, base: &Arc<BaseBlocks>) -> Result<(Block, bool), UploadError> {
        let offset = number as u64 * BLOCK_BYTES as u64;
        let len = (self.source.size_bytes() - offset).min(BLOCK_BYTES as u64);
        if let Some(block) = base.unread(number) {
            self.progress.advance(len);
            return Ok((block, false));
        }
        let read = self
            .source
            .read_content(offset, usize::try_from(len).unwrap_or(BLOCK_BYTES))
            .await;
        let content = read.map_err(|source| UploadError::Source {
            snapshot: self.snapshot.clone(),
            offset,
            source,
        })?;
        let block = match content {
            Content::Undefined => Block::Undefined,
            Content::Zero => Block::Zero,
            Content::Data(plain) => self.data_block(plain, base).await?,
        };
        self.progress.advance(len);
        Ok((block, true))
    }

    async fn data_block(&self, plain: Bytes, base: &Arc<BaseBlocks>) -> Result<Block, UploadError> {
        let (keys, base) = (Arc::clone(&self.keys), Arc::clone(base));
        let volume_id = self.snapshot.volume_id().to_owned();
        let compression = self.backups.compression;
        let sealed = self
            .backups
            .workers
            .run(move || seal(&keys, &volume_id, &base, plain, compression))
            .await;
        let (address, object) = match sealed {
            Sealed::Zero => return Ok(Block::Zero),
            Sealed::Reused { address, writer } => return Ok(Block::Reused { address, writer }),
            Sealed::New { address, object } => (address, object),
        };
        let stored_bytes = object.len() as u64;
        let name = BlockName {
            writer: self.snapshot.snapshot_id().to_owned(),
            address,
        };
        let key = name.key(self.snapshot.volume_id());
        let uploaded_bytes = match self.backups.store.put_if_absent(&key, object, BLOCK).await {
            Ok(_) => stored_bytes,
            // Ours, from an earlier attempt or another place of this volume with the same content: nobody else writes
            // under this snapshot's name. And whole: a put is there with all its bytes or not at all, and they were
            // sent with their CRC-32. No sweep is after it, for this upload is open and has never been closed.
            Err(PutError::Exists { .. }) => 0,
            Err(source) => {
                return Err(UploadError::Put {
                    snapshot: self.snapshot.clone(),
                    source,
                });
            }
        };
        Ok(Block::New {
            address,
            stored_bytes,
            uploaded_bytes,
        })
    }

    /// Puts the manifest, unless the snapshot was deleted or abandoned meanwhile.
    async fn publish(&self, manifest: Manifest) -> Result<ManifestHead, UploadError> {
        let (keys, of) = (Arc::clone(&self.keys), self.snapshot.clone());
        let head = manifest.head.clone();
        let object = self
            .backups
            .workers
            .run(move || manifest.encode(&keys, &of))
            .await;
        match self
            .backups
            .store
            .put_if_absent(&self.snapshot.manifest_key(), object, MANIFEST)
            .await
        {
            Ok(_) => Ok(head),
            // An earlier attempt's, which is as good as this one, or void.
            Err(PutError::Exists { .. }) => match self.published().await? {
                Some(head) => Ok(head),
                None => Err(UploadError::Abandoned {
                    snapshot: self.snapshot.clone(),
                }),
            },
            Err(source) => Err(UploadError::Put {
                snapshot: self.snapshot.clone(),
                source,
            }),
        }
    }
}

fn seal(
    keys: &BackupKeys,
    volume_id: &str,
    base: &BaseBlocks,
    plain: Bytes,
    compression: Compression,
) -> Sealed {
    if is_zero(&plain) {
        return Sealed::Zero;
    }
    let mut plain = plain;
    if plain.len() < BLOCK_BYTES {
        let mut filled = Vec::from(plain);
        filled.resize(BLOCK_BYTES, 0);
        plain = Bytes::from(filled);
    }
    let address = Address::of(keys, &plain);
    if let Some(writer) = base.writer(&address) {
        return Sealed::Reused {
            address,
            writer: Arc::clone(writer),
        };
    }
    Sealed::New {
        address,
        object: BlockCipher::new(keys, volume_id).seal(address, &plain, compression),
    }
}

#[cfg(test)]
mod tests;
