//! PURE. A set of bytes, kept as ranges.

use std::{collections::BTreeMap, ops::Range};

/// Bytes of a file. Memory is by the range, not by the byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ByteRanges {
    /// Where each range begins and ends. Ranges neither overlap nor touch, and none is empty.
    ends: BTreeMap<u64, u64>,
}

impl ByteRanges {
    /// Adds bytes.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        // From the last range on that begins within or right behind the new one, back to the first that reaches it.
        while let Some((&other_start, &other_end)) = self.ends.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.ends.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.ends.insert(start, end);
    }

    /// Returns the numbers below `blocks` of the blocks that hold any of the bytes, each once, in order.
    ///
    /// * `block_bytes`: the size of a block, from 0 of which they are counted.
    pub(super) fn blocks(&self, block_bytes: u64, blocks: u64) -> impl Iterator<Item = u64> + '_ {
        let mut from = 0;
        self.ends.iter().flat_map(move |(start, end)| {
            let first = (start / block_bytes).max(from);
            let behind = end.div_ceil(block_bytes).min(blocks).max(first);
            from = behind.max(from);
            first..behind
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests;
