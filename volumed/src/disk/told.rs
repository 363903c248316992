//! Keeps what the bucket says of a volume true, for as long as the disk is this host's.
//!
//! Each change is a conditional put over the version that this host wrote last, which `told.json` keeps: once another host has
//! said something, this one is not heard any more.

use std::path::Path;
use std::sync::Arc;

use crashsafe::Disk;
use objstore::{ETag, GetError, ObjectStore, PutError, Remedy};
use serde::{Deserialize, Serialize};

use super::about::{About, AboutError, Serving, VolumeFacts};
use super::settings::disk_id;
use super::state::DiskDir;
use super::store::Bucket;
use crate::keys::DataKey;
use crate::volume::VolumeId;

/// How often a version that turns out to be our own is put over.
const ATTEMPTS: u32 = 3;

/// Whether the bucket says what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It does.
    Yes,
    /// Another host has said something else since.
    NotOurs,
}

/// Why nobody knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TellError {
    /// The store did not take it.
    #[error("object store")]
    Put(#[from] PutError),
    /// The store did not give what stands there.
    #[error("object store")]
    Get(#[from] GetError),
    /// What stands there is damaged.
    #[error(transparent)]
    About(#[from] AboutError),
    /// What was said last could not be read or kept.
    #[error("what the bucket was told of the volume")]
    Io(#[from] std::io::Error),
    /// The version changes whenever it is looked at.
    #[error("what the bucket says of the volume changes all the time")]
    Unsteady,
}

impl TellError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Put(error) => error.remedy(),
            Self::Get(error) => error.remedy(),
            Self::About(_) => Remedy::FixData,
            Self::Io(_) | Self::Unsteady => Remedy::Retry,
        }
    }
}

/// `told.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    author: String,
    #[serde(default)]
    etag: Option<String>,
    /// What is known to stand there under that version.
    #[serde(default)]
    about: Option<About>,
}

impl Told {
    fn new(etag: Option<&ETag>) -> Self {
        Self {
            author: daemon::random::hex(16),
            etag: etag.map(|etag| etag.as_str().to_owned()),
            about: None,
        }
    }

    fn load(path: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&self, disk: &dyn Disk, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self)?;
        crashsafe::write_atomic(disk, "disk:told", path, &text, 0o600)
    }
}

/// The words of one disk's directory. One caller at a time.
#[derive(Debug)]
pub struct Telling<'a> {
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// The host's files.
    pub disk: &'a dyn Disk,
    /// The disk's directory.
    pub dir: &'a DiskDir,
    /// The volume.
    pub volume: &'a VolumeId,
    /// Its key.
    pub key: &'a DataKey,
}

impl Telling<'_> {
    /// Sees to it that the bucket says this of the volume. Costs nothing when it does already.
    ///
    /// # Errors
    /// [`TellError`].
    pub async fn tell(&self, volume: VolumeFacts, serving: Serving) -> Result<Heard, TellError> {
        let path = self.dir.told();
        let mut told = match Told::load(&path)? {
            Some(told) => told,
            None => {
                // Before the first put: what stands there after a crash is known to be ours.
                let told = Told::new(None);
                told.save(self.disk, &path)?;
                told
            }
        };
        let about = About {
            author: told.author.clone(),
            volume,
            serving,
        };
        if told.about.as_ref() == Some(&about) {
            return Ok(Heard::Yes);
        }
        let bucket = Bucket::new(Arc::clone(&self.store), disk_id(self.volume));
        let bytes = about.encode(self.key, disk_id(self.volume), daemon::random::bytes())?;
        for _ in 0..ATTEMPTS {
            let expected = told.etag.clone().map(ETag::new);
            match bucket.put_about(expected.as_ref(), bytes.clone().into()).await {
                Ok(etag) => {
                    told.etag = Some(etag.as_str().to_owned());
                    told.about = Some(about);
                    told.save(self.disk, &path)?;
                    return Ok(Heard::Yes);
                }
                Err(PutError::Exists { .. } | PutError::Stale { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // Ours, if we were killed between a put and its note; a former owner finds the words of the new one.
            let Some((there, etag)) = bucket.about().await? else {
                return Ok(Heard::NotOurs);
            };
            if About::decode(self.key, disk_id(self.volume), &there)?.author != told.author {
                return Ok(Heard::NotOurs);
            }
            told.etag = Some(etag.as_str().to_owned());
        }
        Err(TellError::Unsteady)
    }

    /// Takes the word: what this host says next replaces what stands there now, whoever said that. Only once the disk is its own.
    ///
    /// # Errors
    /// [`TellError`].
    pub async fn take_the_word(&self) -> Result<(), TellError> {
        let bucket = Bucket::new(Arc::clone(&self.store), disk_id(self.volume));
        let there = bucket.about().await?;
        let told = Told::new(there.as_ref().map(|(_, etag)| etag));
        Ok(told.save(self.disk, &self.dir.told())?)
    }
}

#[cfg(test)]
mod tests;
