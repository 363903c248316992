//! PURE. Garbage collection, one object at a time.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::timers::Wake;
use super::{Engine, Mutant, Output, SealJob};
use crate::extent_map::{LostLeaf, PageStore};
use crate::gc_plan::{Move, choose_victims, is_burial_due, what_is_left};
use crate::objects::{ObjectFacts, ObjectName, Role};
use crate::{Layout, Location, ObjectHeader, ObjectKind, ObjectSeq, SealedObject, Seq};

/// How far a collection is.
#[derive(Debug)]
pub(super) enum Collection {
    Idle,
    /// The fronts of the victims are being read.
    Looking {
        wanted: BTreeSet<ObjectSeq>,
        found: Vec<Layout>,
        attempts: u32,
    },
    /// What is left of them is being put together.
    Sealing {
        seq: ObjectSeq,
        victims: Vec<ObjectSeq>,
        moves: Vec<Move>,
    },
    /// It is being put.
    Putting {
        name: ObjectName,
        moves: Vec<Move>,
        body: Bytes,
        layout: Layout,
        attempts: u32,
    },
}

impl Collection {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    pub(super) fn is_sealing(&self, object: ObjectSeq) -> bool {
        matches!(self, Self::Sealing { seq, .. } if *seq == object)
    }

    /// Says whether an object is being made.
    pub(super) fn makes(&self, object: ObjectSeq) -> bool {
        match self {
            Self::Sealing { seq, .. } => *seq == object,
            Self::Putting { name, .. } => name.seq == object,
            Self::Idle | Self::Looking { .. } => false,
        }
    }

    pub(super) fn attempts(&mut self) -> Option<&mut u32> {
        match self {
            Self::Putting { attempts, .. } => Some(attempts),
            Self::Idle | Self::Looking { .. } | Self::Sealing { .. } => None,
        }
    }

    pub(super) fn body(&self, wanted: ObjectName) -> Option<Bytes> {
        match self {
            Self::Putting { name, body, .. } if *name == wanted => Some(body.clone()),
            Self::Putting { .. } | Self::Idle | Self::Looking { .. } | Self::Sealing { .. } => None,
        }
    }

    /// Says whether an object is being read from.
    pub(super) fn reads(&self, object: ObjectSeq) -> bool {
        match self {
            Self::Idle | Self::Putting { .. } => false,
            Self::Looking { wanted, found, .. } => {
                wanted.contains(&object) || found.iter().any(|layout| layout.header.seq == object)
            }
            Self::Sealing { victims, .. } => victims.contains(&object),
        }
    }
}

impl<S: PageStore> Engine<S> {
    /// Begins a collection when there is too much garbage and little else to do.
    pub(super) fn advance_collection(&mut self, out: &mut Vec<Output>) -> Result<(), LostLeaf> {
        let busy = self.uploads.len() * 2 > self.config.uploads_max
            || self.checkpoint_wanted
            || self.now < self.collection_not_before;
        if !self.collection_due || !self.collection.is_idle() || busy || self.checkpoint.is_some() {
            return Ok(());
        }
        let mut victims = choose_victims(&self.objects, self.config.gc);
        victims.retain(|victim| !self.unreadable.contains(victim));
        if victims.is_empty() {
            self.collection_due = false;
            self.checkpoint_wanted |= is_burial_due(&self.objects, self.config.gc);
            return Ok(());
        }
        for victim in &victims {
            self.ask_for_layout(*victim, out);
        }
        self.collection = Collection::Looking {
            wanted: victims.into_iter().collect(),
            found: Vec::new(),
            attempts: 0,
        };
        Ok(())
    }

    fn ask_for_layout(&self, object: ObjectSeq, out: &mut Vec<Output>) {
        let Some(name) = self.objects.name(object) else {
            panic!("object {object} is to be collected and not there")
        };
        out.push(Output::GetLayout { name });
    }

    pub(super) fn layout_again(&mut self, object: ObjectSeq, out: &mut Vec<Output>) {
        if matches!(&self.collection, Collection::Looking { wanted, .. } if wanted.contains(&object)) {
            self.ask_for_layout(object, out);
        }
    }

