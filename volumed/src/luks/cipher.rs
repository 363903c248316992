//! The sector cipher.

use std::fmt;

use aes::Aes256;
use aes::cipher::KeyInit;
use xts_mode::{Xts128, get_tweak_default};

use super::header::MASTER_KEY_BYTES;

/// Length of a sector, in bytes.
pub const SECTOR_BYTES: u64 = 512;

const SECTOR_LEN: usize = 512;

/// Encrypts and decrypts the payload of one LUKS file.
///
/// It keeps sectors secret and does not notice changed ones: XTS has no authentication.
pub struct Cipher {
    xts: Xts128<Aes256>,
    payload_offset_bytes: u64,
}

impl Cipher {
    pub(super) fn new(key: &[u8; MASTER_KEY_BYTES], payload_offset_bytes: u64) -> Self {
        let (data, tweak) = key.split_at(MASTER_KEY_BYTES / 2);
        let cipher = |half: &[u8]| {
            let key = <[u8; MASTER_KEY_BYTES / 2]>::try_from(half);
            let Ok(key) = key else {
                unreachable!("half of 64 bytes is 32")
            };
            Aes256::new(&key.into())
        };
        Self {
            xts: Xts128::new(cipher(data), cipher(tweak)),
            payload_offset_bytes,
        }
    }

    /// Where the guest's sector 0 lies in the file.
    #[must_use]
    pub fn payload_offset_bytes(&self) -> u64 {
        self.payload_offset_bytes
    }

    /// Encrypts whole sectors in place.
    ///
    /// * `first_sector`: the guest's number of the first one.
    ///
    /// # Panics
    /// When `sectors` is no multiple of [`SECTOR_BYTES`] long.
    pub fn encrypt(&self, first_sector: u64, sectors: &mut [u8]) {
        assert!(
            sectors.len().is_multiple_of(SECTOR_LEN),
            "{} bytes are no whole sectors",
            sectors.len()
        );
        self.xts
            .encrypt_area(sectors, SECTOR_LEN, u128::from(first_sector), get_tweak_default);
    }

    /// Decrypts whole sectors in place.
    ///
    /// * `first_sector`: the guest's number of the first one.
    ///
    /// # Panics
    /// When `sectors` is no multiple of [`SECTOR_BYTES`] long.
    pub fn decrypt(&self, first_sector: u64, sectors: &mut [u8]) {
        assert!(
            sectors.len().is_multiple_of(SECTOR_LEN),
            "{} bytes are no whole sectors",
            sectors.len()
        );
        self.xts
            .decrypt_area(sectors, SECTOR_LEN, u128::from(first_sector), get_tweak_default);
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("payload_offset_bytes", &self.payload_offset_bytes)
            .finish_non_exhaustive()
    }
}
