//! PURE. Where each block of a disk lies in its objects.

mod leaf;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use leaf::runs_of;
pub use leaf::{LEAF_BLOCKS, LEAF_BYTES_MAX, decode_leaf, encode_leaf};

use crate::runs::{Part, RunMap, RunValue};
use crate::seal::{Kind, Place, TAG_BYTES};
use crate::{Epoch, Flaw, Lba, ObjectSeq, Salt, Sealer};

/// Where a run of blocks lies: from block `at` of the blocks with data of `object` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Which object.
    pub object: ObjectSeq,
    /// Which of its blocks with data.
    pub at: u32,
}

impl RunValue for Location {
    fn advance(self, blocks: u64) -> Self {
        let at = u32::try_from(u64::from(self.at) + blocks);
        let Ok(at) = at else {
            panic!("block {} + {blocks} of object {}", self.at, self.object)
        };
        Self { at, ..self }
    }
}

/// A leaf's number and its bytes; none when it maps nothing any more.
pub type ChangedLeaf = (u32, Option<Vec<u8>>);

/// Most bytes of a leaf that a [`PageStore`] is handed.
pub const PAGED_BYTES_MAX: usize = LEAF_BYTES_MAX + TAG_BYTES;

/// Where leaves are kept that memory has no room for; a cache that a crash may empty. What it is handed is sealed, each time
/// in another way: bytes that are damaged, another leaf's, or older than the last ones are found out.
pub trait PageStore: Debug {
    /// Keeps a leaf's bytes, at most [`PAGED_BYTES_MAX`].
    fn store(&mut self, leaf: u32, bytes: &[u8]);

    /// Returns the bytes that were kept last.
    ///
    /// # Errors
    /// When they cannot be read.
    fn load(&mut self, leaf: u32) -> std::io::Result<Vec<u8>>;
}

/// Why a leaf that was paged out did not come back. The map is a cache of what S3 holds: opening the disk anew rebuilds it.
#[derive(Debug, thiserror::Error)]
#[error("leaf {leaf} of the map: {why}")]
pub struct LostLeaf {
    /// Which one.
    pub leaf: u32,
    /// What happened.
    pub why: String,
}

#[derive(Debug)]
enum Slot {
    Here {
        runs: RunMap<Location>,
        used: u64,
    },
    /// The number that its bytes were sealed with.
    Paged {
        number: u64,
    },
}

/// How leaves are sealed that are paged out.
#[derive(Debug)]
pub struct PageSeal {
    sealer: Arc<Sealer>,
    salt: Salt,
    epoch: Epoch,
    /// +1 for each.
    next: u64,
}

impl PageSeal {
    /// Creates the seal of one map in one epoch, whose `salt` is drawn for it.
    #[must_use]
    pub fn new(sealer: Arc<Sealer>, salt: Salt, epoch: Epoch) -> Self {
        Self {
            sealer,
            salt,
            epoch,
            next: 0,
        }
    }

    fn place(&self, leaf: u32, number: u64) -> Place {
        Place {
            salt: self.salt,
            epoch: self.epoch,
            number,
            part: leaf,
        }
    }

    fn seal(&mut self, leaf: u32, plain: &[u8]) -> (u64, Vec<u8>) {
        let number = self.next;
        self.next += 1;
        let sealed = self.sealer.seal(Kind::Page, self.place(leaf, number), &[], plain);
        (number, sealed)
    }

    fn open(&self, leaf: u32, number: u64, sealed: &[u8]) -> Result<Vec<u8>, Flaw> {
        self.sealer
            .open(Kind::Page, self.place(leaf, number), &[], sealed)
    }
}

/// The map of a disk, cut into leaves of 64 MiB of addresses.
///
/// A leaf is the unit of paging and of checkpoints. Leaves without any run do not exist. At most `runs_max` runs stay in
/// memory, one leaf at least; the others go to the [`PageStore`], least recently used first.
#[derive(Debug)]
pub struct ExtentMap<S> {
    slots: BTreeMap<u32, Slot>,
    /// Leaves that changed since they were last taken for a checkpoint.
    dirty: BTreeMap<u32, ()>,
    pages: S,
    seal: PageSeal,
    runs_max: usize,
    runs_here: usize,
    clock: u64,
}

/// Which leaf a block is in.
#[must_use]
pub fn leaf_of(lba: Lba) -> u32 {
    let Ok(leaf) = u32::try_from(lba.0 / LEAF_BLOCKS) else {
        panic!("block {lba} is past the end of all addresses")
    };
    leaf
}

