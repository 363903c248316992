//! The journal's way to the slice and back, by the ring.

use std::io;

use bytes::Bytes;
use log_disk::{Input, PAGE_BYTES, RECORD_BLOCKS_MAX, ReadId, SUPERBLOCK_PAGES, Seq, Superblock};

use super::{Driver, Tag};
use crate::disk::journal::{Place, span};
use crate::disk::sys::{Held, Pages, Uring};

/// Records being written at once, as the engine has them.
const APPENDS: u16 = 4;

/// Memory for what goes to the slice and comes from it.
#[derive(Debug)]
pub(super) struct JournalIo {
    /// Room for the longest record each, known to the ring.
    records: Vec<Pages>,
    /// One page.
    superblock: Option<Pages>,
}

/// Which part of a read of the journal a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    read: ReadId,
    place: Place,
    /// Where in the answer the blocks go.
    to: usize,
    /// The record's first page is being read, for it says where the rest is.
    first: bool,
}

impl JournalIo {
    pub(super) fn new(ring: &mut Uring<Tag>) -> Self {
        let pages = 1 + usize::try_from(RECORD_BLOCKS_MAX).unwrap_or(usize::MAX);
        let mut records = ring.registered(APPENDS, pages);
        records.reverse();
        Self {
            records,
            superblock: Some(Pages::new(1)),
        }
    }
}

impl Driver {
    /// Writes a record.
    pub(super) fn append(&mut self, seq: Seq, position: u64, bytes: Bytes) {
        let room = self.journal_io.records.pop();
        let mut room = room.unwrap_or_else(|| Pages::new(bytes.len() / PAGE_BYTES));
        room.as_bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        let (len, offset) = (bytes.len(), self.slice.ring_offset(position));
        self.metrics.journaled(len);
        self.sealing.journal.keep(position, bytes);
        self.ring
            .write(Tag::Append { seq, bytes: len }, room, len, offset);
    }

    pub(super) fn appended(&mut self, seq: Seq, bytes: usize, result: io::Result<usize>, held: Held) {
        let room = held.into_pages();
        if room.is_registered() {
            self.journal_io.records.push(room);
        }
        // Fewer bytes than asked for is a device that ended in the middle: what is there is in doubt.
        let written = self.told(result, "a record was not written");
        let done = written == Some(bytes);
        self.feed(Input::Appended { seq, done });
    }

    /// Writes a superblock into both pages, one after the other; it is durable before the engine hears of it.
    pub(super) fn write_superblock(&mut self, superblock: &Superblock) {
        let Some(mut page) = self.journal_io.superblock.take() else {
            unreachable!("the engine writes one superblock at a time")
        };
        page.as_bytes_mut().copy_from_slice(&superblock.encode());
        self.ring.write(Tag::Superblock { page: 0 }, page, PAGE_BYTES, 0);
    }

    /// A page of the superblock is written.
    pub(super) fn superblock_written(&mut self, page: u64, result: io::Result<usize>, held: Held) {
        self.journal_io.superblock = Some(held.into_pages());
        match self.told(result, "the superblock was not written") {
            Some(PAGE_BYTES) => self.ring.sync(Tag::SuperblockSynced { page }),
            Some(_) | None => self.feed(Input::SuperblockWritten { done: false }),
        }
    }

    /// A page of the superblock is durable.
    pub(super) fn superblock_synced(&mut self, page: u64, result: io::Result<usize>) {
        let synced = self.told(result, "the superblock was not synced").is_some();
        let next = page + 1;
        if synced
            && next < SUPERBLOCK_PAGES
            && let Some(copy) = self.journal_io.superblock.take()
        {
            let offset = next * PAGE_BYTES as u64;
            self.ring
                .write(Tag::Superblock { page: next }, copy, PAGE_BYTES, offset);
        } else {
            self.feed(Input::SuperblockWritten { done: synced });
        }
    }

    /// Reads blocks of the journal that memory does not have.
    pub(super) fn read_journal(&mut self, read: ReadId, place: Place, to: usize) {
        let step = Step {
            read,
            place,
            to,
            first: true,
        };
        if let Some(record) = self.sealing.journal.opened(place) {
            self.read_piece(step, &record);
        } else {
            let offset = self.slice.ring_offset(place.position);
            self.ring
                .read(Tag::Journal(step), Pages::new(1), PAGE_BYTES, offset);
        }
    }

    fn read_piece(&mut self, step: Step, record: &log_disk::Record) {
        let Ok((first, blocks)) = span(record, step.place) else {
            return self.part_read(step.read, step.to, None);
        };
        let pages = Pages::new(usize::try_from(blocks).unwrap_or(usize::MAX));
        let (len, offset) = (
            pages.len(),
            self.slice.ring_offset(step.place.position + 1 + first),
        );
        let tag = Tag::Journal(Step { first: false, ..step });
        self.ring.read(tag, pages, len, offset);
    }

    pub(super) fn journal_ended(&mut self, step: Step, result: io::Result<usize>, held: Held) {
        let pages = held.into_pages();
        let journal = std::sync::Arc::clone(&self.sealing.journal);
        let whole = self.told(result, "the journal was not read") == Some(pages.len());
        if whole && step.first {
            if let Ok(record) = journal.remember(step.place, pages.as_bytes()) {
                return self.read_piece(step, &record);
            }
        } else if whole && let Some(record) = journal.opened(step.place) {
            let opened = journal.open_piece(&record, step.place, pages.as_bytes());
            if let Ok(blocks) = opened {
                return self.part_read(step.read, step.to, Some(&blocks));
            }
        }
        tracing::error!(seq = step.place.seq.0, "journal was not read back");
        self.part_read(step.read, step.to, None);
    }
}
