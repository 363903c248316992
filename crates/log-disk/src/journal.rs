//! PURE. The journal: a ring of 4 KiB pages on a local slice, written strictly in order.
//!
//! Page 0 and 1 of the slice hold the superblock, each all of it; the ring follows. A position counts the pages written since
//! the journal was formatted and never goes back: it stands at page `position % ring_pages` of the ring. Records never wrap.

mod record;
mod scan;
mod superblock;

pub use record::{
    JournalBlocks, PIECE_BLOCKS_MAX, RECORD_BLOCKS_MAX, Record, RecordHeader, RecordKind, RecordPiece,
    RecordRoom,
};
pub use scan::{Scan, ScanEnd, ScanStep};
pub use superblock::{Superblock, newest_superblock};

/// Bytes of a page, the least that is written.
pub const PAGE_BYTES: usize = 4096;
/// Pages before the ring.
pub const SUPERBLOCK_PAGES: u64 = 2;

#[cfg(test)]
mod tests;
