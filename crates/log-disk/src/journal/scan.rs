//! PURE. Which records of a journal count after a crash.

use super::{PAGE_BYTES, Record, RecordKind, Superblock};
use crate::seal::Sealer;
use crate::{Epoch, Flaw, Seq};

/// Walks a journal from its oldest needed record to the first that does not belong.
///
/// A record counts while everything before it does, its seal opens, its data is whole, and it names the expected seq,
/// position and predecessor, in an epoch that does not go back. So neither a record that was being written
/// when the power went, nor one that an earlier lap or an earlier life left behind it, is ever taken for the next one.
#[derive(Debug, Clone)]
pub struct Scan {
    ring_pages: u64,
    epoch_max: Epoch,
    durable_seq: Seq,
    position: u64,
    seq: Seq,
    crc: u32,
    epoch: Epoch,
    /// Pages walked; a scan never goes around twice.
    walked: u64,
    trusting: bool,
}

/// What a scan wants, or that it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanStep {
    /// Read `pages` pages at `position` of the ring and pass them on.
    Read {
        /// Where, in pages.
        position: u64,
        /// How many.
        pages: u64,
    },
    /// This one counts; ask for the next step.
    Record(Record),
    /// No further record counts.
    End(ScanEnd),
}

/// Where the journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanEnd {
    /// Where the next record goes.
    pub position: u64,
    /// What its seq is.
    pub seq: Seq,
    /// What it carries as its predecessor's CRC.
    pub crc: u32,
    /// Whether records are missing that were known to be durable: damage, not a crash.
    pub damaged: bool,
}

impl Scan {
    /// Begins where the superblock says.
    #[must_use]
    pub fn new(superblock: &Superblock) -> Self {
        Self {
            ring_pages: superblock.ring_pages,
            epoch_max: superblock.epoch,
            durable_seq: superblock.durable_seq,
            position: superblock.tail_position,
            seq: superblock.tail_seq,
            crc: superblock.tail_crc,
            epoch: superblock.tail_epoch,
            walked: 0,
            trusting: false,
        }
    }

    /// Makes the scan believe any record with the right seq, as one without chain and epochs would: for showing that
    /// tests notice.
    #[doc(hidden)]
    #[must_use]
    pub fn trusting(mut self) -> Self {
        self.trusting = true;
        self
    }

    /// Returns the first step, and every one after a [`ScanStep::Record`].
    #[must_use]
    pub fn begin(&self) -> ScanStep {
        if self.walked >= self.ring_pages {
            return self.end();
        }
        ScanStep::Read {
            position: self.position,
            pages: 1,
        }
    }

    /// Takes what was read: the pages asked for, or `None` when the slice could not be read there.
    pub fn read(&mut self, sealer: &Sealer, pages: Option<&[u8]>) -> ScanStep {
        let Some(pages) = pages else {
            return self.end();
        };
        let Ok(record) = self.check(sealer, pages) else {
            return self.end();
        };
        let header = record.header;
        let whole = 1 + u64::from(header.pages);
        if header.kind != RecordKind::Pad {
            let needed = usize::try_from(whole)
                .unwrap_or(usize::MAX)
                .saturating_mul(PAGE_BYTES);
            if pages.len() < needed {
                return ScanStep::Read {
                    position: self.position,
                    pages: whole,
                };
            }
            if record.check_payload(sealer, &pages[PAGE_BYTES..needed]).is_err() {
                return self.end();
            }
        }
        self.position = header.end();
        self.walked += whole;
        self.seq = header.seq.next();
        self.crc = record.crc;
        self.epoch = header.epoch;
        ScanStep::Record(record)
    }

    fn check(&self, sealer: &Sealer, pages: &[u8]) -> Result<Record, Flaw> {
        let record = Record::open(sealer, pages)?;
        let header = record.header;
        let in_place = header.seq == self.seq
            && header.position == self.position
            && self.position % self.ring_pages + 1 + u64::from(header.pages) <= self.ring_pages
            && self.walked + 1 + u64::from(header.pages) <= self.ring_pages;
        let of_this_life =
            header.previous_crc == self.crc && (self.epoch..=self.epoch_max).contains(&header.epoch);
        if in_place && (of_this_life || self.trusting) {
            Ok(record)
        } else {
            Err(Flaw::Elsewhere)
        }
    }

    fn end(&self) -> ScanStep {
        ScanStep::End(ScanEnd {
            position: self.position,
            seq: self.seq,
            crc: self.crc,
            damaged: self.seq <= self.durable_seq,
        })
    }
}
