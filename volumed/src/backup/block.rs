//! The block object.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use super::damage::Flaw;
use super::frame::{Codec, Compression, compress, decompress};
use super::seal::{NONCE_PREFIX_BYTES, NoncePrefix, Part, Sealer, TAG_BYTES};
use crate::keys::BackupKeys;

/// Plaintext bytes of a block. The last one of a volume is filled up with zeros.
pub const BLOCK_BYTES: usize = 4 << 20;
/// Plaintext bytes of a frame, the least that is read at a time.
pub const FRAME_BYTES: usize = 64 << 10;
/// Frames of a block.
pub(super) const FRAMES: usize = BLOCK_BYTES / FRAME_BYTES;

const MAGIC: [u8; 4] = *b"HGBK";
const VERSION: u16 = 1;
const ADDRESS_AT: usize = 16;
const NONCE_AT: usize = ADDRESS_AT + 32;
const TABLE_AT: usize = NONCE_AT + NONCE_PREFIX_BYTES;
const MAC_AT: usize = TABLE_AT + 4 * FRAMES;
const MAC_BYTES: usize = 16;
const CRC_AT: usize = MAC_AT + MAC_BYTES;
const CRC_BYTES: usize = 4;
/// Bytes before the first frame.
pub(super) const HEADER_BYTES: usize = CRC_AT + CRC_BYTES;
const OBJECT_BYTES_MAX: usize = HEADER_BYTES + FRAMES * (FRAME_BYTES + TAG_BYTES) + CRC_BYTES;

const _: () = assert!(FRAMES == 64 && HEADER_BYTES == 344);
const _: () = assert!(FRAME_BYTES + TAG_BYTES < 1 << 24);

/// What a block is called: a hash of its plaintext, keyed so that nobody without the volume's key can tell whether a
/// known plaintext is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub(super) [u8; 32]);

impl Address {
    /// Returns the address of `plain`, a whole block.
    pub(super) fn of(keys: &BackupKeys, plain: &[u8]) -> Self {
        assert!(plain.len() == BLOCK_BYTES, "block of {} bytes", plain.len());
        Self(*blake3::keyed_hash(&keys.address, plain).as_bytes())
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let address = Self(bytes);
        (address.to_string() == text).then_some(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// What opens and seals the blocks of one volume.
pub(super) struct BlockCipher<'a> {
    keys: &'a BackupKeys,
    volume_id: &'a str,
    sealer: Sealer,
}

/// The header of a block object; little endian.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 4 | `HGBK` |
/// | 4 | 2 | version, 1 |
/// | 6 | 2 | frames, 64 |
/// | 8 | 4 | plaintext bytes, 4,194,304 |
/// | 12 | 4 | bytes of the whole object |
/// | 16 | 32 | address |
/// | 48 | 20 | nonce prefix |
/// | 68 | 64 × 4 | frame table: stored bytes in the low 24 bits, codec in the high 8 |
/// | 324 | 16 | MAC of the volume's id and the bytes 0..324 |
/// | 340 | 4 | CRC-32 of the bytes 0..340 |
/// | 344 | | the frames, one after the other |
/// | end − 4 | 4 | CRC-32 of everything before |
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockHeader {
    address: Address,
    prefix: NoncePrefix,
    frames: Vec<StoredFrame>,
    total_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct StoredFrame {
    codec: Codec,
    range: Range<usize>,
}

/// A block read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenBlock {
    pub(super) plain: Bytes,
    /// For each frame, whether it is known to be zeros.
    pub(super) zero_frames: [bool; FRAMES],
}

impl BlockHeader {
    /// Where frame `frame` lies in the object; empty when it has no bytes.
    pub(super) fn frame_range(&self, frame: usize) -> Range<u64> {
        let range = &self.frames[frame].range;
        range.start as u64..range.end as u64
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes as u64
    }

    fn encode(&self, cipher: &BlockCipher<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.total_bytes);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&narrow_u16(FRAMES).to_le_bytes());
        out.extend_from_slice(&narrow_u32(BLOCK_BYTES).to_le_bytes());
        out.extend_from_slice(&narrow_u32(self.total_bytes).to_le_bytes());
        out.extend_from_slice(&self.address.0);
        out.extend_from_slice(&self.prefix.0);
        for frame in &self.frames {
            let entry = narrow_u32(frame.range.len()) | u32::from(frame.codec as u8) << 24;
            out.extend_from_slice(&entry.to_le_bytes());
        }
        out.extend_from_slice(&cipher.header_mac(&out));
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        assert!(out.len() == HEADER_BYTES, "header of {} bytes", out.len());
        out
    }
}

