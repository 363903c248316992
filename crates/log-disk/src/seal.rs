//! PURE. Sealing what leaves memory, with the volume's data key.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{DiskId, Epoch, Flaw};

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;

/// What something sealed is; each kind has a subkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Journal,
    Object,
    Map,
    Page,
    Head,
}

/// Eight random bytes that every opening of a disk draws anew and every sealed thing carries.
///
/// Epoch and number alone make a nonce once only, as long as no process is ever copied while it runs; this is for the
/// day when one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 8]);

/// Which part of which thing a sealed text is. No two texts of a disk share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) salt: Salt,
    pub(crate) epoch: Epoch,
    pub(crate) number: u64,
    pub(crate) part: u32,
}

impl Place {
    fn nonce(self) -> XNonce {
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&self.salt.0);
        nonce[8..12].copy_from_slice(&self.epoch.0.to_le_bytes());
        nonce[12..20].copy_from_slice(&self.number.to_le_bytes());
        nonce[20..].copy_from_slice(&self.part.to_le_bytes());
        XNonce::from(nonce)
    }
}

/// Seals and opens everything of one disk.
pub struct Sealer {
    disk: DiskId,
    journal: XChaCha20Poly1305,
    object: XChaCha20Poly1305,
    map: XChaCha20Poly1305,
    page: XChaCha20Poly1305,
    head: XChaCha20Poly1305,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({})", self.disk)
    }
}

impl Sealer {
    /// Derives the subkeys of a disk from its data key.
    #[must_use]
    pub fn new(data_key: &[u8; 32], disk: DiskId) -> Self {
        let cipher = |purpose: &str| {
            let mut subkey = Zeroizing::new([0; 32]);
            let info: [&[u8]; 4] = [b"hangar data key 1: disk ", purpose.as_bytes(), b": ", &disk.0];
            let derived = Hkdf::<Sha256>::new(None, data_key).expand_multi_info(&info, subkey.as_mut());
            assert!(derived.is_ok(), "32 bytes are within HKDF's limit");
            XChaCha20Poly1305::new(&Key::from(*subkey))
        };
        Self {
            disk,
            journal: cipher("journal"),
            object: cipher("object"),
            map: cipher("map"),
            page: cipher("page"),
            head: cipher("head"),
        }
    }

    /// Returns the disk whose bytes these are.
    #[must_use]
    pub fn disk(&self) -> DiskId {
        self.disk
    }

    fn cipher(&self, kind: Kind) -> &XChaCha20Poly1305 {
        match kind {
            Kind::Journal => &self.journal,
            Kind::Object => &self.object,
            Kind::Map => &self.map,
            Kind::Page => &self.page,
            Kind::Head => &self.head,
        }
    }

    /// Returns `plain` sealed: as many bytes and [`TAG_BYTES`].
    pub(crate) fn seal(&self, kind: Kind, place: Place, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plain, aad };
        match self.cipher(kind).encrypt(&place.nonce(), payload) {
            Ok(sealed) => sealed,
            Err(_) => unreachable!("{} bytes are within the cipher's limit", plain.len()),
        }
    }

    pub(crate) fn open(&self, kind: Kind, place: Place, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Flaw> {
        let payload = Payload { msg: sealed, aad };
        self.cipher(kind)
            .decrypt(&place.nonce(), payload)
            .map_err(|_| Flaw::Seal)
    }
}
