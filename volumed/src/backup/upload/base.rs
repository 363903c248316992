//! The base of an upload: what of it stands in the new manifest again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::block_list::Block;
use crate::backup::block::{Address, BLOCK_BYTES};
use crate::backup::manifest::{BlockRef, Manifest};

/// An earlier snapshot of the same volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base<'a> {
    /// Which.
    pub snapshot_id: &'a str,
    /// What may differ from it, in order, in bytes of the volume; when that is known for certain, nothing else is read.
    pub changed: Option<Vec<Range<u64>>>,
}

impl<'a> From<&'a str> for Base<'a> {
    /// A base of which it is not known what changed since.
    fn from(snapshot_id: &'a str) -> Self {
        Self {
            snapshot_id,
            changed: None,
        }
    }
}

/// The base's blocks.
#[derive(Debug, Default)]
pub(super) struct BaseBlocks {
    by_content: HashMap<Address, Arc<str>>,
    /// Blocks by number that need not be read.
    unchanged: HashMap<usize, Unchanged>,
}

#[derive(Debug, Clone)]
enum Unchanged {
    Undefined,
    Zero,
    Data { address: Address, writer: Arc<str> },
}

impl BaseBlocks {
    /// * `size_bytes`: of the volume now.
    /// * `changed`: as in [`Base`].
    pub(super) fn new(base: &Manifest, size_bytes: u64, changed: Option<&[Range<u64>]>) -> Self {
        let writers: Vec<Arc<str>> = base.writers.iter().map(|w| Arc::from(w.as_str())).collect();
        let mut blocks = Self::default();
        for (number, block) in base.blocks.iter().enumerate() {
            let block = match block {
                BlockRef::Undefined => Unchanged::Undefined,
                BlockRef::Zero => Unchanged::Zero,
                BlockRef::Data { address, writer } => {
                    let writer = Arc::clone(&writers[*writer as usize]);
                    blocks.by_content.insert(*address, Arc::clone(&writer));
                    Unchanged::Data {
                        address: *address,
                        writer,
                    }
                }
            };
            let now = extent(number, size_bytes);
            // A block that the volume's end has moved in is another one.
            let same = changed.is_some_and(|changed| {
                now == extent(number, base.head.size_bytes) && !now.is_empty() && !touches(changed, &now)
            });
            if same {
                blocks.unchanged.insert(number, block);
            }
        }
        blocks
    }

    /// Returns who wrote a block of that content.
    pub(super) fn writer(&self, address: &Address) -> Option<&Arc<str>> {
        self.by_content.get(address)
    }

    /// Returns a block that need not be read.
    pub(super) fn unread(&self, number: usize) -> Option<Block> {
        Some(match self.unchanged.get(&number)?.clone() {
            Unchanged::Undefined => Block::Undefined,
            Unchanged::Zero => Block::Zero,
            Unchanged::Data { address, writer } => Block::Reused { address, writer },
        })
    }
}

/// Returns the bytes of a block in a volume of a size.
fn extent(number: usize, size_bytes: u64) -> Range<u64> {
    let start = number as u64 * BLOCK_BYTES as u64;
    start..(start + BLOCK_BYTES as u64).min(size_bytes)
}

/// Tells whether any of `ranges`, which are in order, has a byte of `block`.
fn touches(ranges: &[Range<u64>], block: &Range<u64>) -> bool {
    let first = ranges.partition_point(|range| range.end <= block.start);
    ranges.get(first).is_some_and(|range| range.start < block.end)
}
