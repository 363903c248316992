//! PURE. What a server offers.

use crate::wire::{PAYLOAD_BYTES_MAX, transmission};

/// Block sizes that an export asks its clients to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    minimum: u32,
    preferred: u32,
}

/// Why two numbers are no block sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockSizesError {
    /// Not a power of two up to 64 KiB.
    #[error("a minimum block size of {0} bytes is not a power of two up to 65536")]
    Minimum(u32),
    /// Not a power of two from the minimum, and from 512 bytes, up to 32 MiB.
    #[error("a preferred block size of {0} bytes is not a power of two between the minimum, 512 and 32 MiB")]
    Preferred(u32),
}

impl BlockSizes {
    /// Any byte can be addressed; pages of 4 KiB are preferred. What clients assume that do not ask.
    pub const BYTES: Self = Self {
        minimum: 1,
        preferred: 4096,
    };

    /// Offsets and lengths are multiples of `minimum` bytes, better of `preferred`.
    ///
    /// # Errors
    ///
    /// When the protocol does not allow such sizes.
    pub fn new(minimum: u32, preferred: u32) -> Result<Self, BlockSizesError> {
        if !minimum.is_power_of_two() || minimum > 1 << 16 {
            return Err(BlockSizesError::Minimum(minimum));
        }
        if !preferred.is_power_of_two() || !(minimum.max(512)..=PAYLOAD_BYTES_MAX).contains(&preferred) {
            return Err(BlockSizesError::Preferred(preferred));
        }
        Ok(Self { minimum, preferred })
    }

    /// Returns what every offset and length is a multiple of, in bytes.
    pub fn minimum(self) -> u32 {
        self.minimum
    }

    /// Returns what they had better be a multiple of, in bytes.
    pub fn preferred(self) -> u32 {
        self.preferred
    }
}

/// Something that can be opened.
///
/// Flush, FUA, trim, write-zeroes, cache and block status are offered by every export: who serves it answers them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// What clients call it; at most [`NAME_BYTES_MAX`](crate::NAME_BYTES_MAX) bytes. The empty name opens the first export.
    pub name: String,
    /// A line for people; may be empty.
    pub description: String,
    /// Size in bytes, below 2^63: a multiple of the minimum block size, or the last bytes cannot be reached. Who opens
    /// the export learns the size of that moment, and keeps to it.
    pub bytes: u64,
    /// Whether nothing can be changed.
    pub read_only: bool,
    /// Whether a flush on one connection makes durable what was answered on any. Only then use clients several.
    pub multi_conn: bool,
    /// Whether requests for zeros that are to be written faster than data, or not at all, are understood.
    pub fast_zero: bool,
    /// The block sizes.
    pub blocks: BlockSizes,
}

impl Export {
    /// Describes an export of `bytes` bytes that can be written, over one connection, in bytes.
    pub fn new(name: &str, bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            bytes,
            read_only: false,
            multi_conn: false,
            fast_zero: false,
            blocks: BlockSizes::BYTES,
        }
    }

    /// Returns the flags that tell a client what it can do.
    pub(crate) fn flags(&self, structured: bool) -> u16 {
        use transmission::{
            CACHE, DF, FAST_ZERO, FLUSH, FUA, HAS_FLAGS, MULTI_CONN, READ_ONLY, TRIM, WRITE_ZEROES,
        };
        let optional = [
            (self.read_only, READ_ONLY),
            (self.multi_conn, MULTI_CONN),
            (self.fast_zero, FAST_ZERO),
            (structured, DF),
        ];
        let always = HAS_FLAGS | FLUSH | FUA | TRIM | WRITE_ZEROES | CACHE;
        optional
            .iter()
            .filter(|(offered, _)| *offered)
            .fold(always, |flags, (_, flag)| flags | flag)
    }

    /// Returns the export that a client means by `name`.
    pub(crate) fn find<'a>(exports: &'a [Self], name: &str) -> Option<&'a Self> {
        if name.is_empty() {
            return exports.first();
        }
        exports.iter().find(|export| export.name == name)
    }
}