impl<S: PageStore> ExtentMap<S> {
    /// Creates a map of nothing.
    pub fn new(pages: S, seal: PageSeal, runs_max: usize) -> Self {
        Self {
            seal,
            slots: BTreeMap::new(),
            dirty: BTreeMap::new(),
            pages,
            runs_max,
            runs_here: 0,
            clock: 0,
        }
    }

    /// Maps a run; hands what it mapped to before to `removed`.
    ///
    /// # Errors
    /// [`LostLeaf`].
    pub fn set(
        &mut self,
        lba: Lba,
        blocks: u64,
        to: Location,
        mut removed: impl FnMut(Part<Location>),
    ) -> Result<(), LostLeaf> {
        self.change(lba, blocks, |runs, part| {
            runs.set(
                part.start,
                part.blocks,
                to.advance(part.start - lba.0),
                &mut removed,
            );
        })
    }

    /// Maps a run to nothing, so that it reads as zeros; hands what it mapped to before to `removed`.
    ///
    /// # Errors
    /// [`LostLeaf`].
    pub fn clear(
        &mut self,
        lba: Lba,
        blocks: u64,
        mut removed: impl FnMut(Part<Location>),
    ) -> Result<(), LostLeaf> {
        // A discard of a whole disk touches the leaves that exist, not the addresses.
        let (first, last) = (leaf_of(lba), leaf_of(lba.plus(blocks - 1)));
        let leaves: Vec<u32> = self.slots.range(first..=last).map(|(leaf, _)| *leaf).collect();
        for leaf in leaves {
            let part = within(leaf, lba, blocks);
            self.with_leaf(leaf, |runs| {
                let mut changed = false;
                runs.clear(part.start, part.blocks, |part| {
                    changed = true;
                    removed(part);
                });
                changed
            })?;
        }
        Ok(())
    }

    /// Maps the blocks of a run that map to `from` and its continuation to `to` and its continuation instead, and no others;
    /// returns how many.
    ///
    /// # Errors
    /// [`LostLeaf`].
    pub fn relocate(&mut self, lba: Lba, blocks: u64, from: Location, to: Location) -> Result<u64, LostLeaf> {
        let mut moved = 0;
        for part in self.lookup(lba, blocks)? {
            let skip = part.start - lba.0;
            if part.value == Some(from.advance(skip)) {
                self.set(Lba(part.start), part.blocks, to.advance(skip), |_| {})?;
                moved += part.blocks;
            }
        }
        Ok(moved)
    }

    /// Returns what a run maps to, in order, without gap or overlap.
    ///
    /// # Errors
    /// [`LostLeaf`].
    pub fn lookup(&mut self, lba: Lba, blocks: u64) -> Result<Vec<Part<Location>>, LostLeaf> {
        let mut parts = Vec::new();
        for leaf in leaf_of(lba)..=leaf_of(lba.plus(blocks - 1)) {
            let range = within(leaf, lba, blocks);
            if self.slots.contains_key(&leaf) {
                self.with_leaf(leaf, |runs| {
                    parts.append(&mut runs.parts(range.start, range.blocks));
                    false
                })?;
            } else {
                parts.push(range);
            }
        }
        Ok(parts)
    }

    /// Returns the bytes of the leaves that changed since the last call, in order, and forgets that they did. One that has
    /// become empty comes without bytes.
    ///
    /// # Errors
    /// [`LostLeaf`].
    pub fn take_dirty(&mut self) -> Result<Vec<ChangedLeaf>, LostLeaf> {
        let leaves = std::mem::take(&mut self.dirty);
        let mut taken = Vec::with_capacity(leaves.len());
        for (leaf, ()) in leaves {
            if self.slots.contains_key(&leaf) {
                let mut bytes = Vec::new();
                self.with_leaf(leaf, |runs| {
                    bytes = encode_leaf(leaf, runs);
                    false
                })?;
                taken.push((leaf, Some(bytes)));
            } else {
                taken.push((leaf, None));
            }
        }
        Ok(taken)
    }

    /// Makes the next checkpoint hold a leaf, whether it changes or not.
    pub fn mark_dirty(&mut self, leaf: u32) {
        self.dirty.insert(leaf, ());
    }

