//! Who may ask, and for which keys.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crashsafe::{Disk, OpenOptions, write_atomic};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// A key pair and what it opens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Who holds it; unique.
    pub name: String,
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// The keys it opens begin with this, in every bucket. Empty for all, and only that may create buckets.
    pub prefix: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("access_key_id", &self.access_key_id)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Name of the credential that opens everything.
pub const ROOT: &str = "root";

/// Why credentials could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file could not be read or written.
    #[error("credentials file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what this program writes.
    #[error("credentials file {}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        what: String,
    },
    /// The name is empty or not of `a-z 0-9 - _ .`.
    #[error("credential name {name:?} must be of a-z, 0-9, '-', '_' and '.'")]
    Name {
        /// As given.
        name: String,
    },
    /// The prefix does not end at a slash, which would open keys of longer names too.
    #[error("key prefix {prefix:?} must be empty or end with a slash")]
    Prefix {
        /// As given.
        prefix: String,
    },
    /// The name has another prefix already.
    #[error("credential {name} opens {has:?} and not {wanted:?}")]
    Taken {
        /// The name.
        name: String,
        /// Its prefix.
        has: String,
        /// The prefix asked for.
        wanted: String,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    credential: Vec<Credential>,
}

/// The credentials of an endpoint, kept in one file that only its owner reads.
#[derive(Debug)]
pub struct Credentials {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    held: RwLock<Vec<Credential>>,
}

impl Credentials {
    /// Loads the file at `path`; the first time, makes it with a random root credential.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, CredentialsError> {
        let held = match read(&*disk, path)? {
            Some(file) => file.credential,
            None => Vec::new(),
        };
        let credentials = Self {
            disk,
            path: path.to_owned(),
            held: RwLock::new(held),
        };
        credentials.issue(ROOT, "")?;
        Ok(credentials)
    }

    /// Returns the credential called `name`, making it if it is new. It works at once and from then on.
    ///
    /// * `prefix`: the keys it is to open begin with this; empty, or ending with a slash.
    ///
    /// # Errors
    /// [`CredentialsError`]; [`CredentialsError::Taken`] when the name exists with another prefix.
    pub fn issue(&self, name: &str, prefix: &str) -> Result<Credential, CredentialsError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(CredentialsError::Name {
                name: name.to_owned(),
            });
        }
        if !prefix.is_empty() && !prefix.ends_with('/') {
            return Err(CredentialsError::Prefix {
                prefix: prefix.to_owned(),
            });
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(credential) = held.iter().find(|credential| credential.name == name) {
            if credential.prefix == prefix {
                return Ok(credential.clone());
            }
            let (has, wanted) = (credential.prefix.clone(), prefix.to_owned());
            return Err(CredentialsError::Taken {
                name: name.to_owned(),
                has,
                wanted,
            });
        }
        let credential = Credential {
            name: name.to_owned(),
            access_key_id: format!("HANGAR{}", daemon::random::base36(14).to_uppercase()),
            secret_access_key: daemon::random::base36(40),
            prefix: prefix.to_owned(),
        };
        let mut file = File {
            credential: held.clone(),
        };
        file.credential.push(credential.clone());
        let text = toml::to_string(&file).map_err(|error| self.malformed(&error))?;
        write_atomic(&*self.disk, "credentials", &self.path, text.as_bytes(), 0o600).map_err(|source| {
            CredentialsError::Io {
                path: self.path.clone(),
                source,
            }
        })?;
        *held = file.credential;
        Ok(credential)
    }

    /// Returns the credential that opens everything.
    #[must_use]
    pub fn root(&self) -> Option<Credential> {
        self.find(|credential| credential.name == ROOT)
    }

    /// Returns the credential of an access key.
    pub(crate) fn of_access_key(&self, access_key_id: &str) -> Option<Credential> {
        self.find(|credential| credential.access_key_id == access_key_id)
    }

    fn find(&self, wanted: impl Fn(&&Credential) -> bool) -> Option<Credential> {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(wanted)
            .cloned()
    }

    fn malformed(&self, error: &dyn std::error::Error) -> CredentialsError {
        CredentialsError::Malformed {
            path: self.path.clone(),
            what: error.to_string(),
        }
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<File>, CredentialsError> {
    let io = |source| CredentialsError::Io {
        path: path.to_owned(),
        source,
    };
    let Some(stat) = disk.stat(path).map_err(io)? else {
        return Ok(None);
    };
    let file = disk.open("credentials", path, OpenOptions::READ).map_err(io)?;
    let mut bytes = vec![0; usize::try_from(stat.len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let malformed = |what: String| CredentialsError::Malformed {
        path: path.to_owned(),
        what,
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
    // The message of the parser quotes the line, which may be the secret.
    toml::from_str(text)
        .map(Some)
        .map_err(|error: toml::de::Error| malformed(error.message().to_owned()))
}

/// Looks secrets up for the signature check.
#[derive(Debug, Clone)]
pub(crate) struct Auth(pub(crate) Arc<Credentials>);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.of_access_key(access_key) {
            Some(credential) => Ok(SecretKey::from(credential.secret_access_key)),
            None => Err(s3_error!(InvalidAccessKeyId, "unknown access key")),
        }
    }
}

#[cfg(test)]
mod tests;
