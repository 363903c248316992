//! Work on disks that are not open here: what snapshots one has, forking it at one of them, deleting it without taking anything
//! from its forks. Each call may come again, after a crash or an outage, and goes on where the last one ended.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use log_disk::{
    BLOCK_BYTES, BucketAnswer, BucketAsk, BucketStep, DiskId, Flaw, ForkError, ForkOptions, Forking, GotHead,
    Head, HeadPut, ReapError, ReapOptions, Reaping, Salt, Sealer, Snapshot,
};
use objstore::{DeleteError, GetError, Key, ListError, ObjectStore, PutError};

use super::settings::{disk_id, volume_id};
use super::store::{Bucket, checked, purpose};
use crate::keys::{ClusterKey, UnwrapError, WrappedKey, WrappedKeyError};
use crate::volume::VolumeId;

/// Requests to the store at once.
const AT_ONCE: usize = 16;

/// Why it was not done, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FamilyError {
    /// The store did not answer: again, it goes on.
    #[error("the object store did not answer about disk {disk}")]
    Unknown {
        /// Which.
        disk: DiskId,
    },
    /// The store did not answer.
    #[error("objects of the disk")]
    Get(#[from] GetError),
    /// The store did not answer.
    #[error("objects of the disk")]
    List(#[from] ListError),
    /// The store did not answer.
    #[error("objects of the disk")]
    Put(#[from] PutError),
    /// The store did not answer.
    #[error("objects of the disk")]
    Delete(#[from] DeleteError),
    /// A volume's key does not open.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// What stands where a key should be.
    #[error("key of disk {disk}")]
    Wrapped {
        /// Which.
        disk: DiskId,
        /// What is wrong with it.
        source: WrappedKeyError,
    },
    /// A HEAD that does not open.
    #[error("HEAD of disk {disk}: {flaw}; `volumed fsck` tells more")]
    Damaged {
        /// Whose.
        disk: DiskId,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// A disk whose name is no volume's.
    #[error("disk {disk} is no volume's")]
    Foreign {
        /// Which.
        disk: DiskId,
    },
    /// There is no fork.
    #[error(transparent)]
    Fork(#[from] ForkError),
    /// The disk cannot be deleted.
    #[error(transparent)]
    Reap(#[from] ReapError),
}

/// A disk and the key that opens it.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// Its volume.
    pub volume: VolumeId,
    /// The volume's data key, wrapped by the cluster's.
    pub wrapped_key: WrappedKey,
}

/// The disks of a cluster in its bucket.
#[derive(Debug)]
pub struct Family {
    store: Arc<dyn ObjectStore>,
    cluster_key: ClusterKey,
}

impl Family {
    /// Sees the disks of `store` with `cluster_key`.
    pub fn new(store: Arc<dyn ObjectStore>, cluster_key: ClusterKey) -> Self {
        Self { store, cluster_key }
    }

    fn bucket(&self, disk: DiskId) -> Bucket {
        Bucket::new(Arc::clone(&self.store), disk)
    }

    fn sealer(&self, keyed: &Keyed) -> Result<Arc<Sealer>, FamilyError> {
        let key = self
            .cluster_key
            .unwrap(keyed.volume.as_str(), &keyed.wrapped_key)?;
        Ok(Arc::new(key.disk_sealer(disk_id(&keyed.volume))))
    }

    /// Returns what the bucket has of a disk; `None` when there is no HEAD.
    async fn head(&self, disk: DiskId) -> Result<Option<(Keyed, Head)>, FamilyError> {
        let bytes = match self.bucket(disk).head().await {
            GotHead::Found { bytes, .. } => bytes,
            GotHead::Missing => return Ok(None),
            GotHead::Unknown => return Err(FamilyError::Unknown { disk }),
        };
        let damaged = |flaw| FamilyError::Damaged { disk, flaw };
        let wrapped = Head::wrapped_key(&bytes).map_err(damaged)?;
        let wrapped = WrappedKey::from_bytes(&wrapped);
        let keyed = Keyed {
            volume: volume_id(disk).ok_or(FamilyError::Foreign { disk })?,
            wrapped_key: wrapped.map_err(|source| FamilyError::Wrapped { disk, source })?,
        };
        let sealer = self.sealer(&keyed)?;
        let head = Head::decode(&sealer, &bytes).map_err(damaged)?;
        Ok(Some((keyed, head)))
    }

    /// Returns a disk's snapshots, oldest first; none of a disk that is deleted or not there.
    ///
    /// # Errors
    /// [`FamilyError`].
    pub async fn snapshots(&self, volume: &VolumeId) -> Result<Vec<Snapshot>, FamilyError> {
        let found = self.head(disk_id(volume)).await?;
        let alive = found.map(|(_, head)| head).filter(|head| !head.deleted);
        Ok(alive.map(|head| head.snapshots).unwrap_or_default())
    }

    /// Makes `fork` the disk that `parent` was at a snapshot, without moving data, and returns its size in bytes. One that was made
    /// by an earlier call stays as it is, whatever became of it since.
    ///
    /// # Errors
    /// [`FamilyError::Fork`] for good; nothing of the fork is left then.
    pub async fn fork(&self, parent: &Keyed, snapshot: &str, fork: &Keyed) -> Result<u64, FamilyError> {
        let options = ForkOptions {
            parent: self.sealer(parent)?,
            snapshot: snapshot.to_owned(),
            fork: self.sealer(fork)?,
            wrapped_key: fork.wrapped_key.to_bytes().to_vec(),
            salt: Salt(daemon::random::bytes()),
            mutant: None,
        };
        let (mut forking, mut ask) = Forking::new(options);
        loop {
            match forking.answer(self.perform(ask).await?)? {
                BucketStep::Ask(next) => ask = next,
                BucketStep::Over(head) => return Ok(head.size_blocks * BLOCK_BYTES as u64),
            }
        }
    }

    /// Deletes a disk. What its forks need stays until they are deleted, too; what only it kept of deleted disks before it goes with
    /// it. There being no such disk is a success.
    ///
    /// # Errors
    /// [`FamilyError`].
    pub async fn erase(&self, volume: &VolumeId) -> Result<(), FamilyError> {
        let mut doomed = self.erase_one(disk_id(volume)).await?;
        while let Some(disk) = doomed.pop() {
            let found = self.head(disk).await?;
            if found.is_some_and(|(_, head)| head.deleted) {
                doomed.extend(self.erase_one(disk).await?);
            }
        }
        Ok(())
    }

    /// Deletes a disk and returns those that it was forked from.
    async fn erase_one(&self, disk: DiskId) -> Result<Vec<DiskId>, FamilyError> {
        let mut bases = Vec::new();
        if let Some((keyed, _)) = self.head(disk).await? {
            let options = ReapOptions {
                sealer: self.sealer(&keyed)?,
                salt: Salt(daemon::random::bytes()),
                mutant: None,
            };
            let (mut reaping, mut ask) = Reaping::new(options);
            bases = loop {
                match reaping.answer(self.perform(ask).await?)? {
                    BucketStep::Ask(next) => ask = next,
                    BucketStep::Over(reaped) => break reaped.bases,
                }
            };
        }
        let pins = self.bucket(disk).pins().await;
        if pins.ok_or(FamilyError::Unknown { disk })?.is_empty() {
            self.clear(disk).await?;
        }
        Ok(bases)
    }

    /// Deletes all of a disk that nobody needs: HEAD last, so that another call finds out the same.
    async fn clear(&self, disk: DiskId) -> Result<(), FamilyError> {
        let head = checked(log_disk::head_key(disk));
        let prefix = format!("disk/{disk}/");
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .list(&prefix, after.as_deref(), 1000, purpose::SWEEP)
                .await?;
            let keys = page.entries.iter().map(|entry| &entry.key);
            stream::iter(keys.filter(|key| **key != head).map(Ok::<&Key, DeleteError>))
                .try_for_each_concurrent(AT_ONCE, |key| self.store.delete(key, purpose::SWEEP))
                .await?;
            match page.entries.last() {
                Some(last) if page.more => after = Some(last.key.as_str().to_owned()),
                Some(_) | None => break,
            }
        }
        Ok(self.store.delete(&head, purpose::SWEEP).await?)
    }

    /// Asks the store. What it does not answer ends the work, which may be begun again at any time.
    async fn perform(&self, ask: BucketAsk) -> Result<BucketAnswer, FamilyError> {
        Ok(match ask {
            BucketAsk::GetHead { disk } => match self.bucket(disk).head().await {
                GotHead::Unknown => return Err(FamilyError::Unknown { disk }),
                got => BucketAnswer::Head(got),
            },
            BucketAsk::PutHead {
                disk,
                expected: Some(expected),
                body,
            } => BucketAnswer::HeadPut(self.bucket(disk).put_head(&expected, body).await),
            BucketAsk::PutHead {
                disk,
                expected: None,
                body,
            } => BucketAnswer::HeadPut(match self.bucket(disk).make_head(body).await {
                Ok(etag) => HeadPut::Stored(etag),
                Err(PutError::Exists { .. }) => HeadPut::Stale,
                Err(_) => HeadPut::Unknown,
            }),
            BucketAsk::ListPins { disk } => {
                let pins = self.bucket(disk).pins().await;
                BucketAnswer::Pins(pins.ok_or(FamilyError::Unknown { disk })?)
            }
            BucketAsk::PutPin { disk, pin } => {
                self.bucket(disk).put_pin(pin).await?;
                BucketAnswer::Done
            }
            BucketAsk::DeletePin { disk, pin } => {
                self.bucket(disk).delete_pin(pin).await?;
                BucketAnswer::Done
            }
            BucketAsk::Get(wanted) => {
                let parts = wanted.parts.into_iter().map(|part| {
                    let home = self.bucket(part.disk);
                    async move { home.get(part.name, part.range, purpose::OPEN).await }
                });
                BucketAnswer::Got(stream::iter(parts).buffered(AT_ONCE).try_collect().await?)
            }
            BucketAsk::List { disk, role } => {
                BucketAnswer::Listed(self.bucket(disk).list(role, purpose::SWEEP).await?)
            }
            BucketAsk::Delete { disk, names } => {
                let bucket = self.bucket(disk);
                let deleting = stream::iter(names).map(|name| bucket.delete(name));
                let deleted: Vec<bool> = deleting.buffer_unordered(AT_ONCE).collect().await;
                if deleted.contains(&false) {
                    return Err(FamilyError::Unknown { disk });
                }
                BucketAnswer::Done
            }
        })
    }
}

#[cfg(test)]
mod tests;
