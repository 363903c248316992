//! PURE. Checkpoints, the snapshots that are made of them, and the deletions that wait for them.

use bytes::Bytes;

use super::authority::HeadChange;
use super::timers::Wake;
use super::{Engine, Mutant, Outcome, Output, RequestId};
use crate::checkpoint::{Checkpoint, CheckpointHeader};
use crate::extent_map::{LostLeaf, PageStore};
use crate::head::{CheckpointRef, SNAPSHOTS_MAX, Snapshot};
use crate::objects::{ObjectFacts, ObjectName, Role};
use crate::{LeafRef, ObjectSeq, Seq};

/// Most deletions under way.
const DELETES_MAX: usize = 64;

/// A checkpoint that is being put, or waits for HEAD to name it.
#[derive(Debug)]
pub(super) struct InFlightCheckpoint {
    name: ObjectName,
    pub(super) body: Bytes,
    reference: CheckpointRef,
    size_blocks: u64,
    /// Snapshots that it is made for.
    snapshots: Vec<SnapshotWish>,
    pub(super) attempts: u32,
}

/// A snapshot that waits for a checkpoint that holds everything up to `seq`.
#[derive(Debug)]
pub(super) struct SnapshotWish {
    pub(super) request: RequestId,
    name: String,
    pub(super) seq: Seq,
}

impl<S: PageStore> Engine<S> {
    pub(super) fn snapshot(&mut self, request: RequestId, name: String) {
        let taken = self.head.snapshots.iter().any(|snapshot| snapshot.name == name)
            || self.snapshot_wishes.iter().any(|wish| wish.name == name)
            || self
                .checkpoint
                .as_ref()
                .is_some_and(|checkpoint| checkpoint.snapshots.iter().any(|wish| wish.name == name));
        let many = self.head.snapshots.len() + self.snapshot_wishes.len() >= SNAPSHOTS_MAX;
        if taken || many || name.is_empty() || name.len() > 255 {
            self.finish(self.now, request, Outcome::Refused);
            return;
        }
        self.snapshot_wishes.push(SnapshotWish {
            request,
            name,
            seq: self.applied_seq,
        });
    }

    /// Takes a checkpoint when enough has changed or somebody waits for one.
    pub(super) fn advance_checkpoint(&mut self, out: &mut Vec<Output>) -> Result<(), LostLeaf> {
        let durable = self.durable_seq;
        let ready = self.snapshot_wishes.iter().any(|wish| wish.seq <= durable);
        let due = self.checkpoint_wanted || self.objects_since_checkpoint >= self.config.checkpoint_objects;
        if self.checkpoint.is_some() || !(ready || due) || self.head_is_busy() {
            return Ok(());
        }
        let snapshots = self
            .snapshot_wishes
            .extract_if(.., |wish| wish.seq <= durable)
            .collect();
        let (name, body, reference) = self.freeze()?;
        out.push(Output::Put {
            name,
            body: body.clone(),
        });
        self.checkpoint = Some(InFlightCheckpoint {
            name,
            body,
            reference,
            size_blocks: self.head.size_blocks,
            snapshots,
            attempts: 0,
        });
        self.checkpoint_wanted = false;
        self.objects_since_checkpoint = 0;
        Ok(())
    }

    /// Makes a checkpoint of what is in the store now: leaves that changed, places of the others, the table of objects.
    fn freeze(&mut self) -> Result<(ObjectName, Bytes, CheckpointRef), LostLeaf> {
        self.refresh_old_leaves();
        let number = self.next_checkpoint;
        self.next_checkpoint += 1;
        let seq = self.take_object_seq();
        let mut changed = Vec::new();
        for (leaf, bytes) in self.map.take_dirty()? {
            if let Some(old) = self.leaves.remove(&leaf) {
                self.objects.release(old.object, 1);
            }
            if let Some(bytes) = bytes {
                let place = LeafRef {
                    object: seq,
                    epoch: self.epoch,
                    offset: 0,
                    bytes: u32::try_from(Checkpoint::leaf_bytes(bytes.len())).unwrap_or(u32::MAX),
                };
                self.leaves.insert(leaf, place);
                changed.push((leaf, bytes));
            }
        }
        // A checkpoint is referred to by each of its leaves, and by HEAD.
        let newest = self
            .objects
            .iter()
            .filter(|(_, facts)| facts.role == Role::Checkpoint)
            .map(|(seq, _)| seq);
        if let Some(previous) = newest.last() {
            self.objects.release(previous, 1);
        }
        self.objects.bury(number);
        let blocks = changed.len() as u64 + 1;
        let objects = self.objects.iter().count() + 1;
        let mut offset = Checkpoint::front_bytes(self.leaves.len(), objects);
        for (leaf, bytes) in &changed {
            if let Some(place) = self.leaves.get_mut(leaf) {
                place.offset = offset;
            }
            offset += Checkpoint::leaf_bytes(bytes.len());
        }
        self.objects.add(
            seq,
            ObjectFacts {
                role: Role::Checkpoint,
                epoch: self.epoch,
                bytes: offset + 4,
                blocks,
                live: blocks,
                born: number,
                dead: 0,
            },
        );
        let checkpoint = Checkpoint {
            header: CheckpointHeader {
                disk: self.sealer.disk(),
                epoch: self.epoch,
                seq,
                number,
                data_seq: self.data_seq,
                journal_seq: self.durable_seq,
                salt: self.salt,
            },
            leaves: self.leaves.clone(),
            objects: self.objects.clone(),
        };
        let (body, reference) = checkpoint.encode(&self.sealer, &changed);
        let name = ObjectName {
            role: Role::Checkpoint,
            seq,
            epoch: self.epoch,
        };
        Ok((name, body, reference))
    }

