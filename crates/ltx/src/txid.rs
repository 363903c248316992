//! PURE. Transaction numbers.

use std::{fmt, num::ParseIntError, str::FromStr};

/// The number of a transaction: 1 for the first commit of a database, +1 for each after it. 0 means "none yet".
///
/// As text: 16 hexadecimal digits, written in lower case, read in any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(u64);

impl Txid {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);
    /// The first commit of a database.
    pub const FIRST: Self = Self(1);

    /// Wraps a number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number after this one, or nothing after the last of 64 bits.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number before this one, or nothing before [`Txid::ZERO`].
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Txid {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        parse_hex16(text).map(Self)
    }
}

/// Why a transaction number or a checksum could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseHexError {
    /// There are not exactly 16 bytes.
    #[error("{0} bytes where 16 hexadecimal digits belong")]
    Length(usize),
    /// Something else than a digit is among them.
    #[error("not a hexadecimal number")]
    Digit(#[source] ParseIntError),
    /// A sign is no digit, although a number may have one.
    #[error("a sign where 16 hexadecimal digits belong")]
    Sign,
}

/// Reads exactly 16 hexadecimal digits of either case.
pub(crate) fn parse_hex16(text: &str) -> Result<u64, ParseHexError> {
    if text.len() != 16 {
        return Err(ParseHexError::Length(text.len()));
    }
    if text.starts_with(['+', '-']) {
        return Err(ParseHexError::Sign);
    }
    u64::from_str_radix(text, 16).map_err(ParseHexError::Digit)
}
