//! Data keys wrapped by the cluster key.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use objstore::Remedy;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ClusterKey, DataKey, KEY_BYTES, KeyId};
use crate::random::Random;

/// Length of [`WrappedKey::to_bytes`].
pub const WRAPPED_KEY_BYTES: usize = VERSION_AT + 1 + 8 + NONCE_BYTES + SEALED_BYTES + 4;

const VERSION_AT: usize = 0;
const VERSION: u8 = 1;
const ID_AT: usize = 1;
const NONCE_AT: usize = ID_AT + 8;
const NONCE_BYTES: usize = 24;
const SEALED_AT: usize = NONCE_AT + NONCE_BYTES;
const SEALED_BYTES: usize = KEY_BYTES + 16;
const CRC_AT: usize = SEALED_AT + SEALED_BYTES;
const PREFIX: &str = "hwk";

/// A volume's data key, readable by the cluster key only, and bound to the volume's id.
///
/// As text `hwk` and the bytes in hexadecimal; as bytes:
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 1 | version, 1 |
/// | 1 | 8 | id of the cluster key |
/// | 9 | 24 | nonce |
/// | 33 | 48 | the data key sealed by XChaCha20-Poly1305, additional data `hangar-wrapped-key-1:` and the volume id |
/// | 81 | 4 | CRC-32 of the bytes before it, little endian |
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WrappedKey(String);

/// Why something is no [`WrappedKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrappedKeyError {
    /// Wrong length, prefix, digits or checksum.
    #[error("wrapped key is damaged")]
    Damaged,
    /// A newer program wrote it.
    #[error("wrapped key of version {version}, this program reads {VERSION}")]
    Version {
        /// The version found.
        version: u8,
    },
}

/// Why a data key could not be unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Another cluster key wrapped it.
    #[error(
        "data key of volume {volume_id} is wrapped by cluster key {wrapped_by}, this host has {ours}: import the right one"
    )]
    OtherClusterKey {
        /// Whose data key it is.
        volume_id: String,
        /// The key that is needed.
        wrapped_by: KeyId,
        /// The key that was tried.
        ours: KeyId,
    },
    /// The right cluster key does not open it: it is another volume's, or was tampered with.
    #[error("data key of volume {volume_id} does not open: it belongs to another volume or was changed")]
    Foreign {
        /// Whose data key it should be.
        volume_id: String,
    },
}

impl UnwrapError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::OtherClusterKey { .. } => Remedy::FixRequest,
            Self::Foreign { .. } => Remedy::FixData,
        }
    }
}

impl ClusterKey {
    /// Wraps `key` for the volume `volume_id`.
    #[must_use]
    pub fn wrap(&self, volume_id: &str, key: &DataKey, random: &dyn Random) -> WrappedKey {
        let mut nonce = [0; NONCE_BYTES];
        random.fill(&mut nonce);
        let sealed = self.wrapping_cipher().encrypt(
            &XNonce::from(nonce),
            Payload {
                msg: key.0.as_slice(),
                aad: &aad(volume_id),
            },
        );
        let Ok(sealed) = sealed else {
            unreachable!("32 bytes are within the cipher's limit")
        };
        let mut bytes = Vec::with_capacity(WRAPPED_KEY_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.id().0);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        assert!(
            bytes.len() == WRAPPED_KEY_BYTES,
            "wrapped key of {} bytes",
            bytes.len()
        );
        WrappedKey(format!("{PREFIX}{}", hex::encode(bytes)))
    }

    /// Opens the data key of the volume `volume_id`.
    ///
    /// # Errors
    /// [`UnwrapError`].
    pub fn unwrap(&self, volume_id: &str, wrapped: &WrappedKey) -> Result<DataKey, UnwrapError> {
        let wrapped_by = wrapped.cluster_key_id();
        if wrapped_by != self.id() {
            return Err(UnwrapError::OtherClusterKey {
                volume_id: volume_id.to_owned(),
                wrapped_by,
                ours: self.id(),
            });
        }
        let bytes = wrapped.to_bytes();
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&bytes[NONCE_AT..SEALED_AT]);
        let foreign = || UnwrapError::Foreign {
            volume_id: volume_id.to_owned(),
        };
        let payload = Payload {
            msg: &bytes[SEALED_AT..CRC_AT],
            aad: &aad(volume_id),
        };
        let opened = self
            .wrapping_cipher()
            .decrypt(&XNonce::from(nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| foreign())?;
        let key = <[u8; KEY_BYTES]>::try_from(opened.as_slice()).map_err(|_| foreign())?;
        Ok(DataKey::from_bytes(key))
    }

    fn wrapping_cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.wrapping_key()))
    }
}

fn aad(volume_id: &str) -> Vec<u8> {
    [b"hangar-wrapped-key-1:".as_slice(), volume_id.as_bytes()].concat()
}

impl WrappedKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; WRAPPED_KEY_BYTES] {
        let mut bytes = [0; WRAPPED_KEY_BYTES];
        let decoded = hex::decode_to_slice(&self.0[PREFIX.len()..], &mut bytes);
        assert!(decoded.is_ok(), "wrapped key was checked when it was made");
        bytes
    }

    /// Reads a key from its bytes.
    ///
    /// # Errors
    /// [`WrappedKeyError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrappedKeyError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(WrappedKeyError::Damaged)?;
        if bytes.len() != WRAPPED_KEY_BYTES || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(WrappedKeyError::Damaged);
        }
        if body[VERSION_AT] != VERSION {
            return Err(WrappedKeyError::Version {
                version: body[VERSION_AT],
            });
        }
        Ok(Self(format!("{PREFIX}{}", hex::encode(bytes))))
    }

    /// The cluster key that opens it.
    #[must_use]
    pub fn cluster_key_id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&self.to_bytes()[ID_AT..NONCE_AT]);
        KeyId(id)
    }
}

impl TryFrom<String> for WrappedKey {
    type Error = WrappedKeyError;

    fn try_from(text: String) -> Result<Self, WrappedKeyError> {
        let digits = text.strip_prefix(PREFIX).ok_or(WrappedKeyError::Damaged)?;
        Self::from_bytes(&hex::decode(digits).map_err(|_| WrappedKeyError::Damaged)?)
    }
}

impl From<WrappedKey> for String {
    fn from(key: WrappedKey) -> Self {
        key.0
    }
}

impl fmt::Display for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey(by {})", self.cluster_key_id())
    }
}
