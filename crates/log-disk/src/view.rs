//! PURE. Looking at a snapshot: its map, read-only; nothing is claimed, and there is no journal.
//!
//! Nobody may remove the snapshot meanwhile, or a pin is put as for a fork.

use std::sync::Arc;

use crate::bucket::{BucketAnswer, BucketAsk, BucketStep};
use crate::checkpoint::Checkpoint;
use crate::extent_map::{ExtentMap, LostLeaf, PageSeal, PageStore};
use crate::head::Snapshot;
use crate::open::{LoadLeaves, WantedParts, front_part, open_front};
use crate::{Epoch, Lba, Lineage, ObjectName, ObjectSeq, Objects, OpenError, ReadPart, Salt, Source};

/// How often a front is asked for that does not open.
const ATTEMPTS: u32 = 3;

/// A snapshot that is being opened.
#[derive(Debug)]
pub struct Viewing<S> {
    lineage: Lineage,
    snapshot: Snapshot,
    map: Option<ExtentMap<S>>,
    attempts: u32,
    leaves: Option<(Checkpoint, LoadLeaves)>,
}

/// An open snapshot.
#[derive(Debug)]
pub struct SnapshotView<S> {
    lineage: Lineage,
    size_blocks: u64,
    map: ExtentMap<S>,
    objects: Objects,
}

impl<S: PageStore> Viewing<S> {
    /// Begins; the first [`BucketAsk`] comes with it. At most `runs_max` runs of the map stay in memory, the others in `pages`,
    /// sealed with `salt`, which is drawn for this.
    pub fn new(
        lineage: Lineage,
        snapshot: Snapshot,
        salt: Salt,
        pages: S,
        runs_max: usize,
    ) -> (Self, BucketAsk) {
        // Epochs begin with 1.
        let seal = PageSeal::new(Arc::clone(lineage.own()), salt, Epoch(0));
        let viewing = Self {
            map: Some(ExtentMap::new(pages, seal, runs_max)),
            lineage,
            snapshot,
            attempts: 0,
            leaves: None,
        };
        let ask = viewing.ask_for_front();
        (viewing, ask)
    }

    fn ask_for_front(&self) -> BucketAsk {
        BucketAsk::Get(WantedParts {
            parts: vec![front_part(&self.lineage, &self.snapshot.checkpoint)],
            fresh: self.attempts > 0,
        })
    }

    /// Takes an answer in and returns what is to be done next, or the open snapshot.
    ///
    /// # Errors
    /// [`OpenError`] when an object is missing or damaged.
    ///
    /// # Panics
    /// When it is no answer to what was asked.
    pub fn answer(&mut self, answer: BucketAnswer) -> Result<BucketStep<SnapshotView<S>>, OpenError> {
        let (BucketAnswer::Got(got), Some(map)) = (answer, &mut self.map) else {
            panic!("not what was asked for")
        };
        let wanted = if let Some((_, leaves)) = &mut self.leaves {
            leaves.got(&self.lineage, map, got)?
        } else {
            let front = got.into_iter().next().flatten();
            let front = match open_front(&self.lineage, &self.snapshot.checkpoint, front) {
                Ok(front) => front,
                Err(why) => {
                    self.attempts += 1;
                    if self.attempts == ATTEMPTS {
                        return Err(why);
                    }
                    return Ok(BucketStep::Ask(self.ask_for_front()));
                }
            };
            let mut leaves = LoadLeaves::new(front.leaves.iter().map(|(leaf, place)| (*leaf, *place)));
            let wanted = leaves.next(&self.lineage);
            self.leaves = Some((front, leaves));
            wanted
        };
        match (wanted, self.map.take(), self.leaves.take()) {
            (Some(parts), map, leaves) => {
                (self.map, self.leaves) = (map, leaves);
                Ok(BucketStep::Ask(BucketAsk::Get(parts)))
            }
            (None, Some(map), Some((front, _))) => Ok(BucketStep::Over(SnapshotView {
                lineage: self.lineage.clone(),
                size_blocks: self.snapshot.size_blocks,
                map,
                objects: front.objects,
            })),
            (None, ..) => unreachable!("both were just there"),
        }
    }
}

impl<S: PageStore> SnapshotView<S> {
    /// Returns the size in blocks.
    #[must_use]
    pub fn size_blocks(&self) -> u64 {
        self.size_blocks
    }

    /// Returns where blocks lie, in order, without gap or overlap; never in a journal.
    ///
    /// # Errors
    /// [`LostLeaf`]: opening anew helps.
    pub fn parts(&mut self, lba: Lba, blocks: u64) -> Result<Vec<ReadPart>, LostLeaf> {
        let parts = self.map.lookup(lba, blocks)?;
        let parts = parts.into_iter().map(|part| ReadPart {
            lba: Lba(part.start),
            blocks: part.blocks,
            source: part.value.map(|location| Source::Object {
                object: location.object,
                at: location.at,
            }),
        });
        Ok(parts.collect())
    }

    /// Returns the name of an object that it refers to.
    #[must_use]
    pub fn object_name(&self, object: ObjectSeq) -> Option<ObjectName> {
        self.objects.name(object)
    }

    /// Returns the keys by object.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }
}
