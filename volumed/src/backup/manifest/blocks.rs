//! The block list section; little endian.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | size of the volume |
//! | 4 | blocks, the size divided by 4 MiB, rounded up |
//! | 4 | writers |
//! | | for each writer: 1 byte length, its snapshot id |
//! | blocks ÷ 4, rounded up | two bits a block, the first in the lowest: 0 undefined, 1 zero, 2 data |
//! | 36 each | for each data block: address (32), number of its writer (4) |

use super::{BlockRef, Manifest, ManifestHead};
use crate::backup::block::{Address, BLOCK_BYTES};
use crate::backup::names::check_id;

const UNDEFINED: u8 = 0;
const ZERO: u8 = 1;
const DATA: u8 = 2;

pub(super) fn encode(manifest: &Manifest) -> Vec<u8> {
    let Manifest {
        head,
        blocks,
        writers,
    } = manifest;
    assert!(
        blocks.len() as u64 == head.size_bytes.div_ceil(BLOCK_BYTES as u64),
        "{} blocks for {} bytes",
        blocks.len(),
        head.size_bytes
    );
    let mut out = Vec::with_capacity(64 + blocks.len() * 37);
    out.extend_from_slice(&head.size_bytes.to_le_bytes());
    out.extend_from_slice(&count(blocks.len()).to_le_bytes());
    out.extend_from_slice(&count(writers.len()).to_le_bytes());
    for writer in writers {
        assert!(check_id(writer).is_ok(), "writer {writer:?}");
        out.push(u8::try_from(writer.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(writer.as_bytes());
    }
    for four in blocks.chunks(4) {
        let states = four.iter().rev().fold(0_u8, |states, block| {
            let state = match block {
                BlockRef::Undefined => UNDEFINED,
                BlockRef::Zero => ZERO,
                BlockRef::Data { .. } => DATA,
            };
            states << 2 | state
        });
        out.push(states);
    }
    for block in blocks {
        if let BlockRef::Data { address, writer } = block {
            assert!(
                (*writer as usize) < writers.len(),
                "writer {writer} of {}",
                writers.len()
            );
            out.extend_from_slice(&address.0);
            out.extend_from_slice(&writer.to_le_bytes());
        }
    }
    out
}

/// Reads a block list for `head`; `None` for anything that [`encode`] cannot have written.
pub(super) fn decode(head: ManifestHead, bytes: &[u8]) -> Option<Manifest> {
    let mut rest = bytes;
    let size_bytes = u64::from_le_bytes(take(&mut rest)?);
    let block_count = u32::from_le_bytes(take(&mut rest)?);
    let writer_count = u32::from_le_bytes(take(&mut rest)?);
    if size_bytes != head.size_bytes || u64::from(block_count) != size_bytes.div_ceil(BLOCK_BYTES as u64) {
        return None;
    }
    let mut writers = Vec::new();
    for _ in 0..writer_count {
        let [length] = take(&mut rest)?;
        let (writer, after) = rest.split_at_checked(usize::from(length))?;
        let writer = std::str::from_utf8(writer).ok()?;
        check_id(writer).ok()?;
        writers.push(writer.to_owned());
        rest = after;
    }
    let block_count = block_count as usize;
    let (states, after) = rest.split_at_checked(block_count.div_ceil(4))?;
    rest = after;
    let mut blocks = Vec::with_capacity(block_count);
    for index in 0..block_count {
        blocks.push(match states[index / 4] >> (index % 4 * 2) & 3 {
            UNDEFINED => BlockRef::Undefined,
            ZERO => BlockRef::Zero,
            DATA => {
                let address = Address(take(&mut rest)?);
                let writer = u32::from_le_bytes(take(&mut rest)?);
                if writer >= writer_count {
                    return None;
                }
                BlockRef::Data { address, writer }
            }
            _ => return None,
        });
    }
    rest.is_empty().then_some(Manifest {
        head,
        blocks,
        writers,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or_else(|_| unreachable!("{len} blocks in one volume"))
}
