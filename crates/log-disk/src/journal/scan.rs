//! PURE. Which records of a journal count after a crash.

use super::{PAGE_BYTES, Record, RecordKind, Superblock};
use crate::seal::Sealer;
use crate::{Epoch, Flaw, Seq};

/// Walks a journal from its oldest needed record to the first that does not belong.
///
/// A record counts while everything before it does, its seal opens, its data is whole, and it names the expected seq,
/// position and predecessor, in an epoch that does not go back. So neither a record that was being written
/// when the power went, nor one that an earlier lap or an earlier life left behind it, is ever taken for the next one. Behind the
/// end it looks for records of the last writer that know more to have been durable: then the journal is damaged, and not just
/// at its end.
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
    beyond: Option<Beyond>,
}

/// How far behind the end of the journal is looked for a record that proves it to be damaged: more than can be under way at
/// once, so that whatever was written next after a sync is found.
const BEYOND_PAGES: u64 = 16 * 513;
/// Pages read at a time there.
const BEYOND_PAGES_AT_ONCE: u64 = 64;

/// The search behind the end.
#[derive(Debug, Clone, Copy)]
struct Beyond {
    position: u64,
    end: u64,
    at_once: u64,
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
    /// The last record that was known to be durable.
    pub known_durable: Seq,
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
            beyond: None,
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
        if let Some(beyond) = self.beyond {
            return self.look(sealer, beyond, pages);
        }
        let record = pages.and_then(|pages| Some((self.check(sealer, pages).ok()?, pages)));
        let Some((record, pages)) = record else {
            return self.look_beyond();
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
                return self.look_beyond();
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

    /// The journal ends here. Whether it should is known to the records behind, if there are any: each tells what was durable
    /// when it was made.
    fn look_beyond(&mut self) -> ScanStep {
        let beyond = Beyond {
            position: self.position,
            end: self.position + (self.ring_pages - self.walked).min(BEYOND_PAGES),
            at_once: BEYOND_PAGES_AT_ONCE,
        };
        self.look_at(beyond)
    }

    fn look_at(&mut self, beyond: Beyond) -> ScanStep {
        self.beyond = Some(beyond);
        let to_end = self.ring_pages - beyond.position % self.ring_pages;
        let pages = beyond.at_once.min(to_end).min(beyond.end - beyond.position);
        if pages == 0 {
            return self.end();
        }
        ScanStep::Read {
            position: beyond.position,
            pages,
        }
    }

    fn look(&mut self, sealer: &Sealer, mut beyond: Beyond, pages: Option<&[u8]>) -> ScanStep {
        let Some(pages) = pages else {
            // One page may be unreadable, and its neighbours not.
            if beyond.at_once == 1 {
                beyond.position += 1;
            }
            beyond.at_once = 1;
            return self.look_at(beyond);
        };
        for page in pages.as_chunks::<PAGE_BYTES>().0 {
            if let Ok(Record { header, .. }) = Record::open(sealer, page)
                && header.position == beyond.position
                && header.epoch == self.epoch_max
            {
                self.durable_seq = self.durable_seq.max(header.durable_seq);
            }
            beyond.position += 1;
        }
        self.look_at(beyond)
    }

    fn end(&self) -> ScanStep {
        ScanStep::End(ScanEnd {
            position: self.position,
            seq: self.seq,
            crc: self.crc,
            damaged: self.seq <= self.durable_seq,
            known_durable: self.durable_seq,
        })
    }
}
