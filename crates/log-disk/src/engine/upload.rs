//! PURE. Uploads: batches become objects, several at a time, and count in their order only.

use bytes::Bytes;

use super::timers::Wake;
use super::{Durability, Engine, Mutant, Output, PutOutcome, SealJob, Stopped};
use crate::extent_map::{LostLeaf, PageStore};
use crate::objects::{ObjectFacts, ObjectName, Role};
use crate::{
    Extent, Layout, Location, ObjectHeader, ObjectKind, ObjectSeq, SealedObject, Seq, Source, ToSeal,
};

/// A data object on its way.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) seq: ObjectSeq,
    journal_seq: Seq,
    bytes: u64,
    /// Where the oldest record that it needs begins, until it is sealed.
    reads_from: Option<u64>,
    state: UploadState,
    attempts: u32,
}

#[derive(Debug)]
enum UploadState {
    Sealing,
    Putting { layout: Layout, body: Bytes },
    Stored { layout: Layout },
}

/// Where the oldest record lies that runs are read from.
pub(super) fn reads_from(runs: &[ToSeal]) -> Option<u64> {
    let sources = runs.iter().flat_map(|run| &run.sources);
    sources
        .filter_map(|run| match run.source {
            Source::Journal { position, .. } => Some(position),
            Source::Object { .. } => None,
        })
        .min()
}

impl<S: PageStore> Engine<S> {
    /// Closes the batch when it is full, old, or waited for, and lets finished uploads count.
    pub(super) fn advance_uploads(&mut self, out: &mut Vec<Output>) -> Result<(), LostLeaf> {
        while !self.batch.is_empty() && self.uploads.len() < self.config.uploads_max && self.batch_is_due() {
            self.close_batch(out);
        }
        if self.is(Mutant::TrimOverGap) {
            let stored = |upload: &Upload| matches!(upload.state, UploadState::Stored { .. });
            if let Some(at) = self.uploads.iter().rposition(stored) {
                // What lies before the last one stored is taken for stored, too.
                self.durable_seq = self.durable_seq.max(self.uploads[at].journal_seq);
                self.covered_seq = self.durable_seq;
            }
        }
        while let Some(Upload {
            state: UploadState::Stored { .. },
            ..
        }) = self.uploads.front()
        {
            if let Some(upload) = self.uploads.pop_front()
                && let UploadState::Stored { layout } = upload.state
            {
                self.count_object(&layout)?;
                self.durable_seq = self.durable_seq.max(upload.journal_seq);
                self.covered_seq = self.durable_seq;
                self.drain.count(self.now, upload.bytes);
            }
        }
        if self.uploads.is_empty() && self.batch.is_empty() && self.durable_seq < self.applied_seq {
            // What is left are pads: a process that died behind one leaves it at the end. Nothing waits for them, but the journal
            // keeps them until an object covers them, or its beginning would seem to miss them.
            self.durable_seq = self.applied_seq;
            let _nothing = self.take_batch();
        }
        Ok(())
    }

    fn batch_is_due(&self) -> bool {
        let full = self.batch.data_blocks() >= self.config.object_blocks
            || self.batch.runs() as u64 >= self.config.object_blocks;
        let old = self
            .batch_since
            .is_some_and(|since| self.now >= since.plus(self.config.batch_us));
        let uploaded = self
            .uploads
            .back()
            .map_or(self.durable_seq, |upload| upload.journal_seq);
        let waited = self
            .flushes
            .iter()
            .any(|flush| flush.class == Durability::Remote && flush.seq > uploaded)
            || self.snapshot_wishes.iter().any(|wish| wish.seq > uploaded);
        full || old || waited || self.wants_room()
    }

    fn close_batch(&mut self, out: &mut Vec<Output>) {
        let batch = self.take_batch();
        let seq = self.take_object_seq();
        let previous = self.uploads.back().map_or(self.data_seq, |upload| upload.seq);
        let runs = batch.to_seal();
        let header = ObjectHeader {
            kind: ObjectKind::Data,
            disk: self.sealer.disk(),
            epoch: self.epoch,
            seq,
            previous,
            journal_seq: batch.journal_seq,
            size_blocks: self.head.size_blocks,
            salt: self.salt,
            wrapped_key: self.head.wrapped_key.clone(),
        };
        self.uploads.push_back(Upload {
            seq,
            journal_seq: batch.journal_seq,
            bytes: batch.bytes,
            reads_from: reads_from(&runs),
            state: UploadState::Sealing,
            attempts: 0,
        });
        out.push(Output::Seal(SealJob {
            header,
            runs,
            compression: self.config.compression,
        }));
    }

    /// Where the oldest record lies that an upload still reads.
    pub(super) fn uploads_read_from(&self) -> Option<u64> {
        self.uploads.iter().filter_map(|upload| upload.reads_from).min()
    }

    /// The last record that the ring need not keep.
    pub(super) fn trimmable_seq(&self) -> Seq {
        self.covered_seq
    }

