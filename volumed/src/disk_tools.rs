//! `volumed fsck`, `dump` and `salvage`: a disk's bucket, and its slice, looked at without an owner.

mod bucket;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crashsafe::RealDisk;
use log_disk::{
    Checkpoint, DiskId, Flaw, Head, Layout, ObjectName, PAGE_BYTES, PREFIX_BYTES, Role, SUPERBLOCK_PAGES,
    Sealer, head_key,
};
use log_disk_tools::{Bucket as _, BucketError, Checked, Depth, SalvageError, Salvaged};
use objstore::{ObjectStore, S3Store};

use crate::config::Config;
use crate::disk::{disk_id, volume_id};
use crate::keys::{ClusterKey, KeyFileError, UnwrapError, WrappedKey, WrappedKeyError};
use crate::volume::VolumeId;
use bucket::StoreBucket;

#[cfg(test)]
mod tests;

/// Why a tool could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The object store's configuration.
    #[error("object store")]
    Store(#[from] objstore::ConnectError),
    /// A configuration file could not be used.
    #[error(transparent)]
    Config(#[from] daemon::config_file::ConfigError),
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is no cluster key.
    #[error("no cluster key at {}; bring it back with `hangar key import`", path.display())]
    NoKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// The volume's key does not open.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// What stands where the volume's key should be.
    #[error("the disk's wrapped key")]
    Wrapped(#[from] WrappedKeyError),
    /// Neither HEAD nor any object tells the volume's key.
    #[error("the bucket has no HEAD and no readable object of volume {volume}: there is nothing to look at")]
    Nothing {
        /// The volume.
        volume: VolumeId,
    },
    /// The store does not answer.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// There is no image.
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    /// There is no such object.
    #[error("there is no object {key}")]
    NoObject {
        /// Its key.
        key: String,
    },
    /// It cannot be printed.
    #[error("object {key}: {flaw}; `volumed fsck` tells what else is wrong")]
    Damaged {
        /// Its key.
        key: String,
        /// Why.
        flaw: Flaw,
    },
    /// What it began as lies with other disks, which these tools do not read.
    #[error(
        "volume {volume} began as another ({}), and what it has of that lies there, where this does not look: nothing can be said of it \
         as a whole; look at that volume instead",
        bases.join(", ")
    )]
    Forked {
        /// The volume.
        volume: String,
        /// Those that it began as.
        bases: Vec<String>,
    },
    /// No object is called so.
    #[error("`{name}` is no object's name: those begin with d/, g/ or c/")]
    Name {
        /// What was asked for.
        name: String,
    },
    /// A file of this host.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is to be printed.
#[derive(Clone, Debug)]
pub enum Subject {
    /// HEAD.
    Head,
    /// An object by its name below the disk's, such as `d/0000000000000001-00000001`.
    Object(String),
    /// The journal on a slice of this host.
    Journal(PathBuf),
}

/// A volume's disk in the bucket. Its calls block, and are for a thread where that is allowed.
#[derive(Debug)]
pub struct Tools {
    bucket: StoreBucket,
    disk: DiskId,
    sealer: Sealer,
}

impl Tools {
    /// Finds the disk and its key: in HEAD, or where that is gone or damaged in any of its objects.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn open(config: &Config, volume: &VolumeId) -> Result<Self, ToolError> {
        let path = config.cluster_key();
        let cluster_key = ClusterKey::load(&RealDisk, &path)?.ok_or(ToolError::NoKey { path })?;
        let store = S3Store::connect(config.store()?, objstore::Metrics::unregistered()).await?;
        Self::over(Arc::new(store), cluster_key, volume).await
    }

    async fn over(
        store: Arc<dyn ObjectStore>,
        cluster_key: ClusterKey,
        volume: &VolumeId,
    ) -> Result<Self, ToolError> {
        let disk = disk_id(volume);
        let (mut bucket, volume) = (StoreBucket::new(store), volume.clone());
        blocking(move || {
            let in_head = bucket.get(&head_key(disk), None)?;
            let in_head = in_head.and_then(|bytes| Head::wrapped_key(&bytes).ok());
            let wrapped = match in_head {
                Some(wrapped) => wrapped,
                None => log_disk_tools::find_wrapped_key(&mut bucket, disk)?.ok_or_else(|| {
                    ToolError::Nothing {
                        volume: volume.clone(),
                    }
                })?,
            };
            let data_key = cluster_key.unwrap(volume.as_str(), &WrappedKey::from_bytes(&wrapped)?)?;
            Ok(Self {
                bucket,
                disk,
                sealer: data_key.disk_sealer(disk),
            })
        })
        .await
    }

    /// Checks the disk; every block too when `blocks`.
    ///
    /// # Errors
    /// [`ToolError::Bucket`].
    pub async fn fsck(mut self, blocks: bool) -> Result<Checked, ToolError> {
        let depth = if blocks { Depth::Blocks } else { Depth::Fronts };
        blocking(move || {
            self.is_whole()?;
            Ok(log_disk_tools::fsck(&mut self.bucket, &self.sealer, depth)?)
        })
        .await
    }

    /// Refuses a fork: its map refers to objects of other disks, which would seem to be missing.
    fn is_whole(&mut self) -> Result<(), ToolError> {
        let bytes = self.bucket.get(&head_key(self.disk), None)?;
        // One that is not there, or damaged, is the tool's to tell.
        let head = bytes.and_then(|bytes| Head::decode(&self.sealer, &bytes).ok());
        let bases = head.map(|head| head.bases).unwrap_or_default();
        if bases.is_empty() {
            return Ok(());
        }
        let name = |disk: DiskId| volume_id(disk).map_or_else(|| disk.to_string(), |id| id.to_string());
        Err(ToolError::Forked {
            volume: name(self.disk),
            bases: bases.iter().map(|base| name(base.disk)).collect(),
        })
    }

    /// Makes an image of what is left; `file` must not exist. What follows a hole near the end is taken when `beyond`.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn salvage(mut self, file: &Path, beyond: bool) -> Result<Salvaged, ToolError> {
        let path = file.to_owned();
        blocking(move || {
            self.is_whole()?;
            let failed = |source| ToolError::File {
                path: path.clone(),
                source,
            };
            let made = OpenOptions::new().write(true).create_new(true).open(&path);
            let mut image = made.map_err(failed)?;
            let salvaged = log_disk_tools::salvage(&mut self.bucket, &self.sealer, &mut image, beyond)?;
            image.sync_all().map_err(failed)?;
            Ok(salvaged)
        })
        .await
    }

    /// Returns lines for a person.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn dump(mut self, subject: Subject) -> Result<String, ToolError> {
        blocking(move || match subject {
            Subject::Head => self.dump_head(),
            Subject::Object(name) => self.dump_object(&name),
            Subject::Journal(slice) => self.dump_journal(&slice),
        })
        .await
    }

    fn dump_head(&mut self) -> Result<String, ToolError> {
        let key = head_key(self.disk);
        let bytes = self.bucket.get(&key, None)?;
        let bytes = bytes.ok_or_else(|| ToolError::NoObject { key: key.clone() })?;
        let head = Head::decode(&self.sealer, &bytes).map_err(|flaw| ToolError::Damaged { key, flaw })?;
        Ok(log_disk_tools::dump_head(&head))
    }

    fn dump_object(&mut self, name: &str) -> Result<String, ToolError> {
        let roles = [Role::Data, Role::Gc, Role::Checkpoint];
        let parsed = roles.into_iter().find_map(|role| {
            let rest = name.strip_prefix(role.folder())?.strip_prefix('/')?;
            ObjectName::parse(role, rest)
        });
        let parsed = parsed.ok_or_else(|| ToolError::Name {
            name: name.to_owned(),
        })?;
        let key = parsed.key(self.disk);
        let damaged = |flaw| ToolError::Damaged {
            key: key.clone(),
            flaw,
        };
        let gone = || ToolError::NoObject { key: key.clone() };
        if parsed.role == Role::Checkpoint {
            let bytes = self.bucket.get(&key, None)?.ok_or_else(gone)?;
            let checkpoint = Checkpoint::open(&self.sealer, &bytes).map_err(damaged)?;
            return Ok(log_disk_tools::dump_checkpoint(&checkpoint));
        }
        let prefix = self.bucket.get(&key, Some(0..PREFIX_BYTES))?.ok_or_else(gone)?;
        let needed = Layout::front_bytes(&prefix).map_err(damaged)?;
        let front = if needed > prefix.len() as u64 {
            self.bucket.get(&key, Some(0..needed))?.ok_or_else(gone)?
        } else {
            prefix
        };
        let layout = Layout::open(&self.sealer, &front).map_err(damaged)?;
        Ok(log_disk_tools::dump_object(&layout))
    }

    fn dump_journal(&self, slice: &Path) -> Result<String, ToolError> {
        let failed = |source| ToolError::File {
            path: slice.to_owned(),
            source,
        };
        let file = File::open(slice).map_err(failed)?;
        let mut superblocks = [vec![0; PAGE_BYTES], vec![0; PAGE_BYTES]];
        for (page, bytes) in (0..).zip(&mut superblocks) {
            file.read_exact_at(bytes, page * PAGE_BYTES as u64)
                .map_err(failed)?;
        }
        let [first, second] = &superblocks;
        let ring_pages = log_disk::newest_superblock([first, second]).map_or(1, |found| found.ring_pages);
        let mut read = |position: u64, pages: u64| {
            let at = (SUPERBLOCK_PAGES + position % ring_pages) * PAGE_BYTES as u64;
            let mut bytes = vec![0; usize::try_from(pages).ok()?.checked_mul(PAGE_BYTES)?];
            file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
        };
        Ok(log_disk_tools::dump_journal(
            &self.sealer,
            [first, second],
            &mut read,
        ))
    }
}

/// Runs what waits for the store where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ToolError> + Send + 'static,
) -> Result<T, ToolError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("blocking work ended without a value: {cancelled}"),
        },
    }
}
