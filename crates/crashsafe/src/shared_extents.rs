//! Which bytes of two files lie in the same blocks, by what the file system says of their extents.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;

use fiemap::{Fiemap, FiemapExtent, FiemapExtentFlags, FiemapFlags};
use rustix::fs::fstatfs;

/// Of file systems whose extents name a place that no other bytes of theirs have: Linux, `include/uapi/linux/magic.h`.
const XFS_MAGIC: u64 = 0x5846_5342;
const BTRFS_MAGIC: u64 = 0x9123_683E;

/// A run of a file's bytes and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: u64,
    end: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The blocks from this byte of the file system on.
    At(u64),
    /// Reserved, and reads as zeros.
    Unwritten,
    /// Not to be compared: compressed, inline, or not written out yet.
    Unsure,
}

/// Returns where `one` and `other` may differ; `None` where their file system cannot tell.
///
/// Extents may be moved meanwhile by whoever defragments the file system: `one` is looked at twice, before and after
/// `other`, and nothing is believed when it was not the same. So no block of it can have been given to `other` between.
pub(crate) fn differences(one: &File, other: &File) -> Result<Option<Vec<Range<u64>>>> {
    if !is_known(one)? || !is_known(other)? {
        return Ok(None);
    }
    let (len, other_len) = (one.metadata()?.len(), other.metadata()?.len());
    let (Some(before), Some(others)) = (extents(one)?, extents(other)?) else {
        return Ok(None);
    };
    if extents(one)?.as_ref() != Some(&before) || one.metadata()?.len() != len {
        return Ok(None);
    }
    let mut differing = compare(&before, &others, len.min(other_len));
    add(&mut differing, len.min(other_len)..len.max(other_len));
    Ok(Some(differing))
}

fn is_known(file: &File) -> Result<bool> {
    // The type is signed on some platforms, and its upper half is nothing then.
    let magic = u64::try_from(fstatfs(file)?.f_type).unwrap_or_default() & 0xFFFF_FFFF;
    Ok(magic == XFS_MAGIC || magic == BTRFS_MAGIC)
}

/// Returns the extents of a file in order, or `None` where there is no such call.
fn extents(file: &File) -> Result<Option<Vec<Extent>>> {
    let mut found: Vec<Extent> = Vec::new();
    for extent in Fiemap::with_flags(file, FiemapFlags::SYNC) {
        match extent {
            Ok(extent) => found.push(read(&extent)),
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let in_order = found.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let sound = in_order && found.iter().all(|extent| extent.start < extent.end);
    if !sound {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "the file system's list of extents is not in order",
        ));
    }
    Ok(Some(found))
}

fn read(extent: &FiemapExtent) -> Extent {
    let harmless = FiemapExtentFlags::LAST | FiemapExtentFlags::SHARED;
    let flags = extent.fe_flags - harmless;
    let place = if flags.is_empty() {
        Place::At(extent.fe_physical)
    } else if flags.bits() == FiemapExtentFlags::UNWRITTEN.bits() {
        Place::Unwritten
    } else {
        Place::Unsure
    };
    Extent {
        start: extent.fe_logical,
        end: extent.fe_logical.saturating_add(extent.fe_length),
        place,
    }
}

/// Compares the first `len` bytes of two files by their extents.
fn compare(one: &[Extent], other: &[Extent], len: u64) -> Vec<Range<u64>> {
    let (mut one, mut other) = (Walk::new(one), Walk::new(other));
    let (mut at, mut differing) = (0, Vec::new());
    while at < len {
        let ((mine, my_end), (theirs, their_end)) = (one.at(at), other.at(at));
        let end = my_end.min(their_end).min(len);
        if !is_same(mine, theirs) {
            add(&mut differing, at..end);
        }
        at = end;
    }
    differing
}

fn is_same(one: Option<Place>, other: Option<Place>) -> bool {
    match (one, other) {
        (Some(Place::Unsure), _) | (_, Some(Place::Unsure)) => false,
        // Neither a hole nor what is reserved has bytes.
        (None | Some(Place::Unwritten), None | Some(Place::Unwritten)) => true,
        (Some(Place::At(one)), Some(Place::At(other))) => one == other,
        (Some(Place::At(_)), _) | (_, Some(Place::At(_))) => false,
    }
}

fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    if range.is_empty() {
        return;
    }
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        Some(_) | None => ranges.push(range),
    }
}

/// Goes through a file's extents and holes, forwards.
struct Walk<'a> {
    rest: &'a [Extent],
}

impl<'a> Walk<'a> {
    fn new(extents: &'a [Extent]) -> Self {
        Self { rest: extents }
    }

    /// Returns where byte `at` lies, none in a hole, and the end of what lies together with it.
    fn at(&mut self, at: u64) -> (Option<Place>, u64) {
        while let Some((_, rest)) = self.rest.split_first().filter(|(first, _)| first.end <= at) {
            self.rest = rest;
        }
        match self.rest.first() {
            None => (None, u64::MAX),
            Some(next) if at < next.start => (None, next.start),
            Some(Extent { start, end, place }) => match place {
                Place::At(place) => (Some(Place::At(place + (at - start))), *end),
                place => (Some(*place), *end),
            },
        }
    }
}

#[cfg(test)]
mod tests;
