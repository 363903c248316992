//! Sealing with nonces that follow from what is sealed.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

use crate::keys::{BackupKeys, KEY_BYTES};

/// Bytes that sealing adds.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a nonce that all parts of one object share; the rest numbers the part.
pub(super) const NONCE_PREFIX_BYTES: usize = 20;

/// The nonces of one object's parts.
///
/// The prefix is a keyed hash of everything that is sealed under it. Equal nonces therefore mean equal plaintexts,
/// which seal to equal bytes; a repeated upload of one block yields the same object, and one that was compressed
/// differently (another codec, a newer library) gets other nonces. Random prefixes would be as safe but would
/// make no two uploads alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoncePrefix(pub(super) [u8; NONCE_PREFIX_BYTES]);

impl NoncePrefix {
    /// Derives the prefix for parts sealed in `context`; part boundaries count.
    pub(super) fn derive<'a>(
        keys: &BackupKeys,
        context: &str,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&keys.nonce);
        hasher.update(&(context.len() as u64).to_le_bytes());
        hasher.update(context.as_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut prefix = [0; NONCE_PREFIX_BYTES];
        hasher.finalize_xof().fill(&mut prefix);
        Self(prefix)
    }

    fn nonce(self, part: u32) -> XNonce {
        let mut nonce = [0; NONCE_PREFIX_BYTES + 4];
        nonce[..NONCE_PREFIX_BYTES].copy_from_slice(&self.0);
        nonce[NONCE_PREFIX_BYTES..].copy_from_slice(&part.to_le_bytes());
        XNonce::from(nonce)
    }
}

/// Which part of which object a sealed text is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) prefix: NoncePrefix,
    pub(super) number: u32,
    pub(super) aad: &'a [u8],
}

pub(super) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(&Key::from(*key)))
    }

    pub(super) fn seal(&self, part: Part<'_>, plain: &[u8]) -> Vec<u8> {
        let payload = Payload {
            msg: plain,
            aad: part.aad,
        };
        let sealed = self.0.encrypt(&part.prefix.nonce(part.number), payload);
        let Ok(sealed) = sealed else {
            unreachable!("{} bytes are within the cipher's limit", plain.len())
        };
        assert!(
            sealed.len() == plain.len() + TAG_BYTES,
            "{} bytes sealed to {}",
            plain.len(),
            sealed.len()
        );
        sealed
    }

    /// Returns `None` when any bit of `sealed`, its part or its key is not as it was.
    pub(super) fn open(&self, part: Part<'_>, sealed: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload {
            msg: sealed,
            aad: part.aad,
        };
        self.0.decrypt(&part.prefix.nonce(part.number), payload).ok()
    }
}
