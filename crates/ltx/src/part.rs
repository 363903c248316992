//! PURE. The parts of a file, for messages.

use std::fmt;

use crate::Pgno;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first 100 bytes.
    Header,
    /// The few bytes before a page, which number it or end the pages.
    PageHeader,
    /// The bytes of a page.
    Page(Pgno),
    /// The end of the pages, with that of their compression.
    PageEnd,
    /// Version 3: the index of pages.
    Index,
    /// The last 16 bytes.
    Trailer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::PageHeader => f.write_str("the header of a page"),
            Self::Page(pgno) => write!(f, "page {pgno}"),
            Self::PageEnd => f.write_str("the end of the pages"),
            Self::Index => f.write_str("the page index"),
            Self::Trailer => f.write_str("the trailer"),
        }
    }
}
