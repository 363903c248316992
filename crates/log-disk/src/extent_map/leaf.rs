//! PURE. The bytes of a leaf of the map.

use super::Location;
use crate::fields::{Fields, Sink};
use crate::runs::RunMap;
use crate::{Flaw, ObjectSeq};

/// Blocks of a leaf, 64 MiB.
pub const LEAF_BLOCKS: u64 = 16_384;
const RUN_BYTES: usize = 16;
/// Most bytes of a leaf: each block a run of its own.
pub const LEAF_BYTES_MAX: usize = RUN_BYTES * 16_384;

/// Returns the bytes of a leaf: its runs in order, each the first block within the leaf (2), blocks − 1 (2), the first block
/// with data of the object (4), and the object's seq (8).
#[must_use]
pub fn encode_leaf(leaf: u32, runs: &RunMap<Location>) -> Vec<u8> {
    let begin = u64::from(leaf) * LEAF_BLOCKS;
    let mut out = Vec::with_capacity(runs.len() * RUN_BYTES);
    for run in runs.iter() {
        let (Ok(start), Ok(more)) = (u16::try_from(run.start - begin), u16::try_from(run.blocks - 1)) else {
            panic!("a run of {} blocks at {} in leaf {leaf}", run.blocks, run.start)
        };
        let Some(location) = run.value else {
            unreachable!("a run maps to something")
        };
        out.put_u16(start);
        out.put_u16(more);
        out.put_u32(location.at);
        out.put_u64(location.object.0);
    }
    out
}

/// How many runs the bytes of a leaf have.
pub(super) fn runs_of(bytes: &[u8]) -> usize {
    bytes.len() / RUN_BYTES
}

/// Reads the bytes of a leaf.
///
/// # Errors
/// [`Flaw::Fields`] when runs are out of order or past the leaf's end.
pub fn decode_leaf(leaf: u32, bytes: &[u8]) -> Result<RunMap<Location>, Flaw> {
    if bytes.len() > LEAF_BYTES_MAX {
        return Err(Flaw::Fields);
    }
    let begin = u64::from(leaf) * LEAF_BLOCKS;
    let mut fields = Fields::new(bytes);
    let mut runs = RunMap::default();
    let mut end = 0;
    while !fields.is_empty() {
        let mut read = || {
            let start = u64::from(fields.u16()?);
            let blocks = u64::from(fields.u16()?) + 1;
            let at = fields.u32()?;
            let object = ObjectSeq(fields.u64()?);
            Some((start, blocks, Location { object, at }))
        };
        let (start, blocks, location) = read().ok_or(Flaw::Cut)?;
        let fits = u64::from(location.at) + blocks <= u64::from(u32::MAX);
        if start < end || start + blocks > LEAF_BLOCKS || !fits {
            return Err(Flaw::Fields);
        }
        end = start + blocks;
        runs.set(begin + start, blocks, location, |_| {});
    }
    Ok(runs)
}
