//! PURE. Page numbers and page sizes.

use std::{fmt, num::NonZeroU32};

/// Where SQLite keeps its lock bytes; the page that holds this byte is never used.
const LOCK_BYTE: u32 = 0x4000_0000;

/// The number of a page, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pgno(NonZeroU32);

impl Pgno {
    /// The first page, which holds the database's header.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// Wraps a number; there is no page 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the next page's number, or nothing after the last of 32 bits.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Pgno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page size of SQLite: a power of two from 512 to 65,536 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The smallest, in bytes.
    pub const MIN: Self = Self(512);
    /// The largest, in bytes.
    pub const MAX: Self = Self(65_536);

    /// Wraps a size in bytes, if SQLite has it.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= Self::MIN.0 && bytes <= Self::MAX.0 {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Returns the size in bytes, for lengths of buffers.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// Returns the page that holds SQLite's lock bytes: it is in no file and in no checksum.
    #[must_use]
    pub const fn lock_page(self) -> Pgno {
        Pgno(NonZeroU32::MIN.saturating_add(LOCK_BYTE / self.0))
    }

    /// Returns every size, the smallest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (9..=16).map(|power| Self(1 << power))
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
