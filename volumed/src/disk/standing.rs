//! Whose a disk is, found out without opening it.

use std::sync::Arc;

use log_disk::{Epoch, Flaw, GotHead, Head, JournalId, JournalState, judge_journal, newest_superblock};
use objstore::{GetError, ObjectStore, Remedy};

use super::about::{About, AboutError};
use super::settings::{Settings, SliceSettings, disk_id};
use super::slice::{Slice, SliceError};
use super::store::Bucket;
use crate::keys::{ClusterKey, DataKey, UnwrapError, WrappedKey, WrappedKeyError};
use crate::volume::VolumeId;

/// A disk in the bucket that somebody serves, served, or never did.
#[derive(Clone, Debug)]
pub struct FoundDisk {
    /// Its data key, as it stands in HEAD.
    pub wrapped_key: WrappedKey,
    /// Its size.
    pub size_bytes: u64,
    /// What its bucket says of its volume; `None` when it says nothing.
    pub about: Option<About>,
    /// Who wrote last, if anybody ever did.
    pub last: Option<LastOwner>,
}

/// The host that wrote to a disk last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastOwner {
    /// Its journal.
    pub journal: JournalId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it has given the disk up, with everything in the bucket.
    pub released: bool,
}

/// What a disk is to a host with files of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The bucket has no such disk, or it is deleted.
    Gone,
    /// Nobody ever wrote to it.
    Unwritten,
    /// The host's journal is what the disk goes on from.
    Ours {
        /// Whether the disk was given up all the same.
        released: bool,
    },
    /// It goes on from another journal.
    Elsewhere(LastOwner),
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// The store did not answer.
    #[error("HEAD of the disk was not read: the object store does not answer")]
    Unknown,
    /// The store.
    #[error("object store")]
    Get(#[from] GetError),
    /// HEAD is there and is not what it should be.
    #[error("HEAD of the disk: {flaw}")]
    Head {
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The key in HEAD.
    #[error("HEAD of the disk")]
    Wrapped(#[from] WrappedKeyError),
    /// The cluster key does not open it.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// What the bucket says of the volume.
    #[error(transparent)]
    About(#[from] AboutError),
    /// The slice.
    #[error(transparent)]
    Slice(#[from] SliceError),
}

impl LookError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unknown | Self::Slice(_) => Remedy::Retry,
            Self::Get(error) => error.remedy(),
            Self::Head { .. } | Self::Wrapped(_) | Self::About(_) => Remedy::FixData,
            Self::Unwrap(error) => error.remedy(),
        }
    }
}

/// A disk's HEAD with what is needed to read on.
struct Looked {
    wrapped_key: WrappedKey,
    data_key: DataKey,
    head: Head,
}

async fn look(bucket: &Bucket, key: &ClusterKey, volume: &VolumeId) -> Result<Option<Looked>, LookError> {
    let bytes = match bucket.head().await {
        GotHead::Found { bytes, .. } => bytes,
        GotHead::Missing => return Ok(None),
        GotHead::Unknown => return Err(LookError::Unknown),
    };
    let flawed = |flaw| LookError::Head { flaw };
    let wrapped_key = WrappedKey::from_bytes(&Head::wrapped_key(&bytes).map_err(flawed)?)?;
    let data_key = key.unwrap(volume.as_str(), &wrapped_key)?;
    let head = Head::decode(&data_key.disk_sealer(disk_id(volume)), &bytes).map_err(flawed)?;
    Ok((!head.deleted).then_some(Looked {
        wrapped_key,
        data_key,
        head,
    }))
}

async fn last_owner(bucket: &Bucket, head: &Head) -> Result<Option<LastOwner>, LookError> {
    let Some(stream) = head.stream() else {
        return Ok(None);
    };
    Ok(Some(LastOwner {
        journal: stream.owner,
        epoch: stream.epoch,
        released: bucket.is_released(stream.epoch).await?,
    }))
}

/// Looks a volume's disk up in the bucket; `None` when there is none.
///
/// # Errors
/// [`LookError`]; also when the disk is there and what stands beside it is damaged.
pub async fn find(
    store: Arc<dyn ObjectStore>,
    key: &ClusterKey,
    volume: &VolumeId,
) -> Result<Option<FoundDisk>, LookError> {
    let bucket = Bucket::new(store, disk_id(volume));
    let Some(looked) = look(&bucket, key, volume).await? else {
        return Ok(None);
    };
    let about = match bucket.about().await? {
        Some((bytes, _)) => Some(About::decode(&looked.data_key, disk_id(volume), &bytes)?),
        None => None,
    };
    Ok(Some(FoundDisk {
        wrapped_key: looked.wrapped_key,
        size_bytes: looked.head.size_blocks * log_disk::BLOCK_BYTES as u64,
        about,
        last: last_owner(&bucket, &looked.head).await?,
    }))
}

/// Says what a disk is to the host that has files of it. Nobody of this host may serve it meanwhile.
///
/// # Errors
/// [`LookError`].
pub async fn standing(
    store: Arc<dyn ObjectStore>,
    key: &ClusterKey,
    settings: &Settings,
) -> Result<Standing, LookError> {
    let bucket = Bucket::new(store, settings.disk_id());
    let Some(looked) = look(&bucket, key, &settings.volume_id).await? else {
        return Ok(Standing::Gone);
    };
    let Some(last) = last_owner(&bucket, &looked.head).await? else {
        return Ok(Standing::Unwritten);
    };
    let slice = settings.slice.clone();
    let pages = tokio::task::spawn_blocking(move || superblocks(&slice)).await;
    let pages = pages.unwrap_or_else(|error| {
        Err(SliceError::Io {
            path: settings.slice.path.clone(),
            doing: "read the superblocks",
            source: std::io::Error::other(error),
        })
    })?;
    let superblock = pages.and_then(|[first, second]| newest_superblock([&first, &second]).ok());
    let ours = superblock
        .filter(|found| found.disk == settings.disk_id())
        .is_some_and(|found| judge_journal(&found, &looked.head) == JournalState::Continues);
    Ok(match ours {
        true => Standing::Ours {
            released: last.released,
        },
        false => Standing::Elsewhere(last),
    })
}

/// The superblocks of a slice, `None` when it is a file that is not there: it is not made by being looked at.
fn superblocks(settings: &SliceSettings) -> Result<Option<[Vec<u8>; 2]>, SliceError> {
    match std::fs::metadata(&settings.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let slice = Slice::open(settings)?;
    let pages = slice.superblocks();
    pages
        .map(Some)
        .map_err(|error| slice.failed("read the superblocks", error))
}
