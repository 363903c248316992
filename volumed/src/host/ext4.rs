//! The size of an ext4 by its superblock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const SUPERBLOCK_AT: u64 = 1_024;
const SUPERBLOCK_LEN: usize = 1_024;
const MAGIC: [u8; 2] = [0x53, 0xef];
const MAGIC_AT: usize = 0x38;
const BLOCKS_LOW_AT: usize = 0x04;
const BLOCK_SIZE_AT: usize = 0x18;
const INCOMPATIBLE_AT: usize = 0x60;
const BLOCKS_HIGH_AT: usize = 0x150;
const FEATURE_64BIT: u32 = 0x80;
/// Blocks have 1 KiB shifted by at most this.
const SHIFT_MAX: u32 = 6;

/// Returns the bytes that the ext4 on a device covers; none when there is no ext4 on it.
pub(super) fn size_bytes(device: &Path) -> io::Result<Option<u64>> {
    let mut superblock = [0; SUPERBLOCK_LEN];
    File::open(device)?.read_exact_at(&mut superblock, SUPERBLOCK_AT)?;
    Ok(parse(&superblock))
}

fn parse(superblock: &[u8; SUPERBLOCK_LEN]) -> Option<u64> {
    let word = |at: usize| {
        let bytes = superblock.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    if superblock[MAGIC_AT..MAGIC_AT + 2] != MAGIC {
        return None;
    }
    let shift = word(BLOCK_SIZE_AT).filter(|shift| *shift <= SHIFT_MAX)?;
    let high = match word(INCOMPATIBLE_AT)? & FEATURE_64BIT {
        0 => 0,
        _ => u64::from(word(BLOCKS_HIGH_AT)?),
    };
    let blocks = high << 32 | u64::from(word(BLOCKS_LOW_AT)?);
    blocks.checked_mul(1_024 << shift)
}

#[cfg(test)]
mod tests;
