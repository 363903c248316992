//! PURE. Which of the formats that share a magic a file is in.

use crate::header::{Flags, HEADER_BYTES};

/// The format of a file. No file says which one it is in: whoever opens it must know from where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// The one that LiteFS speaks: the page block plain, or whole in one LZ4 frame. Read and written.
    V1,
    /// The one that Litestream keeps: every page compressed on its own, an index behind them. Read only.
    V3,
}

impl Version {
    /// Guesses the format of a file of `file_bytes` bytes from its first bytes, where files of both may lie.
    ///
    /// A flag decides it where one is set. Otherwise a file whose length fits an uncompressed file of version 1 is taken
    /// for one; should it then not verify, the other version is worth a try.
    #[must_use]
    pub fn guess(header: &[u8; HEADER_BYTES], file_bytes: u64) -> Self {
        const AROUND_PAGES: u64 = 100 + 4 + 16;
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (flags, page_bytes) = (word(4), word(8));
        let fits = || {
            file_bytes
                .checked_sub(AROUND_PAGES)
                .is_some_and(|pages| pages.is_multiple_of(4 + u64::from(page_bytes)))
        };
        if flags & Flags::LZ4.bits() != 0 || (flags & Flags::NO_CHECKSUM.bits() == 0 && fits()) {
            Self::V1
        } else {
            Self::V3
        }
    }
}
