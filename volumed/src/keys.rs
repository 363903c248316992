//! Keys at rest: the cluster key, the data key of each volume, and what is derived from them.
//!
//! One random [`DataKey`] per volume does all its encryption, each use under its own HKDF subkey. It is kept only
//! wrapped ([`WrappedKey`]) by the [`ClusterKey`], which the operator exports once: a fresh host with the bucket and
//! the exported key reads everything. Byte tables: `docs/formats/keys.md`.

mod base32;
mod export;
mod file;
mod wrap;

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::random::Random;

pub use export::KeyTextError;
pub use file::KeyFileError;
pub use wrap::{UnwrapError, WRAPPED_KEY_BYTES, WrappedKey, WrappedKeyError};

/// Length of every key here, in bytes.
pub const KEY_BYTES: usize = 32;

/// Key bytes, erased when dropped.
pub(crate) type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// The key of a whole installation: wraps the data key of every volume.
///
/// Lives in a file of mode 0600 and, exported as text, wherever the operator keeps such things. Lost together with
/// every host, it takes every backup with it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(Secret);

/// Names a cluster key without telling anything about it: shown as 16 hex digits.
///
/// Stands in every wrapped key, so that a wrong cluster key is called wrong and the data not damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

/// The 256-bit key of one volume.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(Secret);

/// The subkeys of a data key that backups use.
#[derive(Clone)]
pub struct BackupKeys {
    /// Keyed hash of a block's plaintext, its address.
    pub(crate) address: Secret,
    /// Seals the frames of blocks.
    pub(crate) block_seal: Secret,
    /// Authenticates block headers.
    pub(crate) block_header: Secret,
    /// Seals the sections of manifests.
    pub(crate) manifest_seal: Secret,
    /// Derives nonces from what is sealed.
    pub(crate) nonce: Secret,
}

impl ClusterKey {
    /// Makes a new key.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = Secret::default();
        random.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Takes over key bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key itself, erased when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        self.0.clone()
    }

    /// The key's public name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        expand(&self.0, "hangar cluster key 1: id", &mut id);
        KeyId(id)
    }

    fn wrapping_key(&self) -> Secret {
        subkey(&self.0, "hangar cluster key 1: wrap")
    }
}

impl DataKey {
    /// Makes a new key.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = Secret::default();
        random.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Takes over key bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The passphrase of the volume's LUKS header: 64 lower-case hexadecimal digits, always the same for one key.
    #[must_use]
    pub fn luks_passphrase(&self) -> Zeroizing<String> {
        let passphrase = subkey(&self.0, "hangar data key 1: luks passphrase");
        Zeroizing::new(hex::encode(*passphrase))
    }

    /// What seals and opens everything of the volume's log-structured disk.
    #[must_use]
    pub fn disk_sealer(&self, disk: log_disk::DiskId) -> log_disk::Sealer {
        log_disk::Sealer::new(&self.0, disk)
    }

    /// What seals the words about the volume that stand beside its log-structured disk.
    pub(crate) fn disk_about_key(&self) -> Secret {
        subkey(&self.0, "hangar data key 1: disk about")
    }

    /// The subkeys for the volume's backups.
    #[must_use]
    pub fn backup_keys(&self) -> BackupKeys {
        BackupKeys {
            address: subkey(&self.0, "hangar data key 1: block address"),
            block_seal: subkey(&self.0, "hangar data key 1: block seal"),
            block_header: subkey(&self.0, "hangar data key 1: block header"),
            manifest_seal: subkey(&self.0, "hangar data key 1: manifest seal"),
            nonce: subkey(&self.0, "hangar data key 1: nonce"),
        }
    }
}

fn subkey(key: &[u8; KEY_BYTES], purpose: &str) -> Secret {
    let mut out = Secret::default();
    expand(key, purpose, out.as_mut_slice());
    out
}

/// HKDF-SHA256 without salt: the input is a uniformly random key already.
fn expand(key: &[u8; KEY_BYTES], purpose: &str, out: &mut [u8]) {
    let hkdf = Hkdf::<Sha256>::new(None, key);
    assert!(
        hkdf.expand(purpose.as_bytes(), out).is_ok(),
        "hkdf gives at most 8160 bytes, asked for {}",
        out.len()
    );
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey({})", self.id())
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

impl fmt::Debug for BackupKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKeys(..)")
    }
}

#[cfg(test)]
mod tests;
