//! What a guest writes: every block tells where it belongs and which write made it.

use bytes::Bytes;
use log_disk::BLOCK_BYTES;

/// Which write made a block; 0 for zeros.
pub(crate) type Stamp = u64;

/// The block that write `stamp` puts at `lba`. Some compress and some do not.
pub(crate) fn block(lba: u64, stamp: Stamp) -> Vec<u8> {
    if stamp == 0 {
        return vec![0; BLOCK_BYTES];
    }
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(&stamp.to_le_bytes());
    block.extend_from_slice(&lba.to_le_bytes());
    let mut state = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ lba | 1;
    while block.len() < BLOCK_BYTES {
        if stamp.is_multiple_of(3) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        block.extend_from_slice(&state.to_le_bytes());
    }
    block
}

/// The run of blocks that write `stamp` puts at `lba`.
pub(crate) fn run(lba: u64, blocks: u64, stamp: Stamp) -> Bytes {
    (lba..lba + blocks).flat_map(|lba| block(lba, stamp)).collect()
}

/// Which write made a block that was read at `lba`; the reason when none did.
pub(crate) fn read(lba: u64, bytes: &[u8]) -> Result<Stamp, String> {
    let stamp = bytes
        .first_chunk()
        .map(|stamp| u64::from_le_bytes(*stamp))
        .ok_or("an empty block")?;
    if bytes == block(lba, stamp) {
        Ok(stamp)
    } else {
        Err(format!(
            "block {lba} holds nothing that was ever written there (stamp {stamp})"
        ))
    }
}
