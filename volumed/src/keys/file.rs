//! The cluster key on disk: its text, in a file that only the daemon's user reads.

use std::io;
use std::path::{Path, PathBuf};

use crashsafe::{Disk, OpenOptions, write_atomic};
use objstore::Remedy;
use tracing::info;
use zeroize::Zeroizing;

use super::{ClusterKey, KeyId, KeyTextError};
use crate::random::Random;

const LABEL: &str = "keys:cluster";
const MODE: u32 = 0o600;
/// No key text is as long.
const FILE_BYTES_MAX: usize = 4_096;

/// Why the key file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The disk.
    #[error("cluster key file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds no key.
    #[error("cluster key file {}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyTextError,
    },
    /// The file holds another key, which data may depend on.
    #[error("cluster key file {} holds key {found}, which is not replaced by {offered}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// The key there.
        found: KeyId,
        /// The key that should have been written.
        offered: KeyId,
    },
    /// The file that should be replaced is not there.
    #[error("cluster key file {} is not there", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Io { .. } => Remedy::Report,
            Self::Text { .. } => Remedy::FixData,
            Self::Other { .. } | Self::Missing { .. } => Remedy::FixRequest,
        }
    }
}

impl ClusterKey {
    /// Reads the key file, `None` when there is none.
    ///
    /// # Errors
    /// [`KeyFileError::Io`] and [`KeyFileError::Text`]: a damaged file is never taken for a missing one.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, KeyFileError> {
        let io = |source| KeyFileError::Io {
            path: path.to_owned(),
            source,
        };
        let file = match disk.open(LABEL, path, OpenOptions::READ) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut bytes = Zeroizing::new(vec![0; FILE_BYTES_MAX]);
        let read = file.read_at(&mut bytes, 0).map_err(io)?;
        let parsed = match std::str::from_utf8(&bytes[..read]) {
            Ok(text) => Self::import_text(text, None),
            Err(_) => Err(KeyTextError::NotAKey),
        };
        parsed.map(Some).map_err(|source| KeyFileError::Text {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads the key file, or makes a key and writes it when there is none.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_or_make(disk: &dyn Disk, path: &Path, random: &dyn Random) -> Result<Self, KeyFileError> {
        if let Some(key) = Self::load(disk, path)? {
            return Ok(key);
        }
        let key = Self::generate(random);
        key.save(disk, path)?;
        info!(cluster_key_id = %key.id(), "cluster key made; export it and keep it safe");
        Ok(key)
    }

    /// Writes the key file (0600), durably; does nothing when it holds this key already.
    ///
    /// # Errors
    /// [`KeyFileError::Other`] when it holds another key.
    pub fn save(&self, disk: &dyn Disk, path: &Path) -> Result<(), KeyFileError> {
        match Self::load(disk, path)? {
            None => self.write(disk, path),
            Some(there) if there == *self => Ok(()),
            Some(there) => Err(self.refused(path, &there)),
        }
    }

    /// Replaces the key `expected` in the key file by this one, for an import over a key that nothing uses yet.
    ///
    /// # Errors
    /// [`KeyFileError::Other`] when the file holds neither; [`KeyFileError::Missing`].
    pub fn replace(&self, disk: &dyn Disk, path: &Path, expected: &KeyId) -> Result<(), KeyFileError> {
        match Self::load(disk, path)? {
            None => Err(KeyFileError::Missing {
                path: path.to_owned(),
            }),
            Some(there) if there == *self => Ok(()),
            Some(there) if there.id() == *expected => self.write(disk, path),
            Some(there) => Err(self.refused(path, &there)),
        }
    }

    fn write(&self, disk: &dyn Disk, path: &Path) -> Result<(), KeyFileError> {
        let mut text = super::export::plain_text(self);
        text.push('\n');
        write_atomic(disk, LABEL, path, text.as_bytes(), MODE).map_err(|source| KeyFileError::Io {
            path: path.to_owned(),
            source,
        })
    }

    fn refused(&self, path: &Path, there: &Self) -> KeyFileError {
        KeyFileError::Other {
            path: path.to_owned(),
            found: there.id(),
            offered: self.id(),
        }
    }
}
