//! PURE. Loading a checkpoint: its front, then its leaves, some at a time.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::OpenError;
use crate::checkpoint::Checkpoint;
use crate::extent_map::{ExtentMap, PageStore};
use crate::head::CheckpointRef;
use crate::objects::{ObjectName, Role};
use crate::{DiskId, Flaw, LeafRef, Lineage, ObjectSeq};

/// Bytes of leaves asked for at a time: what an opening holds in memory besides the map.
const BATCH_BYTES: u64 = 8 << 20;
/// How often something is asked for that does not open, before it is called damaged: the way from the store may be at fault.
const ATTEMPTS: u32 = 3;

/// A part of an object that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPart {
    /// Whose object it is: this disk's, or one's that it was forked from.
    pub disk: DiskId,
    /// Which object.
    pub name: ObjectName,
    /// Which of its bytes; a range past the end is cut off there.
    pub range: Range<u64>,
}

/// Parts that are wanted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedParts {
    /// Which.
    pub parts: Vec<WantedPart>,
    /// Whether they must come from the store itself: what came before, perhaps from a copy on this host, did not open.
    pub fresh: bool,
}

/// Counts how often something was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Says whether to ask once more after a flaw, or passes it on.
    pub(super) fn again(&mut self, why: OpenError) -> Result<(), OpenError> {
        self.0 += 1;
        if self.0 < ATTEMPTS
            && matches!(
                why,
                OpenError::ObjectDamaged { .. } | OpenError::ObjectMissing { .. }
            )
        {
            Ok(())
        } else {
            Err(why)
        }
    }

    pub(super) fn fresh(self) -> bool {
        self.0 > 0
    }
}

/// Reads the front of a checkpoint.
pub(crate) fn open_front(
    lineage: &Lineage,
    reference: &CheckpointRef,
    got: Option<Bytes>,
) -> Result<Checkpoint, OpenError> {
    let name = reference.name();
    let key = || name.key(lineage.home(name.seq));
    let bytes = got.ok_or_else(|| OpenError::ObjectMissing { key: key() })?;
    let damaged = |flaw| OpenError::ObjectDamaged { key: key(), flaw };
    let mut checkpoint = Checkpoint::open(lineage.sealer(name.seq), &bytes).map_err(damaged)?;
    let header = checkpoint.header;
    if header.number != reference.number || header.seq != reference.seq || header.epoch != reference.epoch {
        return Err(damaged(Flaw::Elsewhere));
    }
    checkpoint.objects.inherit(lineage.inherited());
    Ok(checkpoint)
}

/// The front of a checkpoint, as a part to ask for.
pub(crate) fn front_part(lineage: &Lineage, reference: &CheckpointRef) -> WantedPart {
    let name = reference.name();
    WantedPart {
        disk: lineage.home(name.seq),
        name,
        range: 0..reference.front_bytes,
    }
}

/// Leaves on their way into a map.
#[derive(Debug)]
pub(crate) struct LoadLeaves {
    left: VecDeque<(u32, LeafRef)>,
    batch: Vec<(u32, LeafRef)>,
    attempts: Attempts,
}

impl LoadLeaves {
    pub(crate) fn new(leaves: impl Iterator<Item = (u32, LeafRef)>) -> Self {
        Self {
            left: leaves.collect(),
            batch: Vec::new(),
            attempts: Attempts::default(),
        }
    }

    /// Returns what is to be read next; none when all is there.
    pub(crate) fn next(&mut self, lineage: &Lineage) -> Option<WantedParts> {
        let mut bytes = 0;
        while self.batch.is_empty() || bytes < BATCH_BYTES {
            let Some((leaf, place)) = self.left.pop_front() else {
                break;
            };
            bytes += u64::from(place.bytes);
            self.batch.push((leaf, place));
        }
        (!self.batch.is_empty()).then(|| self.ask(lineage))
    }

    fn ask(&self, lineage: &Lineage) -> WantedParts {
        let parts = self.batch.iter().map(|(_, place)| {
            let name = leaf_name(place);
            WantedPart {
                disk: lineage.home(name.seq),
                name,
                range: place.offset..place.offset + u64::from(place.bytes),
            }
        });
        WantedParts {
            parts: parts.collect(),
            fresh: self.attempts.fresh(),
        }
    }

    /// Takes in what was read and returns what is to be read next; none when all is there.
    pub(crate) fn got<S: PageStore>(
        &mut self,
        lineage: &Lineage,
        map: &mut ExtentMap<S>,
        got: Vec<Option<Bytes>>,
    ) -> Result<Option<WantedParts>, OpenError> {
        for (done, ((leaf, place), bytes)) in self.batch.iter().zip(got).enumerate() {
            if let Err(why) = install(lineage, map, *leaf, place, bytes) {
                if done > 0 {
                    self.attempts = Attempts::default();
                }
                self.attempts.again(why)?;
                self.batch.drain(..done);
                return Ok(Some(self.ask(lineage)));
            }
        }
        self.batch.clear();
        self.attempts = Attempts::default();
        Ok(self.next(lineage))
    }
}

fn leaf_name(place: &LeafRef) -> ObjectName {
    ObjectName {
        role: Role::Checkpoint,
        seq: place.object,
        epoch: place.epoch,
    }
}

fn install<S: PageStore>(
    lineage: &Lineage,
    map: &mut ExtentMap<S>,
    leaf: u32,
    place: &LeafRef,
    bytes: Option<Bytes>,
) -> Result<(), OpenError> {
    let name = leaf_name(place);
    let key = || name.key(lineage.home(name.seq));
    let bytes = bytes.ok_or_else(|| OpenError::ObjectMissing { key: key() })?;
    let damaged = |flaw| OpenError::ObjectDamaged { key: key(), flaw };
    let plain = Checkpoint::open_leaf(lineage.sealer(place.object), leaf, place, &bytes).map_err(damaged)?;
    map.install(leaf, &plain).map_err(damaged)
}

impl CheckpointRef {
    /// Returns the name of the checkpoint's object.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        ObjectName {
            role: Role::Checkpoint,
            seq: self.seq,
            epoch: self.epoch,
        }
    }
}

/// Returns the highest seq of some names, 0 for none.
pub(super) fn highest(names: &[ObjectName]) -> ObjectSeq {
    names.iter().map(|name| name.seq).max().unwrap_or_default()
}
