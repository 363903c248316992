//! A disk's beginning: its HEAD, put if absent, and the files from which a host serves it.

use std::path::PathBuf;
use std::sync::Arc;

use crashsafe::RealDisk;
use log_disk::{Flaw, GotHead, Head, Salt};
use objstore::{ObjectStore, PutError, S3Store};

use super::settings::{Settings, SettingsError, SliceSettings};
use super::state::DiskDir;
use super::store::Bucket;
use crate::config::Config;
use crate::keys::{ClusterKey, DataKey, KeyFileError, UnwrapError, WrappedKey, WrappedKeyError};
use crate::random::OsRandom;
use crate::volume::VolumeId;

/// Why a disk was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The volume's key.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// The key that stands in the bucket.
    #[error("HEAD of the disk")]
    Wrapped(#[from] WrappedKeyError),
    /// The store did not take it.
    #[error("object store")]
    Put(#[from] PutError),
    /// The object store's configuration.
    #[error("object store")]
    Store(#[from] objstore::ConnectError),
    /// A configuration file could not be used.
    #[error(transparent)]
    Config(#[from] daemon::config_file::ConfigError),
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The directory.
    #[error("directory {}", path.display())]
    Dir {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store did not say whether there is a disk of this volume.
    #[error("HEAD of the disk was not read: try again")]
    Unknown,
    /// There is a disk of this volume that does not open.
    #[error("HEAD of the disk: {flaw}")]
    Damaged {
        /// What is wrong with it.
        flaw: Flaw,
    },
}

/// Makes the disk of `settings` in the bucket. Again with the same key it changes nothing, however far the disk has come since.
///
/// # Errors
/// [`CreateError`]; [`CreateError::Damaged`] also when the volume has a disk under another key.
pub async fn create(
    store: Arc<dyn ObjectStore>,
    cluster_key: &ClusterKey,
    settings: &Settings,
) -> Result<(), CreateError> {
    let disk = settings.disk_id();
    let data_key = cluster_key.unwrap(settings.volume_id.as_str(), &settings.wrapped_key)?;
    let sealer = data_key.disk_sealer(disk);
    let head = Head::new(
        disk,
        settings.size_blocks(),
        settings.wrapped_key.to_bytes().to_vec(),
    );
    let bucket = Bucket::new(store, disk);
    match bucket
        .make_head(head.encode(&sealer, Salt(daemon::random::bytes())).into())
        .await
    {
        Ok(_) => Ok(()),
        Err(PutError::Exists { .. }) => match bucket.head().await {
            GotHead::Found { bytes, .. } => Head::decode(&sealer, &bytes)
                .map(drop)
                .map_err(|flaw| CreateError::Damaged { flaw }),
            GotHead::Missing | GotHead::Unknown => Err(CreateError::Unknown),
        },
        Err(error) => Err(error.into()),
    }
}

/// Returns the wrapped data key of a volume's disk, `None` when there is no such disk: for a host that is to serve it from now on.
///
/// # Errors
/// [`CreateError`].
pub async fn wrapped_key(
    store: Arc<dyn ObjectStore>,
    volume: &VolumeId,
) -> Result<Option<WrappedKey>, CreateError> {
    match Bucket::new(store, super::disk_id(volume)).head().await {
        GotHead::Found { bytes, .. } => {
            let wrapped = Head::wrapped_key(&bytes).map_err(|flaw| CreateError::Damaged { flaw })?;
            Ok(Some(WrappedKey::from_bytes(&wrapped)?))
        }
        GotHead::Missing => Ok(None),
        GotHead::Unknown => Err(CreateError::Unknown),
    }
}

/// A disk that is to be made, or served by this host from now on.
#[derive(Clone, Debug)]
pub struct NewDisk {
    /// The volume.
    pub volume_id: VolumeId,
    /// Its size, if it is made.
    pub size_bytes: u64,
    /// See [`SliceSettings`].
    pub ring_bytes: u64,
    /// See [`SliceSettings`].
    pub cache_bytes: u64,
    /// Where the slice is; `slice` beside the settings when absent.
    pub slice: Option<PathBuf>,
}

impl NewDisk {
    /// Writes the settings, unless there are some, and makes the disk, unless there is one.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn make(self, config: &Config) -> Result<(), CreateError> {
        let dir = DiskDir::new(&config.data_dir, &self.volume_id);
        crashsafe::create_dir_durable(&RealDisk, "disk:dir", dir.path()).map_err(|source| {
            CreateError::Dir {
                path: dir.path().to_owned(),
                source,
            }
        })?;
        let cluster_key = ClusterKey::load_or_make(&RealDisk, &config.cluster_key(), &OsRandom)?;
        let connected = S3Store::connect(config.store()?, objstore::Metrics::unregistered()).await?;
        let store: Arc<dyn ObjectStore> = Arc::new(connected);
        let settings = if dir.settings().exists() {
            Settings::load(&dir.settings(), &self.volume_id)?
        } else {
            let there = wrapped_key(Arc::clone(&store), &self.volume_id).await?;
            let settings = self.settings(&dir, there, &cluster_key);
            settings.save(&RealDisk, &dir.settings())?;
            settings
        };
        create(store, &cluster_key, &settings).await
    }

    fn settings(self, dir: &DiskDir, there: Option<WrappedKey>, cluster_key: &ClusterKey) -> Settings {
        let wrapped_key = there.unwrap_or_else(|| {
            let key = DataKey::generate(&OsRandom);
            cluster_key.wrap(self.volume_id.as_str(), &key, &OsRandom)
        });
        let path = self.slice.unwrap_or_else(|| dir.path().join("slice"));
        let slice = SliceSettings::new(path, self.ring_bytes, self.cache_bytes);
        Settings::new(self.volume_id, self.size_bytes, wrapped_key, slice)
    }
}

#[cfg(test)]
mod tests;
