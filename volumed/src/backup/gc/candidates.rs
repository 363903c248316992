//! The list that a mark leaves for the sweep; little endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `HGGC` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | 0 |
//! | 8 | 4 | blocks |
//! | 12 | | for each block: 1 byte length of its writer, the writer, 32 bytes address |
//! | end − 4 | 4 | CRC-32 of everything before |

use bytes::Bytes;

use crate::backup::block::Address;
use crate::backup::names::{BlockName, check_id};

const HEAD: [u8; 8] = *b"HGGC\x01\0\0\0";
const CRC_BYTES: usize = 4;

pub(super) fn encode(blocks: &[BlockName]) -> Bytes {
    let count =
        u32::try_from(blocks.len()).unwrap_or_else(|_| unreachable!("{} blocks in one volume", blocks.len()));
    let mut out = Vec::with_capacity(HEAD.len() + 8 + blocks.len() * 64);
    out.extend_from_slice(&HEAD);
    out.extend_from_slice(&count.to_le_bytes());
    for BlockName { writer, address } in blocks {
        assert!(check_id(writer).is_ok(), "writer {writer:?}");
        out.push(u8::try_from(writer.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(writer.as_bytes());
        out.extend_from_slice(&address.0);
    }
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    Bytes::from(out)
}

/// Reads a list; `None` for anything that [`encode`] cannot have written.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<BlockName>> {
    let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    if crc32fast::hash(body).to_le_bytes() != *crc {
        return None;
    }
    let rest = body.strip_prefix(&HEAD)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut blocks = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (length, after) = rest.split_first()?;
        let (writer, after) = after.split_at_checked(usize::from(*length))?;
        let (address, after) = after.split_first_chunk::<32>()?;
        let writer = std::str::from_utf8(writer).ok()?;
        check_id(writer).ok()?;
        blocks.push(BlockName {
            writer: writer.to_owned(),
            address: Address(*address),
        });
        rest = after;
    }
    rest.is_empty().then_some(blocks)
}
