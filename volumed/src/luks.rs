//! LUKS1 as QEMU's `luks` driver reads it, made without QEMU or cryptsetup.
//!
//! An encrypted slice of the `file` pool is a LUKS1 file: AES-256-XTS with 512-byte sectors numbered from the
//! payload (`xts-plain64`), SHA-256. QEMU opens it for the guest; volumed opens it here, to read and write the
//! guest's bytes for backups. Byte table: `docs/formats/luks.md`.

mod anti_forensic;
mod cipher;
mod header;

use objstore::Remedy;
use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random::Random;
use header::{DIGEST_BYTES, Header, KEY_SLOTS, KeySlot, MASTER_KEY_BYTES, SALT_BYTES, STRIPES};

pub use cipher::{Cipher, SECTOR_BYTES};

/// Bytes before the payload in every header made here: the guest's sector 0 follows them.
///
/// 4 MiB where 2 would do, so that a 4 MiB block of the guest is a 4 MiB block of the file.
pub const HEADER_BYTES: u64 = 4 << 20;

/// PBKDF2 rounds: LUKS1's least. The passphrase is a random 256-bit key, which needs no stretching, and every start
/// of a guest pays for them.
const ROUNDS: u32 = 1_000;
/// Most rounds an open performs: a header comes from a file that anything may have written.
const ROUNDS_MAX: u32 = 10_000_000;

/// Why a LUKS header could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LuksError {
    /// The bytes are no LUKS1 header.
    #[error("luks header: not there")]
    NotLuks,
    /// Fewer bytes than the header says it has.
    #[error("luks header: {got_bytes} bytes given, it has {expected_bytes}")]
    Short {
        /// Bytes given.
        got_bytes: u64,
        /// Bytes needed.
        expected_bytes: u64,
    },
    /// A LUKS1 header with another cipher, hash or layout than volumes have.
    #[error("luks header: {field} is not what volumes have")]
    Unsupported {
        /// The field that differs.
        field: &'static str,
    },
    /// No key slot opens.
    #[error("luks header: no key slot opens with this passphrase")]
    WrongPassphrase,
}

impl LuksError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NotLuks | Self::Short { .. } => Remedy::FixData,
            Self::Unsupported { .. } | Self::WrongPassphrase => Remedy::FixRequest,
        }
    }
}

type MasterKey = Zeroizing<[u8; MASTER_KEY_BYTES]>;

/// Makes the first [`HEADER_BYTES`] bytes of a fresh LUKS file that `passphrase` opens.
#[must_use]
pub fn create_header(passphrase: &str, random: &dyn Random) -> Vec<u8> {
    let mut master_key = MasterKey::new([0; MASTER_KEY_BYTES]);
    random.fill(master_key.as_mut_slice());
    write_header(&master_key, passphrase, random)
}

/// Makes a header for the same payload that `new_passphrase` opens and `old_passphrase` does not.
///
/// For a copy that shares its encrypted bytes with its source: both keep the master key, each has its passphrase.
///
/// # Errors
/// [`LuksError`] when `header` does not open.
pub fn rekey_header(
    header: &[u8],
    old_passphrase: &str,
    new_passphrase: &str,
    random: &dyn Random,
) -> Result<Vec<u8>, LuksError> {
    let (decoded, master_key) = open_header(header, old_passphrase)?;
    if decoded.payload_offset_bytes() != HEADER_BYTES {
        return Err(LuksError::Unsupported {
            field: "payload offset",
        });
    }
    Ok(write_header(&master_key, new_passphrase, random))
}

impl Cipher {
    /// Opens a header.
    ///
    /// * `header`: the file's first bytes, at least up to its payload ([`HEADER_BYTES`] for ours).
    ///
    /// # Errors
    /// [`LuksError`].
    pub fn open(header: &[u8], passphrase: &str) -> Result<Self, LuksError> {
        let (decoded, master_key) = open_header(header, passphrase)?;
        Ok(Self::new(&master_key, decoded.payload_offset_bytes()))
    }
}

fn write_header(master_key: &MasterKey, passphrase: &str, random: &dyn Random) -> Vec<u8> {
    let mut digest_salt = [0; SALT_BYTES];
    let mut slot_salt = [0; SALT_BYTES];
    let mut uuid = [0; 16];
    random.fill(&mut digest_salt);
    random.fill(&mut slot_salt);
    random.fill(&mut uuid);
    let mut digest = [0; DIGEST_BYTES];
    pbkdf2_hmac::<Sha256>(master_key.as_slice(), &digest_salt, ROUNDS, &mut digest);
    let mut slots = [KeySlot::free(0); KEY_SLOTS];
    for (index, slot) in slots.iter_mut().enumerate() {
        *slot = KeySlot::free(index);
    }
    slots[0] = KeySlot {
        rounds: ROUNDS,
        salt: slot_salt,
        active: true,
        ..slots[0]
    };
    let header = Header {
        payload_offset_sectors: u32::try_from(HEADER_BYTES / SECTOR_BYTES).unwrap_or(u32::MAX),
        digest,
        digest_salt,
        digest_rounds: ROUNDS,
        uuid: uuid_text(uuid),
        slots,
    };

    let mut material = anti_forensic::split(master_key.as_slice(), STRIPES, random);
    slot_cipher(passphrase, &header.slots[0]).encrypt(0, &mut material);
    let mut bytes = vec![0; usize::try_from(HEADER_BYTES).unwrap_or(usize::MAX)];
    header.encode(&mut bytes);
    let at = header.slots[0].material_offset_bytes();
    bytes[at..at + material.len()].copy_from_slice(&material);
    bytes
}

fn open_header(bytes: &[u8], passphrase: &str) -> Result<(Header, MasterKey), LuksError> {
    let header = Header::decode(bytes)?;
    if header.digest_rounds > ROUNDS_MAX {
        return Err(LuksError::Unsupported {
            field: "digest iterations",
        });
    }
    for slot in header.slots.iter().filter(|slot| slot.active) {
        if slot.rounds > ROUNDS_MAX {
            return Err(LuksError::Unsupported {
                field: "key slot iterations",
            });
        }
        let at = slot.material_offset_bytes();
        let end = at + MASTER_KEY_BYTES * STRIPES;
        let material = bytes.get(at..end).ok_or(LuksError::Short {
            got_bytes: bytes.len() as u64,
            expected_bytes: end as u64,
        })?;
        let mut material = Zeroizing::new(material.to_vec());
        slot_cipher(passphrase, slot).decrypt(0, &mut material);
        let mut master_key = MasterKey::new([0; MASTER_KEY_BYTES]);
        anti_forensic::merge(&material, master_key.as_mut_slice());
        let mut digest = [0; DIGEST_BYTES];
        pbkdf2_hmac::<Sha256>(
            master_key.as_slice(),
            &header.digest_salt,
            header.digest_rounds,
            &mut digest,
        );
        if bool::from(digest.ct_eq(&header.digest)) {
            return Ok((header, master_key));
        }
    }
    Err(LuksError::WrongPassphrase)
}

/// The cipher of a key slot's material, which lies on disk as any payload does, sectors numbered from 0.
fn slot_cipher(passphrase: &str, slot: &KeySlot) -> Cipher {
    let mut key = MasterKey::new([0; MASTER_KEY_BYTES]);
    pbkdf2_hmac::<Sha256>(passphrase.as_bytes(), &slot.salt, slot.rounds, key.as_mut_slice());
    Cipher::new(&key, 0)
}

fn uuid_text(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests;
