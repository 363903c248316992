//! PURE. CRC-64/GO-ISO with its flag bit: of a page, of a database, of a file.

use std::{fmt, str::FromStr, sync::LazyLock};

use crc_fast::{CrcAlgorithm, Digest};

use crate::{
    page::Pgno,
    txid::{ParseHexError, parse_hex16},
};

/// The checksum of no bytes. Copied for each page: building it anew would cost a third of a page's checksum.
static EMPTY: LazyLock<Digest> = LazyLock::new(|| Digest::new(CrcAlgorithm::Crc64GoIso));

/// A checksum as it is stored: CRC-64/GO-ISO with bit 63 set, or 0 for "there is none".
///
/// The bit is set again after every step, so it never cancels out, and a checksum that exists is never 0. As text: 16
/// hexadecimal digits, written in lower case, read in any.
///
/// The checksum of a *database* is the exclusive or of its pages' checksums, the lock page's left out. The order of the
/// pages does not matter, and a page that changes is taken out and put in again:
///
/// ```
/// # use ltx::{Checksum, Pgno};
/// let page = |data: &[u8]| Checksum::of_page(Pgno::FIRST, data);
/// let before = Checksum::EMPTY_DATABASE.toggle(page(b"old"));
/// let after = before.toggle(page(b"old")).toggle(page(b"new"));
/// assert_eq!(after, Checksum::EMPTY_DATABASE.toggle(page(b"new")));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(u64);

impl Checksum {
    /// The bit that every stored checksum has.
    pub const FLAG: u64 = 1 << 63;
    /// There is none: no database yet, or checksums are not kept.
    pub const NONE: Self = Self(0);
    /// A database without pages.
    pub const EMPTY_DATABASE: Self = Self(Self::FLAG);

    /// Wraps a number as it stands in a file, flag or not.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the number as it stands in a file.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Says whether there is one at all.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Says whether the flag is set.
    #[must_use]
    pub const fn has_flag(self) -> bool {
        self.0 & Self::FLAG != 0
    }

    /// Computes the checksum of a page: of its number in 4 bytes, big endian, and its data.
    ///
    /// The lock page has one too, as any bytes have; it has no part in a database's checksum.
    #[must_use]
    pub fn of_page(pgno: Pgno, data: &[u8]) -> Self {
        let mut digest = *EMPTY;
        digest.update(&pgno.get().to_be_bytes());
        digest.update(data);
        Self(digest.finalize() | Self::FLAG)
    }

    /// Puts a page's checksum into a database's, or takes it out again if it is in there.
    #[must_use]
    pub const fn toggle(self, page: Self) -> Self {
        Self((self.0 ^ page.0) | Self::FLAG)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        parse_hex16(text).map(Self)
    }
}

/// A checksum over bytes as they come.
#[derive(Clone)]
pub(crate) struct Running(Digest);

impl Running {
    pub(crate) fn new() -> Self {
        Self(*EMPTY)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn checksum(&self) -> Checksum {
        Checksum(self.0.finalize() | Checksum::FLAG)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.checksum()).finish()
    }
}

#[cfg(test)]
mod tests;
