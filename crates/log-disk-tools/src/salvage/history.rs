//! PURE. Which data objects count, told by nothing but themselves.

use std::collections::{BTreeMap, BTreeSet};

use log_disk::{Epoch, Layout, ObjectName, ObjectSeq, Role};

/// How many data objects may follow a hole because its objects never came: an owner has no more uploads under way, and a
/// hole that more objects follow was collected.
const UPLOADS_MAX: usize = 8;

/// An object whose front can be read.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: ObjectName,
    pub(super) layout: Layout,
}

/// The data objects that count.
#[derive(Debug)]
pub(super) struct History {
    /// Those that are there.
    counts: BTreeSet<ObjectName>,
    /// For each epoch that was followed by another, the last data object that counts of those up to it.
    ends: BTreeMap<Epoch, ObjectSeq>,
    pub(super) last: ObjectSeq,
    pub(super) size_blocks: u64,
    pub(super) beyond: usize,
    pub(super) collected: usize,
}

impl History {
    /// Finds out; `None` when there is no data object and no GC object. `beyond` takes what follows a hole near the end, too.
    pub(super) fn of(candidates: &[Candidate], beyond: bool) -> Option<Self> {
        let data: BTreeMap<(ObjectSeq, Epoch), &Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.name.role == Role::Data)
            .map(|candidate| ((candidate.name.seq, candidate.name.epoch), candidate))
            .collect();
        // What was collected was part of the history.
        let origins: BTreeSet<ObjectSeq> = candidates
            .iter()
            .filter(|candidate| candidate.name.role == Role::Gc)
            .flat_map(|candidate| candidate.layout.extents.iter().map(|extent| extent.origin))
            .collect();
        let newest = data.keys().map(|(_, epoch)| *epoch).max();
        let Some(newest) = newest else {
            return Self::of_gc_alone(candidates, &origins);
        };
        let tip = data.keys().filter(|(_, epoch)| *epoch == newest).max().copied()?;
        let chain = chain(candidates, &data, tip);
        // The oldest hole near the end that nothing shows to have been collected: the history ends before it. Before the
        // oldest object of all, collection has begun.
        let near = if beyond {
            0
        } else {
            UPLOADS_MAX.min(chain.len() - 1)
        };
        let end = chain[..near]
            .iter()
            .rposition(|link| link.hole && !origins.contains(&link.previous));
        let kept = end.map_or(&chain[..], |index| &chain[index + 1..]);
        let last = kept.first()?;
        let holes = kept
            .iter()
            .filter(|link| link.hole && link.previous != ObjectSeq(0));
        Some(Self {
            counts: kept.iter().map(|link| link.name).collect(),
            ends: ends(kept),
            last: last.name.seq,
            size_blocks: data
                .get(&(last.name.seq, last.name.epoch))?
                .layout
                .header
                .size_blocks,
            beyond: chain.len() - kept.len(),
            collected: holes.count(),
        })
    }

    /// Collection has taken every data object: what it kept is all there is, and the size is not told any more.
    fn of_gc_alone(candidates: &[Candidate], origins: &BTreeSet<ObjectSeq>) -> Option<Self> {
        let ends = candidates.iter().flat_map(|candidate| &candidate.layout.extents);
        Some(Self {
            counts: BTreeSet::new(),
            ends: BTreeMap::new(),
            last: origins.last().copied()?,
            size_blocks: ends.map(|extent| extent.lba.0 + extent.blocks).max()?,
            beyond: 0,
            collected: origins.len(),
        })
    }

    /// Says which data object wrote an extent that counts first; `None` when it does not count.
    pub(super) fn origin(&self, candidate: &Candidate, origin: ObjectSeq) -> Option<ObjectSeq> {
        match candidate.name.role {
            Role::Data => self
                .counts
                .contains(&candidate.name)
                .then_some(candidate.name.seq),
            Role::Gc => {
                // What a former owner rewrote after it had been replaced may be of its own late objects.
                let end = self.ends.range(candidate.name.epoch..).map(|(_, end)| *end).min();
                let end = end.unwrap_or(self.last).min(self.last);
                (origin <= end).then_some(origin)
            }
            Role::Checkpoint => None,
        }
    }
}

/// A data object on the chain.
#[derive(Debug)]
struct Link {
    name: ObjectName,
    previous: ObjectSeq,
    /// Whether the one before is not there.
    hole: bool,
}

/// Follows the data objects from `tip` back, newest first; over a hole to the next older one of the same epoch, else of an
/// epoch before it.
fn chain(
    candidates: &[Candidate],
    data: &BTreeMap<(ObjectSeq, Epoch), &Candidate>,
    tip: (ObjectSeq, Epoch),
) -> Vec<Link> {
    let mut firsts: BTreeMap<Epoch, ObjectSeq> = BTreeMap::new();
    for name in candidates.iter().map(|candidate| candidate.name) {
        let first = firsts.entry(name.epoch).or_insert(name.seq);
        *first = name.seq.min(*first);
    }
    let mut chain = Vec::new();
    let mut at = Some(tip);
    while let Some((seq, epoch)) = at {
        let Some(candidate) = data.get(&(seq, epoch)) else {
            break;
        };
        let previous = candidate.layout.header.previous;
        // An epoch has all numbers from its first one on: where it has older ones, the one before is its own too.
        let has_older = firsts.get(&epoch).is_some_and(|first| *first <= previous);
        let found = data
            .range((previous, Epoch(0))..=(previous, epoch))
            .map(|(key, _)| *key)
            .rfind(|(_, of)| *of == epoch || !has_older);
        chain.push(Link {
            name: candidate.name,
            previous,
            hole: found.is_none(),
        });
        at = found.or_else(|| older(data, previous, epoch, has_older));
    }
    chain
}

/// The newest data object before a hole.
fn older(
    data: &BTreeMap<(ObjectSeq, Epoch), &Candidate>,
    before: ObjectSeq,
    epoch: Epoch,
    same: bool,
) -> Option<(ObjectSeq, Epoch)> {
    let older = data.range(..(before, Epoch(0))).map(|(key, _)| *key);
    older
        .rev()
        .find(|(_, of)| if same { *of == epoch } else { *of < epoch })
}

/// Where each epoch on the chain was taken over by the next.
fn ends(chain: &[Link]) -> BTreeMap<Epoch, ObjectSeq> {
    let pairs = chain.iter().zip(chain.iter().skip(1));
    pairs
        .filter(|(newer, older)| newer.name.epoch != older.name.epoch)
        .map(|(newer, older)| (older.name.epoch, newer.previous))
        .collect()
}
