//! PURE. The beginning of the index of a write-ahead log, `-shm`, which SQLite's processes share as memory.
//!
//! Everything is in the processor's byte order. The header stands there twice; readers take it when both copies are equal
//! and its checksum is right.
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | 3007000 |
//! | 8 | 4 | a counter of changes |
//! | 12 | 1 | 1: the index is in use |
//! | 13 | 1 | 1: the log's checksums run over big-endian words |
//! | 14 | 2 | page size in bytes; 1 is 65,536 |
//! | 16 | 4 | the last frame that is committed |
//! | 20 | 4 | pages of the database |
//! | 24 | 8 | checksum of that frame |
//! | 32 | 8 | salts of the log |
//! | 40 | 8 | checksum of the bytes before |
//! | 48 | 48 | all that again |
//! | 96 | 4 | frames that are in the database file already |
//! | 100 | 20 | how far each of five groups of readers sees; all ones: nobody |
//! | 120 | 8 | the bytes that locks are taken on |
//! | 128 | 4 | frames that a checkpoint began to copy |

use bytes::{Buf as _, BufMut as _};
use ltx::PageSize;

use super::wal::{ByteOrder, WalChecksum};

/// Bytes of an index's first block; an index without frames needs no other.
pub const BLOCK_BYTES: usize = 32_768;

const VERSION: u32 = 3_007_000;
pub(super) const HEADER_BYTES: usize = 48;
const CHECKPOINT_OFFSET: usize = 2 * HEADER_BYTES;
const CHECKPOINT_BYTES: usize = 40;
/// Where the header ends, and tables of frames begin.
pub(super) const TABLES_OFFSET: usize = CHECKPOINT_OFFSET + CHECKPOINT_BYTES;
const READERS: usize = 5;
const NOBODY: u32 = u32::MAX;
/// The order in which the header's own checksum is computed.
const NATIVE: ByteOrder = if cfg!(target_endian = "big") {
    ByteOrder::Big
} else {
    ByteOrder::Little
};

/// What the index says of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalIndexHeader {
    /// Counts changes, so that readers see one.
    pub change: u32,
    /// Order of bytes in the log's checksums.
    pub order: ByteOrder,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// The last frame that is committed, from 1; 0 when the log is empty.
    pub last_frame: u32,
    /// Pages of the database.
    pub pages: u32,
    /// The checksum of the last frame.
    pub frame_checksum: WalChecksum,
    /// The log's salts.
    pub salts: (u32, u32),
}

impl WalIndexHeader {
    /// Reads the header of an index; nothing when its copies differ or are not sound, and SQLite would build it anew.
    ///
    /// * `block`: the first bytes of the index.
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<Self> {
        Self::decode_of(block, None)
    }

    /// As [`decode`](Self::decode); of a log without frames SQLite does not say how long its pages are.
    ///
    /// * `page_size`: how long the database's are.
    #[must_use]
    pub(super) fn decode_of(block: &[u8], page_size: Option<PageSize>) -> Option<Self> {
        let (first, second) = block.get(..CHECKPOINT_OFFSET)?.split_at(HEADER_BYTES);
        if first != second {
            return None;
        }
        let mut fields = first;
        let version = fields.get_u32_ne();
        let _unused = fields.get_u32_ne();
        let change = fields.get_u32_ne();
        let (in_use, big) = (fields.get_u8(), fields.get_u8());
        let stored_size = fields.get_u16_ne();
        let page_bytes = if stored_size == 1 {
            65_536
        } else {
            u32::from(stored_size)
        };
        let header = Self {
            change,
            order: if big == 0 {
                ByteOrder::Little
            } else {
                ByteOrder::Big
            },
            page_size: PageSize::new(page_bytes).or_else(|| page_size.filter(|_| stored_size == 0))?,
            last_frame: fields.get_u32_ne(),
            pages: fields.get_u32_ne(),
            frame_checksum: WalChecksum(fields.get_u32_ne(), fields.get_u32_ne()),
            // SQLite copies the salts out of the log byte by byte.
            salts: (fields.get_u32(), fields.get_u32()),
        };
        let stored = WalChecksum(fields.get_u32_ne(), fields.get_u32_ne());
        let computed = WalChecksum::default().over(NATIVE, &first[..40]);
        (version == VERSION && in_use == 1 && stored == computed).then_some(header)
    }

    /// Returns one copy of the header.
    #[must_use]
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut sink = &mut header[..];
        sink.put_u32_ne(VERSION);
        sink.put_u32_ne(0);
        sink.put_u32_ne(self.change);
        sink.put_u8(1);
        sink.put_u8(u8::from(self.order == ByteOrder::Big));
        // 65,536 does not fit and is 1.
        sink.put_u16_ne(u16::try_from(self.page_size.bytes()).unwrap_or(1));
        sink.put_u32_ne(self.last_frame);
        sink.put_u32_ne(self.pages);
        sink.put_u32_ne(self.frame_checksum.0);
        sink.put_u32_ne(self.frame_checksum.1);
        sink.put_u32(self.salts.0);
        sink.put_u32(self.salts.1);
        let checksum = WalChecksum::default().over(NATIVE, &header[..40]);
        let mut sink = &mut header[40..];
        sink.put_u32_ne(checksum.0);
        sink.put_u32_ne(checksum.1);
        header
    }

    /// Writes the header into an index, both copies of it, and that no frame was copied and nobody reads.
    ///
    /// Whoever does so holds all locks of the log. The rest of the index stays as it is.
    ///
    /// * `block`: the first [`BLOCK_BYTES`] of the index.
    pub fn write(&self, block: &mut [u8; BLOCK_BYTES]) {
        let header = self.encode();
        block[..HEADER_BYTES].copy_from_slice(&header);
        block[HEADER_BYTES..CHECKPOINT_OFFSET].copy_from_slice(&header);
        let checkpoint = &mut block[CHECKPOINT_OFFSET..CHECKPOINT_OFFSET + CHECKPOINT_BYTES];
        checkpoint.fill(0);
        // The first group of readers sees the database file alone, and always may.
        let mut readers = &mut checkpoint[8..4 + 4 * READERS];
        for _ in 1..READERS {
            readers.put_u32_ne(NOBODY);
        }
    }
}

#[cfg(test)]
mod tests;