impl<'a> BlockCipher<'a> {
    pub(super) fn new(keys: &'a BackupKeys, volume_id: &'a str) -> Self {
        Self {
            keys,
            volume_id,
            sealer: Sealer::new(&keys.block_seal),
        }
    }

    /// Makes the object of the block `plain`.
    pub(super) fn seal(&self, address: Address, plain: &[u8], compression: Compression) -> Bytes {
        assert!(plain.len() == BLOCK_BYTES, "block of {} bytes", plain.len());
        let compressed: Vec<(Codec, Vec<u8>)> = plain
            .chunks_exact(FRAME_BYTES)
            .map(|frame| compress(frame, compression))
            .collect();
        let codecs: Vec<u8> = compressed.iter().map(|(codec, _)| *codec as u8).collect();
        let parts = [address.0.as_slice(), &codecs];
        let parts = parts
            .into_iter()
            .chain(compressed.iter().map(|(_, stored)| stored.as_slice()));
        let prefix = NoncePrefix::derive(self.keys, "block", parts);

        let mut frames = Vec::with_capacity(FRAMES);
        let mut end = HEADER_BYTES;
        for (codec, stored) in &compressed {
            let start = end;
            end += if stored.is_empty() {
                0
            } else {
                stored.len() + TAG_BYTES
            };
            frames.push(StoredFrame {
                codec: *codec,
                range: start..end,
            });
        }
        let header = BlockHeader {
            address,
            prefix,
            frames,
            total_bytes: end + CRC_BYTES,
        };
        let mut out = header.encode(self);
        for (index, (codec, stored)) in compressed
            .iter()
            .enumerate()
            .filter(|(_, (_, stored))| !stored.is_empty())
        {
            let aad = self.frame_aad(&address, index, *codec);
            out.extend_from_slice(&self.sealer.seal(
                Part {
                    prefix,
                    number: narrow_u32(index),
                    aad: &aad,
                },
                stored,
            ));
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        assert!(
            out.len() == header.total_bytes,
            "object of {} bytes, not {}",
            out.len(),
            header.total_bytes
        );
        Bytes::from(out)
    }

    /// Reads the header of the block `address` from its object's first [`HEADER_BYTES`] bytes or more.
    pub(super) fn open_header(&self, address: Address, bytes: &[u8]) -> Result<BlockHeader, Flaw> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            let found_bytes = bytes.len() as u64;
            return Err(Flaw::Length {
                expected_bytes: HEADER_BYTES as u64,
                found_bytes,
            });
        };
        if !bytes.starts_with(&MAGIC) {
            return Err(Flaw::Magic);
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(Flaw::Version { version });
        }
        if crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes() != bytes[CRC_AT..] {
            return Err(Flaw::Header);
        }
        let authentic = self.header_mac(&bytes[..MAC_AT]).ct_eq(&bytes[MAC_AT..CRC_AT]);
        if !bool::from(authentic) || bytes[ADDRESS_AT..NONCE_AT] != address.0 {
            return Err(Flaw::HeaderSeal);
        }
        let mut prefix = [0; NONCE_PREFIX_BYTES];
        prefix.copy_from_slice(&bytes[NONCE_AT..TABLE_AT]);
        let mut frames = Vec::with_capacity(FRAMES);
        let mut end = HEADER_BYTES;
        for entry in bytes[TABLE_AT..MAC_AT].chunks_exact(4) {
            let codec = Codec::of(entry[3]).ok_or(Flaw::Header)?;
            let start = end;
            end += u32_at(&[entry[0], entry[1], entry[2], 0], 0);
            frames.push(StoredFrame {
                codec,
                range: start..end,
            });
        }
        let total_bytes = u32_at(bytes, 12);
        let sound = u32_at(bytes, 8) == BLOCK_BYTES
            && usize::from(u16::from_le_bytes([bytes[6], bytes[7]])) == FRAMES
            && total_bytes == end + CRC_BYTES
            && total_bytes <= OBJECT_BYTES_MAX;
        if !sound {
            return Err(Flaw::Header);
        }
        Ok(BlockHeader {
            address,
            prefix: NoncePrefix(prefix),
            frames,
            total_bytes,
        })
    }

    /// Opens frame `frame`, whose stored bytes are `stored`, into `plain`, a frame long.
    pub(super) fn open_frame(
        &self,
        header: &BlockHeader,
        frame: usize,
        stored: &[u8],
        plain: &mut [u8],
    ) -> Result<(), Flaw> {
        let damaged = Flaw::Frame { frame };
        let StoredFrame { codec, range } = &header.frames[frame];
        if stored.len() != range.len() {
            return Err(damaged);
        }
        if *codec == Codec::Zero {
            return decompress(Codec::Zero, stored, plain).ok_or(damaged);
        }
        let aad = self.frame_aad(&header.address, frame, *codec);
        let part = Part {
            prefix: header.prefix,
            number: narrow_u32(frame),
            aad: &aad,
        };
        let compressed = self.sealer.open(part, stored);
        compressed
            .and_then(|compressed| decompress(*codec, &compressed, plain))
            .ok_or(damaged)
    }

    /// Opens the whole object of the block `address`, checking every byte of it.
    pub(super) fn open(&self, address: Address, object: &[u8]) -> Result<OpenBlock, Flaw> {
        let header = self.open_header(address, object)?;
        if object.len() != header.total_bytes {
            let (expected_bytes, found_bytes) = (header.total_bytes(), object.len() as u64);
            return Err(Flaw::Length {
                expected_bytes,
                found_bytes,
            });
        }
        let mut plain = vec![0; BLOCK_BYTES];
        let mut zero_frames = [false; FRAMES];
        for (index, plain) in plain.chunks_exact_mut(FRAME_BYTES).enumerate() {
            let StoredFrame { codec, range } = &header.frames[index];
            zero_frames[index] = *codec == Codec::Zero;
            self.open_frame(&header, index, &object[range.clone()], plain)?;
        }
        if Address::of(self.keys, &plain) != address {
            return Err(Flaw::Content);
        }
        let (body, crc) = object.split_at(object.len() - CRC_BYTES);
        if crc32fast::hash(body).to_le_bytes() != crc {
            return Err(Flaw::Trailer);
        }
        Ok(OpenBlock {
            plain: Bytes::from(plain),
            zero_frames,
        })
    }

    fn header_mac(&self, header: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.keys.block_header);
        hasher.update(&(self.volume_id.len() as u64).to_le_bytes());
        hasher.update(self.volume_id.as_bytes());
        hasher.update(header);
        let mut mac = [0; MAC_BYTES];
        hasher.finalize_xof().fill(&mut mac);
        mac
    }

    fn frame_aad(&self, address: &Address, frame: usize, codec: Codec) -> Vec<u8> {
        let frame = narrow_u32(frame).to_le_bytes();
        [
            b"hangar-block-1:",
            self.volume_id.as_bytes(),
            b":",
            &address.0,
            &frame,
            &[codec as u8],
        ]
        .concat()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word) as usize
}

fn narrow_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or_else(|_| unreachable!("{value} of a block exceeds 32 bits"))
}

fn narrow_u16(value: usize) -> u16 {
    u16::try_from(value).unwrap_or_else(|_| unreachable!("{value} of a block exceeds 16 bits"))
}

#[cfg(test)]
mod tests;
