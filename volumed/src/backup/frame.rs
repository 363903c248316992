//! Frames of a block, compressed one by one.

use super::block::FRAME_BYTES;
use crate::bulk::is_zero;

/// How new frames are compressed. Every reader reads all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Fast on any host.
    #[default]
    Lz4,
    /// Smaller, for slow links.
    Zstd {
        /// 1 to 19.
        level: i32,
    },
}

/// How one stored frame is to be read; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Codec {
    /// No bytes at all: the frame is zeros.
    Zero = 0,
    Raw = 1,
    Lz4 = 2,
    Zstd = 3,
}

impl Codec {
    pub(super) fn of(number: u8) -> Option<Self> {
        [Self::Zero, Self::Raw, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|codec| *codec as u8 == number)
    }
}

/// Largest size at which a compressed frame is kept: saving less than a sixteenth is not worth a decompression.
const COMPRESSED_BYTES_MAX: usize = FRAME_BYTES - FRAME_BYTES / 16;

/// Compresses one frame.
pub(super) fn compress(plain: &[u8], compression: Compression) -> (Codec, Vec<u8>) {
    assert!(plain.len() == FRAME_BYTES, "frame of {} bytes", plain.len());
    if is_zero(plain) {
        return (Codec::Zero, Vec::new());
    }
    let compressed = match compression {
        Compression::Lz4 => Some((Codec::Lz4, lz4_flex::block::compress(plain))),
        Compression::Zstd { level } => zstd::bulk::compress(plain, level)
            .ok()
            .map(|compressed| (Codec::Zstd, compressed)),
    };
    compressed
        .filter(|(_, compressed)| compressed.len() <= COMPRESSED_BYTES_MAX)
        .unwrap_or_else(|| (Codec::Raw, plain.to_vec()))
}

/// Decompresses one frame into `plain`, which must be a frame long; `None` when it does not fill it exactly.
pub(super) fn decompress(codec: Codec, stored: &[u8], plain: &mut [u8]) -> Option<()> {
    let filled = match codec {
        Codec::Zero => {
            plain.fill(0);
            stored.is_empty().then_some(plain.len())
        }
        Codec::Raw => (stored.len() == plain.len()).then(|| {
            plain.copy_from_slice(stored);
            plain.len()
        }),
        Codec::Lz4 => lz4_flex::block::decompress_into(stored, plain).ok(),
        Codec::Zstd => zstd::bulk::decompress_to_buffer(stored, plain).ok(),
    };
    (filled == Some(plain.len())).then_some(())
}
