//! PURE. The number of the node that made a file.

use std::{fmt, num::ParseIntError, str::FromStr};

/// The node that made a file; 0 when nobody in particular did, as after a compaction.
///
/// As text: written as 16 hexadecimal digits in upper case; read in either case and of any length that fits 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// Nobody in particular.
    pub const NONE: Self = Self(0);

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
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, ParseNodeIdError> {
        if text.starts_with(['+', '-']) {
            return Err(ParseNodeIdError::Sign);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(ParseNodeIdError::Number)
    }
}

/// Why the number of a node could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNodeIdError {
    /// It is not a hexadecimal number of 64 bits.
    #[error("not a hexadecimal number of 64 bits")]
    Number(#[source] ParseIntError),
    /// A sign is no digit, although a number may have one.
    #[error("a sign in a node's number")]
    Sign,
}
