use serde::{Deserialize, Serialize};

/// Bytes in one unit of `size_gb`.
pub const GIB: u64 = 1 << 30;

/// A volume's size in units of 2^30 bytes; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SizeGb(u32);

impl SizeGb {
    /// Wraps a size of 1 and up.
    pub fn new(gb: u32) -> Option<Self> {
        (gb >= 1).then_some(Self(gb))
    }

    /// Returns the smallest size that holds `bytes`.
    pub fn holding(bytes: u64) -> Self {
        Self(u32::try_from(bytes.div_ceil(GIB)).unwrap_or(u32::MAX).max(1))
    }

    /// Returns the number of units.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) * GIB
    }
}