    pub(super) fn sealed(&mut self, seq: ObjectSeq, object: Option<SealedObject>, out: &mut Vec<Output>) {
        if self.collection.is_sealing(seq) {
            self.collected(object, out);
            return;
        }
        let epoch = self.epoch;
        let Some(upload) = self.uploads.iter_mut().find(|upload| upload.seq == seq) else {
            panic!("object {seq} was not being sealed")
        };
        let Some(SealedObject { body, layout }) = object else {
            self.stop(Stopped::Unreadable { object: seq }, out);
            return;
        };
        upload.reads_from = None;
        upload.state = UploadState::Putting {
            layout,
            body: body.clone(),
        };
        let name = ObjectName {
            role: Role::Data,
            seq,
            epoch,
        };
        out.push(Output::Put { name, body });
    }

    pub(super) fn put(
        &mut self,
        name: ObjectName,
        outcome: PutOutcome,
        out: &mut Vec<Output>,
    ) -> Result<(), LostLeaf> {
        match outcome {
            PutOutcome::Taken => self.stop(Stopped::Twin, out),
            PutOutcome::Unknown => {
                let attempts = self.count_attempt(name);
                self.timers.retry(self.now, attempts, Wake::Put(name));
            }
            PutOutcome::Stored => match name.role {
                Role::Data => {
                    if let Some(upload) = self.uploads.iter_mut().find(|upload| upload.seq == name.seq)
                        && let UploadState::Putting { layout, .. } = &upload.state
                    {
                        upload.state = UploadState::Stored {
                            layout: layout.clone(),
                        };
                    }
                }
                Role::Gc => return self.switch(name),
                Role::Checkpoint => self.checkpoint_stored(name),
            },
        }
        Ok(())
    }

    fn count_attempt(&mut self, name: ObjectName) -> u32 {
        let attempts = match name.role {
            Role::Data => self
                .uploads
                .iter_mut()
                .find(|upload| upload.seq == name.seq)
                .map(|upload| &mut upload.attempts),
            Role::Gc => self.collection.attempts(),
            Role::Checkpoint => self
                .checkpoint
                .as_mut()
                .map(|checkpoint| &mut checkpoint.attempts),
        };
        attempts.map_or(0, |attempts| {
            *attempts += 1;
            *attempts
        })
    }

    pub(super) fn put_again(&mut self, name: ObjectName, out: &mut Vec<Output>) {
        let body = match name.role {
            Role::Data => self
                .uploads
                .iter()
                .find(|upload| upload.seq == name.seq)
                .and_then(|upload| {
                    if let UploadState::Putting { body, .. } = &upload.state {
                        Some(body.clone())
                    } else {
                        None
                    }
                }),
            Role::Gc => self.collection.body(name),
            Role::Checkpoint => self.checkpoint.as_ref().map(|checkpoint| checkpoint.body.clone()),
        };
        if let Some(body) = body {
            out.push(Output::Put { name, body });
        }
    }

    /// Lets an object count: everything before it is in the store.
    fn count_object(&mut self, layout: &Layout) -> Result<(), LostLeaf> {
        let header = &layout.header;
        assert!(
            header.previous == self.data_seq,
            "object {} after {}",
            header.seq,
            self.data_seq
        );
        let born = self.next_checkpoint;
        apply_object(layout, born, &mut self.map, &mut self.objects)?;
        self.data_seq = header.seq;
        self.written.data_bytes += layout.total_bytes;
        self.objects_since_checkpoint += 1;
        self.collection_due = true;
        let covered = header.journal_seq;
        for Extent { lba, blocks, .. } in &layout.extents {
            for part in self.journaled.parts(lba.0, *blocks) {
                if part.value.is_some_and(|value| value.seq <= covered) {
                    self.journaled.clear(part.start, part.blocks, |_| {});
                }
            }
        }
        Ok(())
    }
}

/// Puts a data object's extents into the map, and the object into the table.
pub(crate) fn apply_object<S: PageStore>(
    layout: &Layout,
    born: u64,
    map: &mut crate::ExtentMap<S>,
    objects: &mut crate::Objects,
) -> Result<(), LostLeaf> {
    let object = layout.header.seq;
    let blocks = layout.data_blocks();
    objects.add(
        object,
        ObjectFacts {
            role: Role::Data,
            epoch: layout.header.epoch,
            bytes: layout.total_bytes,
            blocks,
            live: blocks,
            born,
            dead: 0,
        },
    );
    for extent in &layout.extents {
        let release = |part: crate::Part<Location>| {
            if let Some(location) = part.value {
                objects.release(location.object, part.blocks);
            }
        };
        if extent.is_zero() {
            map.clear(extent.lba, extent.blocks, release)?;
        } else {
            let at = extent.at;
            map.set(extent.lba, extent.blocks, Location { object, at }, release)?;
        }
    }
    Ok(())
}
