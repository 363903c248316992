//! PURE. Which copy of each block is taken.

use std::collections::BTreeMap;

use log_disk::{Location, ObjectSeq, RunMap};

use super::history::{Candidate, History};

/// What an object offers for a run of blocks.
#[derive(Debug)]
struct Offer {
    origin: ObjectSeq,
    /// A copy that cannot be read comes before one that can, which is then taken.
    readable: bool,
    lba: u64,
    blocks: u64,
    /// Index of the candidate; `None` for zeros.
    candidate: Option<u32>,
}

/// Collects offers.
#[derive(Debug, Default)]
pub(super) struct Choice {
    offers: Vec<Offer>,
    seen: u32,
}

/// Runs of blocks that are taken from one object.
#[derive(Debug, Default)]
pub(super) struct Wanted(Vec<(u64, u64)>);

impl Wanted {
    /// Those within `blocks` blocks at `lba`.
    pub(super) fn of(&self, lba: u64, blocks: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = lba + blocks;
        self.0.iter().filter_map(move |(start, count)| {
            let (from, to) = ((*start).max(lba), (start + count).min(end));
            (from < to).then(|| (from, to - from))
        })
    }
}

/// What is taken from where.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// By the candidate's index.
    pub(super) wanted: BTreeMap<usize, Wanted>,
    /// Runs whose newest copy cannot be read. An older one would be another moment's.
    pub(super) lost: Vec<(u64, u64)>,
}

/// A run's source: which candidate, or none that can be read.
const LOST: u32 = u32::MAX;

impl Choice {
    /// Takes in what the next candidate has, as far as it counts; `readable` says so of an extent by its first block.
    pub(super) fn offer(&mut self, candidate: &Candidate, history: &History, readable: impl Fn(u64) -> bool) {
        let index = self.seen;
        self.seen += 1;
        for extent in &candidate.layout.extents {
            let Some(origin) = history.origin(candidate, extent.origin) else {
                continue;
            };
            self.offers.push(Offer {
                origin,
                readable: extent.is_zero() || readable(extent.lba.0),
                lba: extent.lba.0,
                blocks: extent.blocks,
                candidate: (!extent.is_zero()).then_some(index),
            });
        }
    }

    /// Decides, for a disk of so many blocks.
    pub(super) fn choose(mut self, size_blocks: u64) -> Chosen {
        self.offers.sort_by_key(|offer| (offer.origin, offer.readable));
        let mut map: RunMap<Location> = RunMap::default();
        for offer in &self.offers {
            let Some(candidate) = offer.candidate else {
                map.clear(offer.lba, offer.blocks, |_| {});
                continue;
            };
            let source = if offer.readable { candidate } else { LOST };
            // The place within the object is not of interest: only which object it is.
            let location = Location {
                object: ObjectSeq(source.into()),
                at: 0,
            };
            map.set(offer.lba, offer.blocks, location, |_| {});
        }
        let mut chosen = Chosen::default();
        for part in map.iter() {
            let (start, end) = (part.start, (part.start + part.blocks).min(size_blocks));
            let (Some(location), true) = (part.value, start < end) else {
                continue;
            };
            let run = (start, end - start);
            match location.object.0 {
                lost if lost == u64::from(LOST) => chosen.lost.push(run),
                index => {
                    let index = usize::try_from(index).unwrap_or(usize::MAX);
                    chosen.wanted.entry(index).or_default().0.push(run);
                }
            }
        }
        chosen
    }
}
