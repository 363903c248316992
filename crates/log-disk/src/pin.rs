//! PURE. What a fork leaves with each disk that it reads from, so that nothing is deleted there that it needs.

use crate::DiskId;

/// Most pins of a disk: all of them fit on one page of a list, which is read at one instant.
pub const PINS_MAX: usize = 900;

/// An empty object `disk/<disk>/r/<number>-<fork>`: a fork needs what the checkpoint of that number refers to.
///
/// Number (16) and the fork's name (32) in hexadecimal digits. It is written before the fork is, and deleted after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin {
    /// Which checkpoint.
    pub number: u64,
    /// Who needs it.
    pub fork: DiskId,
}

impl Pin {
    /// Returns the key of the pin with a disk.
    #[must_use]
    pub fn key(&self, disk: DiskId) -> String {
        format!("{}{:016x}-{}", Self::prefix(disk), self.number, self.fork)
    }

    /// Returns what the keys of a disk's pins begin with.
    #[must_use]
    pub fn prefix(disk: DiskId) -> String {
        format!("disk/{disk}/r/")
    }

    /// Reads the part of a key after [`Self::prefix`].
    #[must_use]
    pub fn parse(rest: &str) -> Option<Self> {
        let (number, fork) = rest.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if number.len() != 16 || fork.len() != 32 || !digits(number) || !digits(fork) {
            return None;
        }
        Some(Self {
            number: u64::from_str_radix(number, 16).ok()?,
            fork: DiskId(u128::from_str_radix(fork, 16).ok()?.to_be_bytes()),
        })
    }
}
