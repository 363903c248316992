//! PURE. Extents, compressed one by one.

use crate::Flaw;

/// How new extents are compressed. Every reader reads all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    None,
    /// Fast on any host.
    #[default]
    Lz4,
    /// Smaller, for slow links.
    Zstd {
        /// 1 to 19.
        level: i32,
    },
}

/// How one stored extent is to be read; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Codec {
    /// No bytes: the blocks read as zeros.
    Zero = 0,
    Raw = 1,
    Lz4 = 2,
    Zstd = 3,
}

impl Codec {
    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::Zero, Self::Raw, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|codec| *codec as u8 == number)
    }
}

/// Compresses `plain`; kept only when it saves a sixteenth: less is not worth a decompression.
pub(crate) fn compress(plain: &[u8], compression: Compression) -> (Codec, Vec<u8>) {
    let compressed = match compression {
        Compression::None => None,
        Compression::Lz4 => Some((Codec::Lz4, lz4_flex::block::compress(plain))),
        Compression::Zstd { level } => zstd::bulk::compress(plain, level)
            .ok()
            .map(|compressed| (Codec::Zstd, compressed)),
    };
    compressed
        .filter(|(_, compressed)| compressed.len() <= plain.len() - plain.len() / 16)
        .unwrap_or_else(|| (Codec::Raw, plain.to_vec()))
}

/// Decompresses into exactly `bytes` bytes, which the caller has bounded.
pub(crate) fn decompress(codec: Codec, stored: &[u8], bytes: usize) -> Result<Vec<u8>, Flaw> {
    let mut plain = vec![0; bytes];
    let filled = match codec {
        Codec::Zero => stored.is_empty().then_some(bytes),
        Codec::Raw => (stored.len() == bytes).then(|| {
            plain.copy_from_slice(stored);
            bytes
        }),
        Codec::Lz4 => lz4_flex::block::decompress_into(stored, &mut plain).ok(),
        Codec::Zstd => zstd::bulk::decompress_to_buffer(stored, &mut plain).ok(),
    };
    if filled == Some(bytes) {
        Ok(plain)
    } else {
        Err(Flaw::Compression)
    }
}
