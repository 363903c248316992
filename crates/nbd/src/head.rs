//! PURE. The few bytes in front of an answer's data.

use std::ops::Deref;

/// Bytes to be sent, in place; it dereferences to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Head {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Head {
    /// Bytes of the longest.
    pub const BYTES_MAX: usize = 36;

    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; Self::BYTES_MAX],
            len: 0,
        }
    }

    /// Appends a field. No message of ours is longer than the room.
    pub(crate) fn with<const N: usize>(mut self, field: [u8; N]) -> Self {
        self.bytes[self.len..self.len + N].copy_from_slice(&field);
        self.len += N;
        self
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
