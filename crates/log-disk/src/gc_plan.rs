//! PURE. Which objects are worth rewriting, and what is left of them.

use crate::batch::push_run;
use crate::extent_map::{ExtentMap, Location, LostLeaf, PageStore};
use crate::objects::{Objects, Role};
use crate::runs::RunValue;
use crate::{Layout, Lba, ObjectKind, ObjectSeq, Source, ToSeal};

/// When and how much is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcLimits {
    /// Thousandths of all blocks stored that may be garbage before anything is rewritten.
    pub garbage_permille: u64,
    /// An object with more than this many thousandths of its blocks alive is left alone.
    pub live_permille_max: u64,
    /// Most live blocks that one GC object takes.
    pub blocks_max: u64,
}

/// Returns what to rewrite next, least alive first; nothing when the garbage is within bounds or no object is worth it.
///
/// What is another disk's is left alone: rewriting it would free nothing. Only objects that a checkpoint or the replay will find again are looked at, and what is dead already is not: it costs
/// nothing to delete.
#[must_use]
pub fn choose_victims(objects: &Objects, limits: GcLimits) -> Vec<ObjectSeq> {
    let data = || {
        objects
            .own()
            .filter(|(_, facts)| facts.role != Role::Checkpoint && facts.dead == 0 && facts.live > 0)
    };
    let (blocks, live) = data().fold((0, 0), |(blocks, live), (_, facts)| {
        (blocks + facts.blocks, live + facts.live)
    });
    if (blocks - live) * 1000 <= blocks * limits.garbage_permille {
        return Vec::new();
    }
    let mut worth: Vec<_> = data()
        .filter(|(_, facts)| facts.live * 1000 <= facts.blocks * limits.live_permille_max)
        .collect();
    worth.sort_by_key(|(seq, facts)| (facts.live * 1000 / facts.blocks, *seq));
    let mut taken = 0;
    worth
        .into_iter()
        .take_while(|(_, facts)| {
            let first = taken == 0;
            taken += facts.live;
            // One is always taken, or an object that is larger than the limit would stay for ever.
            first || taken <= limits.blocks_max
        })
        .map(|(seq, _)| seq)
        .collect()
}

/// Says whether so much is wholly dead, and not yet known as dead to a checkpoint, that one is worth taking for it.
pub(crate) fn is_burial_due(objects: &Objects, limits: GcLimits) -> bool {
    let (mut blocks, mut dead) = (0, 0);
    for (_, facts) in objects.own() {
        if facts.role != Role::Checkpoint && facts.dead == 0 {
            blocks += facts.blocks;
            dead += if facts.live == 0 { facts.blocks } else { 0 };
        }
    }
    dead * 1000 > blocks * limits.garbage_permille
}

/// One run that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) lba: Lba,
    pub(crate) blocks: u64,
    pub(crate) from: Location,
    /// Its first block among those of the new object.
    pub(crate) at: u32,
}

/// Returns what the map still refers to in `victims`, by LBA, as the runs of a new object and as moves of the map.
pub(crate) fn what_is_left<S: PageStore>(
    victims: &[Layout],
    map: &mut ExtentMap<S>,
) -> Result<(Vec<ToSeal>, Vec<Move>), LostLeaf> {
    let mut left = Vec::new();
    for layout in victims {
        let object = layout.header.seq;
        for extent in layout.extents.iter().filter(|extent| !extent.is_zero()) {
            let origin = match layout.header.kind {
                ObjectKind::Data => object,
                ObjectKind::Gc => extent.origin,
            };
            let first = Location {
                object,
                at: extent.at,
            };
            for part in map.lookup(extent.lba, extent.blocks)? {
                let from = first.advance(part.start - extent.lba.0);
                if part.value == Some(from) {
                    left.push((Lba(part.start), part.blocks, from, origin));
                }
            }
        }
    }
    left.sort_by_key(|(lba, ..)| *lba);
    let (mut runs, mut moves, mut at) = (Vec::new(), Vec::new(), 0_u32);
    for (lba, blocks, from, origin) in left {
        push_run(&mut runs, lba, blocks, origin, |skip| {
            let Location { object, at } = from.advance(skip);
            Some(Source::Object { object, at })
        });
        moves.push(Move {
            lba,
            blocks,
            from,
            at,
        });
        let Ok(blocks) = u32::try_from(blocks) else {
            unreachable!("an extent's part has {blocks} blocks")
        };
        at += blocks;
    }
    Ok((runs, moves))
}

#[cfg(test)]
mod tests;
