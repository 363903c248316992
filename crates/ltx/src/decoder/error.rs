//! Why a file could not be read.

use std::io;

use crate::{Checksum, HeaderError, PageOrderError, Pgno, PostApplyError, part::Part};

/// Why a file could not be read.
///
/// Offsets count from the file's first byte. Within a compressed page block they say how much had been read of the file, not
/// where the byte stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input failed.
    #[error("read {part} of an ltx file at byte {offset}")]
    Read {
        /// What was being read.
        part: Part,
        /// How far the file was read.
        offset: u64,
        /// What the input said.
        #[source]
        source: io::Error,
    },
    /// The input ended within the file.
    #[error("the ltx file ends within {part}, at byte {offset}")]
    Truncated {
        /// What was being read.
        part: Part,
        /// How far the file was read.
        offset: u64,
    },
    /// The header breaks a rule.
    #[error("the header of an ltx file")]
    Header(#[source] HeaderError),
    /// A page may not stand where it does, or some are missing at the end.
    #[error("the pages of an ltx file, at byte {offset}")]
    Page {
        /// How far the file was read.
        offset: u64,
        /// Which rule it breaks.
        #[source]
        source: PageOrderError,
    },
    /// What is compressed cannot be decompressed, or its own checksum differs.
    #[error("decompress {part} of an ltx file, at byte {offset}")]
    Lz4 {
        /// What was being read.
        part: Part,
        /// How far the file was read.
        offset: u64,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// There is more in an LZ4 frame than belongs there.
    #[error("more than {part} in an lz4 frame of an ltx file, at byte {offset}")]
    FrameEnd {
        /// What the frame holds.
        part: Part,
        /// How far the file was read.
        offset: u64,
    },
    /// A page has flags that no version knows.
    #[error("flags {flags:#06x} of the page at byte {offset} of an ltx file")]
    PageFlags {
        /// Where the page's header begins.
        offset: u64,
        /// The whole word.
        flags: u16,
    },
    /// A page claims to be stored in more bytes than any page is.
    #[error("page {pgno} of an ltx file, at byte {offset}, stored in {stored} bytes")]
    StoredPage {
        /// The page.
        pgno: Pgno,
        /// Where its bytes begin.
        offset: u64,
        /// How many it claims.
        stored: u32,
    },
    /// A page is shorter than a page.
    #[error("page {pgno} of an ltx file, at byte {offset}, of {bytes} bytes")]
    ShortPage {
        /// The page.
        pgno: Pgno,
        /// Where its bytes begin.
        offset: u64,
        /// What they decompress to.
        bytes: usize,
    },
    /// The index does not name the pages as they lie in the file.
    #[error("the page index of an ltx file, at byte {offset}, is not that of its pages")]
    Index {
        /// Where the index begins.
        offset: u64,
    },
    /// The file is not what was written.
    #[error("file checksum {stored} of an ltx file whose bytes give {computed}")]
    FileChecksum {
        /// What the trailer says.
        stored: Checksum,
        /// What the bytes give.
        computed: Checksum,
    },
    /// The database's checksum cannot be right.
    #[error("the end of an ltx file")]
    PostApply(#[source] PostApplyError),
    /// Something follows the file.
    #[error("more bytes after the end of an ltx file, at byte {offset}")]
    TrailingBytes {
        /// Where the file ends.
        offset: u64,
    },
    /// An earlier call failed.
    #[error("the ltx file was given up after an error")]
    Broken,
}

impl DecodeError {
    /// Says whether the file itself is bad; otherwise reading it failed and another attempt may succeed.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Broken)
    }

    /// Sorts out what reading said: the input failed, or ended, or does not decompress.
    pub(super) fn read(part: Part, offset: u64, source: io::Error) -> Self {
        let of_lz4 = source
            .get_ref()
            .is_some_and(|inner| inner.is::<lz4_flex::frame::Error>());
        if of_lz4 {
            Self::Lz4 { part, offset, source }
        } else if source.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated { part, offset }
        } else {
            Self::Read { part, offset, source }
        }
    }
}
