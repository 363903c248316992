//! The sector cipher.

use std::fmt;

use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes256, Block};

use super::header::MASTER_KEY_BYTES;

/// Length of a sector, in bytes.
pub const SECTOR_BYTES: u64 = 512;

const SECTOR_LEN: usize = 512;
const BLOCK_LEN: usize = 16;
/// Sectors whose blocks go through the processor's cipher together: it works on many at once. One by
/// one, they were about half of a backup's processor time.
const SECTORS_AT_ONCE: usize = 8;

/// Encrypts and decrypts the payload of one LUKS file.
///
/// It keeps sectors secret and does not notice changed ones: XTS has no authentication.
pub struct Cipher {
    data: Aes256,
    tweak: Aes256,
    payload_offset_bytes: u64,
}

#[derive(Clone, Copy)]
enum Direction {
    Encrypt,
    Decrypt,
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
            data: cipher(data),
            tweak: cipher(tweak),
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
        self.run(Direction::Encrypt, first_sector, sectors);
    }

    /// Decrypts whole sectors in place.
    ///
    /// * `first_sector`: the guest's number of the first one.
    ///
    /// # Panics
    /// When `sectors` is no multiple of [`SECTOR_BYTES`] long.
    pub fn decrypt(&self, first_sector: u64, sectors: &mut [u8]) {
        self.run(Direction::Decrypt, first_sector, sectors);
    }

    fn run(&self, direction: Direction, first_sector: u64, sectors: &mut [u8]) {
        assert!(
            sectors.len().is_multiple_of(SECTOR_LEN),
            "{} bytes are no whole sectors",
            sectors.len()
        );
        let mut sector = first_sector;
        for batch in sectors.chunks_mut(SECTORS_AT_ONCE * SECTOR_LEN) {
            let tweaks = self.tweaks(sector);
            let (blocks, _) = Block::slice_as_chunks_mut(batch);
            mask(blocks, &tweaks);
            match direction {
                Direction::Encrypt => self.data.encrypt_blocks(blocks),
                Direction::Decrypt => self.data.decrypt_blocks(blocks),
            }
            mask(blocks, &tweaks);
            sector += SECTORS_AT_ONCE as u64;
        }
    }

    /// Returns the masks of all blocks of a batch (IEEE 1619, 5.1): of a sector's first block the encrypted sector
    /// number, of each next one the one before times x in GF(2^128).
    fn tweaks(&self, first_sector: u64) -> [u128; SECTORS_AT_ONCE * SECTOR_LEN / BLOCK_LEN] {
        let mut firsts = [Block::default(); SECTORS_AT_ONCE];
        for (first, sector) in firsts.iter_mut().zip(first_sector..) {
            first.copy_from_slice(&u128::from(sector).to_le_bytes());
        }
        self.tweak.encrypt_blocks(&mut firsts);
        let mut tweaks = [0; SECTORS_AT_ONCE * SECTOR_LEN / BLOCK_LEN];
        for (of_sector, first) in tweaks.chunks_mut(SECTOR_LEN / BLOCK_LEN).zip(firsts) {
            let mut tweak = u128::from_le_bytes(first.0);
            for place in of_sector {
                *place = tweak;
                tweak = tweak << 1 ^ if tweak >> 127 == 1 { 0x87 } else { 0 };
            }
        }
        tweaks
    }
}

fn mask(blocks: &mut [Block], tweaks: &[u128]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        block.0 = (u128::from_le_bytes(block.0) ^ tweak).to_le_bytes();
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("payload_offset_bytes", &self.payload_offset_bytes)
            .finish_non_exhaustive()
    }
}
