//! PURE. The end of an opening: the journal and HEAD learn of the new epoch, in an order that a crash cannot confuse.

use std::sync::Arc;

use super::steps::Step;
use super::{Ask, Opening};
use crate::engine::{Engine, Start};
use crate::extent_map::PageStore;
use crate::head::Stream;
use crate::{Epoch, ObjectSeq, Seq, Superblock};

impl<S: PageStore> Opening<S> {
    /// Says in the journal which epoch it is about to become, so that it is still known as ours when HEAD says so first.
    pub(super) fn adopt(&mut self) -> Ask<S> {
        let epoch = self.head().epoch;
        let superblock = match self.found.superblock.filter(|_| self.found.replays) {
            Some(superblock) => Superblock {
                revision: superblock.revision + 1,
                // What it was about to become when an earlier opening died, it may have become.
                epoch: self
                    .head()
                    .stream()
                    .map_or(superblock.epoch, |stream| stream.epoch),
                adopting: epoch,
                ..superblock
            },
            None => self.new_journal(),
        };
        self.found.superblock = Some(superblock);
        self.step = Step::Adopt;
        Ask::WriteSuperblock(superblock)
    }

    /// The superblock of a journal that is formatted now.
    fn new_journal(&self) -> Superblock {
        let former = self.found.superblock.as_ref();
        let epoch = self.head().epoch;
        Superblock {
            disk: self.options.sealer.disk(),
            journal: self.head().owner,
            revision: former.map_or(1, |superblock| superblock.revision + 1),
            ring_pages: self.options.ring_pages,
            epoch: Epoch(0),
            adopting: epoch,
            tail_position: 0,
            tail_seq: self.found.durable_seq.next(),
            tail_epoch: epoch,
            tail_crc: 0,
            durable_seq: self.found.durable_seq,
        }
    }

    /// Records in HEAD where the objects of the epochs before end, and that ours go on from there.
    pub(super) fn begin_stream(&mut self) -> Ask<S> {
        let mut wanted = self.head().clone();
        wanted.revision += 1;
        let stream = Stream {
            epoch: wanted.epoch,
            owner: wanted.owner,
            begin: self.found.highest.max(self.found.data_seq).next(),
            after: self.found.data_seq,
        };
        wanted.streams.push(stream);
        self.turn_head(&mut wanted);
        wanted.forget_covered_streams();
        self.found.wanted = Some(wanted);
        self.step = Step::Stream;
        self.swap()
    }

    /// The superblock with which the new epoch begins to write: from here on no record of an earlier one is taken for new.
    pub(super) fn first_superblock(&self) -> Superblock {
        // After a rollback nothing was written to the journal yet: what it held was not to be lost before HEAD had turned.
        let superblock = match self.found.superblock {
            Some(superblock) if self.found.turned_back.is_none() => superblock,
            Some(_) | None => self.new_journal(),
        };
        let (position, seq, crc) = self.ring_end();
        let first = self.found.records.first().map(|record| record.header);
        let tail = first.map_or((position, seq, crc, self.head().epoch), |first| {
            (first.position, first.seq, first.previous_crc, first.epoch)
        });
        Superblock {
            revision: superblock.revision + 1,
            epoch: self.head().epoch,
            adopting: Epoch(0),
            tail_position: tail.0,
            tail_seq: tail.1,
            tail_crc: tail.2,
            tail_epoch: tail.3,
            durable_seq: Seq(seq.0 - 1),
            ..superblock
        }
    }

    /// Where the next record goes, its seq, and its predecessor's CRC.
    fn ring_end(&self) -> (u64, Seq, u32) {
        let next = self.found.durable_seq.next();
        match self.found.ring_end {
            // The store may have more than the journal kept: it was uploaded before it was durable here.
            Some(end) => (end.position, end.seq.max(next), end.crc),
            None => (0, next, 0),
        }
    }

    pub(super) fn ready(&mut self, superblock: Superblock) -> Ask<S> {
        let (next_position, next_seq, last_crc) = self.ring_end();
        let (Some(head), Some(etag), Some(map)) =
            (self.found.head.take(), self.found.etag.take(), self.map.take())
        else {
            unreachable!("an opening has all of them at its end")
        };
        let begin = head.stream().map_or(ObjectSeq(1), |stream| stream.begin);
        Ask::Ready(Box::new(Engine::new(Start {
            config: self.options.config.clone(),
            sealer: Arc::clone(&self.options.sealer),
            lineage: self.lineage().clone(),
            salt: self.options.salt,
            now: self.found.now,
            head,
            etag,
            confirmed: self.found.asked,
            map,
            leaves: std::mem::take(&mut self.found.leaves),
            objects: std::mem::take(&mut self.found.objects),
            next_object: begin,
            data_seq: self.found.data_seq,
            durable_seq: self.found.durable_seq,
            objects_since_checkpoint: self.found.replayed_objects,
            superblock,
            records: std::mem::take(&mut self.found.records),
            next_position,
            next_seq,
            last_crc,
        })))
    }
}
