//! PURE. The ring's room: what is written where, what is still needed, what the superblock says.

use std::collections::VecDeque;

use super::{Engine, Output};
use crate::extent_map::PageStore;
use crate::{Epoch, Seq, Superblock, Time};

/// How long the superblock may not know what is durable, in microseconds: damage at the journal's very end is told from a torn
/// end by it alone.
const SUPERBLOCK_AGE_MAX_US: u64 = 1_000_000;

/// One record that lies in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) seq: Seq,
    pub(crate) position: u64,
    pub(crate) end: u64,
    /// CRC of the record before it.
    pub(crate) previous_crc: u32,
    pub(crate) epoch: Epoch,
    /// When it was accepted, for the lag.
    pub(crate) since: Time,
}

/// The ring from the oldest record that is kept to the newest.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) spans: VecDeque<Span>,
    /// Where the next record goes, its number, and what it says of its predecessor.
    pub(crate) next_position: u64,
    pub(crate) next_seq: Seq,
    pub(crate) last_crc: u32,
    /// What stands on the disk.
    pub(crate) superblock: Superblock,
    /// When it was last asked for.
    pub(crate) superblock_since: Time,
    /// What is being written there.
    pub(crate) writing: Option<Superblock>,
}

impl Ring {
    /// Pages that a record may take now: those behind the tail that the disk knows of.
    pub(crate) fn free_pages(&self) -> u64 {
        self.superblock.ring_pages - (self.next_position - self.superblock.tail_position)
    }

    /// Pages from the next position to the end of the ring.
    pub(crate) fn pages_to_end(&self) -> u64 {
        self.superblock.ring_pages - self.next_position % self.superblock.ring_pages
    }

    /// Thousandths of the ring that hold what is still needed.
    pub(crate) fn fill_permille(&self) -> u64 {
        (self.next_position - self.tail_position()) * 1000 / self.superblock.ring_pages
    }

    pub(crate) fn tail_position(&self) -> u64 {
        self.spans
            .front()
            .map_or(self.next_position, |span| span.position)
    }

    pub(crate) fn superblock_written(&mut self) {
        if let Some(written) = self.writing.take() {
            self.superblock = written;
        }
    }

    /// Forgets records up to `seq`, those excepted that begin at `pinned` or later.
    fn trim(&mut self, seq: Seq, pinned: u64) {
        while self
            .spans
            .front()
            .is_some_and(|span| span.seq <= seq && span.end <= pinned)
        {
            self.spans.pop_front();
        }
    }

    /// The superblock that would say what holds now.
    fn superblock_now(&self, durable_seq: Seq) -> Superblock {
        let (tail_position, tail_seq, tail_crc, tail_epoch) = self.spans.front().map_or(
            (
                self.next_position,
                self.next_seq,
                self.last_crc,
                self.superblock.epoch,
            ),
            |span| (span.position, span.seq, span.previous_crc, span.epoch),
        );
        Superblock {
            revision: self.superblock.revision + 1,
            tail_position,
            tail_seq,
            tail_crc,
            tail_epoch,
            durable_seq: durable_seq.max(self.superblock.durable_seq),
            ..self.superblock
        }
    }
}

impl<S: PageStore> Engine<S> {
    /// Gives up records that the store has, and tells the disk so before their room is used again.
    pub(super) fn advance_ring(&mut self, out: &mut Vec<Output>) {
        let pinned = self.reads.values().filter_map(|read| read.journal_from).min();
        let reading = self.uploads_read_from();
        let pinned = [pinned, reading].into_iter().flatten().min().unwrap_or(u64::MAX);
        self.ring.trim(self.trimmable_seq(), pinned);
        if self.ring.writing.is_some() {
            return;
        }
        let gained = self.ring.tail_position() - self.ring.superblock.tail_position;
        let needed = self.wants_room() && gained > 0;
        let old = self.superblock_due().is_some_and(|at| at <= self.now);
        if needed || old || gained * 8 >= self.ring.superblock.ring_pages {
            self.ring.superblock_since = self.now;
            let superblock = self.ring.superblock_now(self.synced_seq);
            self.ring.writing = Some(superblock);
            out.push(Output::WriteSuperblock { superblock });
        }
    }

    /// When the superblock is to learn what is durable by now.
    pub(super) fn superblock_due(&self) -> Option<Time> {
        let knows = self.ring.superblock.durable_seq >= self.synced_seq || self.ring.writing.is_some();
        (!knows).then(|| self.ring.superblock_since.plus(SUPERBLOCK_AGE_MAX_US))
    }
}