    pub(super) fn layout(
        &mut self,
        object: ObjectSeq,
        layout: Option<Layout>,
        out: &mut Vec<Output>,
    ) -> Result<(), LostLeaf> {
        let Collection::Looking {
            wanted,
            found,
            attempts,
        } = &mut self.collection
        else {
            return Ok(());
        };
        let Some(layout) = layout else {
            *attempts += 1;
            self.timers.retry(self.now, *attempts, Wake::Layout(object));
            return Ok(());
        };
        wanted.remove(&object);
        found.push(layout);
        if !wanted.is_empty() {
            return Ok(());
        }
        let found = std::mem::take(found);
        if self.is(Mutant::CollectAgainstFuture) {
            self.forget_what_is_newer(&found)?;
        }
        let (runs, moves) = what_is_left(&found, &mut self.map)?;
        let victims = found.iter().map(|layout| layout.header.seq).collect();
        if runs.is_empty() {
            // All of it died meanwhile.
            self.collection = Collection::Idle;
            return Ok(());
        }
        let seq = self.take_object_seq();
        let header = ObjectHeader {
            kind: ObjectKind::Gc,
            disk: self.sealer.disk(),
            epoch: self.epoch,
            seq,
            previous: ObjectSeq(0),
            journal_seq: Seq(0),
            size_blocks: 0,
            salt: self.salt,
            wrapped_key: self.head.wrapped_key.clone(),
        };
        if self.is(Mutant::SwitchBeforePut) {
            let name = ObjectName {
                role: Role::Gc,
                seq,
                epoch: self.epoch,
            };
            self.move_over(name, &moves, runs.iter().map(|run| run.blocks).sum(), 0)?;
        }
        self.collection = Collection::Sealing { seq, victims, moves };
        out.push(Output::Seal(SealJob {
            header,
            runs,
            compression: self.config.compression,
        }));
        Ok(())
    }

    /// See [`Mutant::CollectAgainstFuture`].
    fn forget_what_is_newer(&mut self, victims: &[Layout]) -> Result<(), LostLeaf> {
        for extent in victims.iter().flat_map(|layout| &layout.extents) {
            for part in self.journaled.parts(extent.lba.0, extent.blocks) {
                if part.value.is_some() {
                    let objects = &mut self.objects;
                    self.map.clear(crate::Lba(part.start), part.blocks, |gone| {
                        if let Some(location) = gone.value {
                            objects.release(location.object, gone.blocks);
                        }
                    })?;
                }
            }
        }
        Ok(())
    }

    /// What is left of the victims was put together, or could not be read.
    pub(super) fn collected(&mut self, object: Option<SealedObject>, out: &mut Vec<Output>) {
        let Collection::Sealing { seq, victims, moves } =
            std::mem::replace(&mut self.collection, Collection::Idle)
        else {
            unreachable!("the caller looked")
        };
        let Some(SealedObject { body, layout }) = object else {
            // Damaged or unreadable: they stay, a reader or the scrubber will name them.
            self.unreadable.extend(victims);
            return;
        };
        let name = ObjectName {
            role: Role::Gc,
            seq,
            epoch: self.epoch,
        };
        let micros = (body.len() as u64).saturating_mul(1_000_000);
        if let Some(micros) = micros.checked_div(self.config.gc_bytes_per_s) {
            self.collection_not_before = self.now.plus(micros);
        }
        out.push(Output::Put {
            name,
            body: body.clone(),
        });
        self.collection = Collection::Putting {
            name,
            moves,
            body,
            layout,
            attempts: 0,
        };
    }

    /// The new object is in the store: the map refers to it wherever it still referred to what was collected.
    pub(super) fn switch(&mut self, name: ObjectName) -> Result<(), LostLeaf> {
        let Collection::Putting {
            name: awaited,
            moves,
            layout,
            ..
        } = &self.collection
        else {
            return Ok(());
        };
        if *awaited != name {
            return Ok(());
        }
        let (moves, blocks, bytes) = (moves.clone(), layout.data_blocks(), layout.total_bytes);
        self.collection = Collection::Idle;
        self.written.gc_bytes += bytes;
        if !self.is(Mutant::SwitchBeforePut) {
            self.move_over(name, &moves, blocks, bytes)?;
        }
        // Room is won when a checkpoint says so.
        self.checkpoint_wanted = choose_victims(&self.objects, self.config.gc).is_empty()
            || self.objects_since_checkpoint >= self.config.checkpoint_objects;
        Ok(())
    }

    fn move_over(
        &mut self,
        name: ObjectName,
        moves: &[Move],
        blocks: u64,
        bytes: u64,
    ) -> Result<(), LostLeaf> {
        self.objects.add(
            name.seq,
            ObjectFacts {
                role: Role::Gc,
                epoch: name.epoch,
                bytes,
                blocks,
                live: 0,
                born: self.next_checkpoint,
                dead: 0,
            },
        );
        for Move {
            lba,
            blocks,
            from,
            at,
        } in moves.iter().copied()
        {
            let to = Location { object: name.seq, at };
            if self.is(Mutant::CollectOverNewer) {
                let objects = &mut self.objects;
                self.map.set(lba, blocks, to, |gone| {
                    if let Some(location) = gone.value {
                        objects.release(location.object, gone.blocks);
                    }
                })?;
                self.objects.retain(name.seq, blocks);
                continue;
            }
            let moved = self.map.relocate(lba, blocks, from, to)?;
            if moved > 0 {
                self.objects.retain(name.seq, moved);
                self.objects.release(from.object, moved);
            }
        }
        Ok(())
    }
}
