//! The map of a checkpoint, and whether what it says is so.

use std::collections::BTreeMap;

use log_disk::{Checkpoint, Lba, LeafRef, Location, ObjectName, ObjectSeq, Role, decode_leaf};

use super::Check;
use crate::{BucketError, What};

/// A run of blocks and where it lies.
struct Run {
    lba: u64,
    blocks: u64,
    location: Location,
}

impl Check<'_> {
    /// Checks the leaves of a checkpoint, and that each run is where it is said to be.
    pub(super) fn map(&mut self, checkpoint: &Checkpoint, newest: bool) -> Result<(), BucketError> {
        let mut live: BTreeMap<ObjectSeq, u64> = BTreeMap::new();
        let mut whole = true;
        for (leaf, place) in &checkpoint.leaves {
            let Some(runs) = self.leaf(*leaf, place)? else {
                whole = false;
                continue;
            };
            for run in runs {
                *live.entry(run.location.object).or_default() += run.blocks;
                self.run_of_blocks(checkpoint, &run)?;
            }
        }
        if !newest {
            return Ok(());
        }
        self.checked.mapped_blocks += live.values().sum::<u64>();
        // A table that counts leaves that cannot be read is not to blame.
        if !whole {
            return Ok(());
        }
        for (seq, facts) in checkpoint
            .objects
            .iter()
            .filter(|(_, facts)| facts.role != Role::Checkpoint)
        {
            let map = live.get(&seq).copied().unwrap_or_default();
            if map != facts.live
                && let Some(name) = checkpoint.objects.name(seq)
            {
                let table = facts.live;
                self.found(name, What::LiveBlocks { table, map });
            }
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: u32, place: &LeafRef) -> Result<Option<Vec<Run>>, BucketError> {
        let name = ObjectName {
            role: Role::Checkpoint,
            seq: place.object,
            epoch: place.epoch,
        };
        self.needed.insert(name);
        let range = place.offset..place.offset + u64::from(place.bytes);
        let Some(bytes) = self.get(name, range)? else {
            self.found(name, What::Missing);
            return Ok(None);
        };
        let runs = Checkpoint::open_leaf(self.sealer, leaf, place, &bytes)
            .and_then(|plain| decode_leaf(leaf, &plain));
        match runs {
            Ok(runs) => Ok(Some(
                runs.iter()
                    .filter_map(|part| {
                        Some(Run {
                            lba: part.start,
                            blocks: part.blocks,
                            location: part.value?,
                        })
                    })
                    .collect(),
            )),
            Err(flaw) => {
                self.found(name, What::Leaf { leaf, flaw });
                Ok(None)
            }
        }
    }

    fn run_of_blocks(&mut self, checkpoint: &Checkpoint, run: &Run) -> Result<(), BucketError> {
        let seq = run.location.object;
        let misplaced = What::Misplaced {
            lba: run.lba,
            blocks: run.blocks,
        };
        let (Some(name), Some(facts)) = (checkpoint.objects.name(seq), checkpoint.objects.get(seq)) else {
            let name = ObjectName {
                role: Role::Checkpoint,
                seq: checkpoint.header.seq,
                epoch: checkpoint.header.epoch,
            };
            self.found(name, misplaced);
            return Ok(());
        };
        if !self.is_there(name, facts.bytes) {
            return Ok(());
        }
        let Some(layout) = self.layout(name)? else {
            return Ok(());
        };
        let there = layout.reads(Lba(run.lba), run.location.at, run.blocks);
        if there.is_err() {
            self.found(name, misplaced);
        }
        Ok(())
    }
}
