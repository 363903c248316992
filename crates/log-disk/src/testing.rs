//! What the tests of several modules share.

use std::sync::Arc;

use proptest::prelude::*;

use crate::{DiskId, Epoch, PageSeal, Salt, Sealer};

pub(crate) const DISK: DiskId = DiskId([7; 16]);
pub(crate) const SALT: Salt = Salt([9; 8]);

pub(crate) fn sealer() -> Sealer {
    Sealer::new(&[3; 32], DISK)
}

pub(crate) fn page_seal() -> PageSeal {
    PageSeal::new(Arc::new(sealer()), SALT, Epoch(1))
}

/// A way to damage bytes.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    Flip(usize, u8),
    Cut(usize),
    /// A field of our formats, with something plausible or huge in it.
    Overwrite(usize, u32),
    Append(Vec<u8>),
    Move(usize, usize, usize),
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let word = prop_oneof![any::<u32>(), Just(u32::MAX), Just(0), Just(1 << 20), 0..5_u32];
    prop_oneof![
        (any::<usize>(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<usize>().prop_map(Damage::Cut),
        (0..128_usize, word).prop_map(|(at, word)| Damage::Overwrite(at, word)),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(Damage::Append),
        (any::<usize>(), any::<usize>(), 1..40_usize).prop_map(|(from, to, len)| Damage::Move(from, to, len)),
    ]
}

impl Damage {
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        if len < 64 {
            return;
        }
        match self {
            Self::Flip(at, bits) => bytes[at % len] ^= bits,
            Self::Cut(at) => bytes.truncate(at % len),
            Self::Overwrite(at, word) => {
                let at = at % (len - 4);
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            Self::Append(more) => bytes.extend_from_slice(more),
            Self::Move(from, to, count) => {
                let (from, to) = (from % (len - count), to % (len - count));
                bytes.copy_within(from..from + count, to);
            }
        }
    }
}

/// Makes the CRC-32 at the end of `bytes` fit again, so that what lies behind it is reached.
pub(crate) fn mend_crc(bytes: &mut [u8]) {
    if let Some(at) = bytes.len().checked_sub(4) {
        let crc = crc32fast::hash(&bytes[..at]);
        bytes[at..].copy_from_slice(&crc.to_le_bytes());
    }
}