    /// Has the leaves of checkpoints that hold few of them written anew, so that these can go.
    fn refresh_old_leaves(&mut self) {
        let sparse: Vec<ObjectSeq> = self
            .objects
            .own()
            .filter(|(_, facts)| {
                facts.role == Role::Checkpoint
                    && facts.dead == 0
                    && facts.live > 0
                    && facts.live * 2 < facts.blocks
            })
            .map(|(seq, _)| seq)
            .collect();
        for (leaf, place) in &self.leaves {
            if sparse.contains(&place.object) {
                self.map.mark_dirty(*leaf);
            }
        }
    }

    pub(super) fn checkpoint_stored(&mut self, name: ObjectName) {
        let Some(checkpoint) = self
            .checkpoint
            .as_mut()
            .filter(|checkpoint| checkpoint.name == name)
        else {
            return;
        };
        let wishes = std::mem::take(&mut checkpoint.snapshots);
        let (reference, size_blocks) = (checkpoint.reference, checkpoint.size_blocks);
        self.want_head(HeadChange::Checkpoint(reference), None);
        for wish in wishes {
            let snapshot = Snapshot {
                name: wish.name,
                size_blocks,
                checkpoint: reference,
            };
            self.want_head(HeadChange::AddSnapshot(snapshot), Some(wish.request));
        }
    }

    /// HEAD names the checkpoint: what it no longer refers to may go, once nobody reads it.
    pub(super) fn checkpoint_committed(&mut self, reference: CheckpointRef) {
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.reference == reference)
        {
            self.checkpoint = None;
            self.written.checkpoint_bytes += reference.total_bytes;
            self.collection_due = true;
        }
        self.dig_graves();
    }

    /// Finds what may be deleted by the checkpoint that HEAD names, the snapshots that it lists, and the pins of forks.
    pub(crate) fn dig_graves(&mut self) {
        let (Some(committed), Some(pins)) = (self.head.checkpoint, self.pins.known()) else {
            return;
        };
        let snapshots = self
            .head
            .snapshots
            .iter()
            .map(|snapshot| snapshot.checkpoint.number);
        let needed: Vec<u64> = snapshots.chain(pins.iter().copied()).collect();
        for name in self.objects.deletable(committed.number, &needed) {
            self.graves.entry(name).or_insert(self.next_read);
        }
    }

    pub(super) fn advance_deletions(&mut self, out: &mut Vec<Output>) {
        if self.is(Mutant::DeleteBeforeCommit) {
            let hasty: Vec<ObjectName> = self
                .objects
                .own()
                .filter(|(_, facts)| facts.live == 0 && facts.role != Role::Checkpoint)
                .filter_map(|(seq, _)| self.objects.name(seq))
                .collect();
            for name in hasty {
                self.graves.entry(name).or_insert(self.next_read);
            }
        }
        let room = DELETES_MAX.saturating_sub(self.deleting.len());
        if self.graves.is_empty() || room == 0 || !self.may_tell() {
            return;
        }
        let ready: Vec<ObjectName> = self
            .graves
            .iter()
            .filter(|(name, since)| {
                !self.deleting.contains(name)
                    && self.readers_are_gone(**since)
                    && !self.collection.reads(name.seq)
            })
            .take(room)
            .map(|(name, _)| *name)
            .collect();
        for name in ready {
            self.deleting.insert(name);
            out.push(Output::Delete { name });
        }
    }

    pub(super) fn deleted(&mut self, name: ObjectName, done: bool) {
        if done {
            self.deleting.remove(&name);
            self.graves.remove(&name);
            if self.objects.name(name.seq) == Some(name) {
                self.objects.remove(name.seq);
            }
        } else {
            self.timers.retry(self.now, 3, Wake::Delete(name));
        }
    }

    /// Buries what nothing refers to and nobody is about to: what former epochs left behind or uploaded too late, and puts of
    /// ours that arrived a second time after their object was deleted.
    pub(super) fn sweep(&mut self, names: &[ObjectName]) {
        // Forks may be gone by now.
        self.pins.look_again();
        for name in names {
            let known = self.objects.name(name.seq) == Some(*name);
            let on_its_way = name.epoch == self.epoch
                && (name.seq >= self.next_object
                    || self.uploads.iter().any(|upload| upload.seq == name.seq)
                    || self.collection.makes(name.seq)
                    || self
                        .checkpoint
                        .as_ref()
                        .is_some_and(|checkpoint| checkpoint.name == *name));
            if name.epoch <= self.epoch && !known && !on_its_way {
                self.graves.entry(*name).or_insert(self.next_read);
            }
        }
    }
}