    /// Puts a leaf of a checkpoint in place.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn install(&mut self, leaf: u32, bytes: &[u8]) -> Result<(), Flaw> {
        assert!(!self.slots.contains_key(&leaf), "leaf {leaf} twice");
        if self.runs_here + runs_of(bytes) > self.runs_max {
            // What does not fit is paged out as it came, without being looked at.
            let (number, sealed) = self.seal.seal(leaf, bytes);
            self.pages.store(leaf, &sealed);
            self.slots.insert(leaf, Slot::Paged { number });
            return Ok(());
        }
        let runs = decode_leaf(leaf, bytes)?;
        self.runs_here += runs.len();
        self.clock += 1;
        self.slots.insert(
            leaf,
            Slot::Here {
                runs,
                used: self.clock,
            },
        );
        Ok(())
    }

    /// Returns how many runs are held in memory.
    #[must_use]
    pub fn runs_in_memory(&self) -> usize {
        self.runs_here
    }

    /// Hands every run to `see`, in order.
    ///
    /// # Errors
    /// [`LostLeaf`].
    pub fn for_each(&mut self, mut see: impl FnMut(Part<Location>)) -> Result<(), LostLeaf> {
        let leaves: Vec<u32> = self.slots.keys().copied().collect();
        for leaf in leaves {
            self.with_leaf(leaf, |runs| {
                runs.iter().for_each(&mut see);
                false
            })?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        lba: Lba,
        blocks: u64,
        mut change: impl FnMut(&mut RunMap<Location>, Part<Location>),
    ) -> Result<(), LostLeaf> {
        for leaf in leaf_of(lba)..=leaf_of(lba.plus(blocks - 1)) {
            let part = within(leaf, lba, blocks);
            self.with_leaf(leaf, |runs| {
                change(runs, part);
                true
            })?;
        }
        Ok(())
    }

    /// Works on a leaf in memory; `work` says whether it changed it.
    fn with_leaf(
        &mut self,
        leaf: u32,
        work: impl FnOnce(&mut RunMap<Location>) -> bool,
    ) -> Result<(), LostLeaf> {
        if let Some(Slot::Paged { number }) = self.slots.get(&leaf) {
            let lost = |why: String| LostLeaf { leaf, why };
            let sealed = self.pages.load(leaf).map_err(|error| lost(error.to_string()))?;
            let opened = self.seal.open(leaf, *number, &sealed);
            let bytes = opened.map_err(|flaw| lost(flaw.to_string()))?;
            let runs = decode_leaf(leaf, &bytes).map_err(|flaw| lost(flaw.to_string()))?;
            self.runs_here += runs.len();
            self.slots.insert(leaf, Slot::Here { runs, used: 0 });
        }
        let slot = self.slots.entry(leaf).or_insert_with(|| Slot::Here {
            runs: RunMap::default(),
            used: 0,
        });
        let Slot::Here { runs, used } = slot else {
            unreachable!("leaf {leaf} was just loaded")
        };
        self.clock += 1;
        *used = self.clock;
        let before = runs.len();
        if work(runs) {
            self.dirty.insert(leaf, ());
        }
        let after = runs.len();
        self.runs_here = self.runs_here + after - before;
        if after == 0 {
            self.slots.remove(&leaf);
        }
        self.shrink(leaf);
        Ok(())
    }

    /// Pages leaves out until the runs in memory are few enough, the one in use excepted.
    fn shrink(&mut self, keep: u32) {
        while self.runs_here > self.runs_max {
            let oldest = self
                .slots
                .iter()
                .filter_map(|(leaf, slot)| match slot {
                    Slot::Here { used, .. } if *leaf != keep => Some((*used, *leaf)),
                    Slot::Here { .. } | Slot::Paged { .. } => None,
                })
                .min();
            let Some((_, leaf)) = oldest else {
                return;
            };
            if let Some(Slot::Here { runs, .. }) = self.slots.remove(&leaf) {
                self.runs_here -= runs.len();
                let (number, sealed) = self.seal.seal(leaf, &encode_leaf(leaf, &runs));
                self.pages.store(leaf, &sealed);
                self.slots.insert(leaf, Slot::Paged { number });
            }
        }
    }
}

/// The part of a run that lies in a leaf.
fn within(leaf: u32, lba: Lba, blocks: u64) -> Part<Location> {
    let begin = u64::from(leaf) * LEAF_BLOCKS;
    let start = lba.0.max(begin);
    let end = (lba.0 + blocks).min(begin + LEAF_BLOCKS);
    Part {
        start,
        blocks: end - start,
        value: None,
    }
}

#[cfg(test)]
mod tests;
