//! PURE. Writes: into records, into the journal, into effect and back to the guest, always in order.

use bytes::Bytes;

use super::journal::Span;
use super::{Durability, Engine, Lag, Mutant, OnOutage, Outcome, Output, Request, RequestId};
use crate::batch::{Batch, Journaled};
use crate::extent_map::{LostLeaf, PageStore};
use crate::pressure::{self, BLOCK_FROM};
use crate::{
    BLOCK_BYTES, Lba, PAGE_BYTES, PIECE_BLOCKS_MAX, Record, RecordHeader, RecordKind, RecordRoom, Seq, Time,
};

/// Most blocks that one piece zeroes.
const ZERO_BLOCKS_MAX: u64 = u32::MAX as u64;

/// A write that is not in a record yet; a long one may be in several, its last piece in this.
#[derive(Debug)]
pub(super) struct PendingWrite {
    pub(super) request: RequestId,
    /// What durable means to it, when it wants to be.
    fua: Option<Durability>,
    pub(super) pieces: std::collections::VecDeque<(Lba, u64, Option<Bytes>)>,
    bytes: u64,
}

/// What a record does to a run of blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    lba: Lba,
    blocks: u64,
    /// The piece that holds the data; `None` for zeros.
    piece: Option<u16>,
}

impl Change {
    pub(super) fn of(record: &Record) -> Vec<Self> {
        (0..)
            .zip(&record.pieces)
            .map(|(index, piece)| Self {
                lba: piece.lba,
                blocks: piece.blocks,
                piece: piece.data.is_some().then_some(index),
            })
            .collect()
    }
}

/// A record that is being written, or waits for one before it.
#[derive(Debug)]
pub(super) struct InFlightRecord {
    seq: Seq,
    position: u64,
    end: u64,
    changes: Vec<Change>,
    /// Requests whose last piece it has, and what durable means to those that want to be.
    pub(super) requests: Vec<(RequestId, Option<Durability>)>,
    bytes: u64,
    written: bool,
    /// Whether it took effect before its turn; see [`Mutant::CompletionOrder`].
    early: bool,
}

/// A flush, or a write that wants to be durable.
#[derive(Debug)]
pub(super) struct FlushWait {
    pub(super) request: RequestId,
    /// The last record that must be durable.
    pub(super) seq: Seq,
    pub(super) class: Durability,
    ready: Time,
}

impl<S: PageStore> Engine<S> {
    pub(super) fn request(
        &mut self,
        request: RequestId,
        what: Request,
        out: &mut Vec<Output>,
    ) -> Result<(), LostLeaf> {
        match what {
            Request::Read { lba, blocks } => return self.read(request, lba, blocks, out),
            Request::Write { lba, data, fua } => {
                let blocks = (data.len() / BLOCK_BYTES) as u64;
                assert!(
                    blocks > 0 && data.len() % BLOCK_BYTES == 0 && lba.0 + blocks <= self.head.size_blocks,
                    "a write of {} bytes at {lba}",
                    data.len()
                );
                let piece_bytes = BLOCK_BYTES * usize::try_from(PIECE_BLOCKS_MAX).unwrap_or(usize::MAX);
                let pieces = (0..)
                    .step_by(piece_bytes)
                    .take_while(|from| *from < data.len())
                    .map(|from| {
                        let piece = data.slice(from..data.len().min(from + piece_bytes));
                        let blocks = (piece.len() / BLOCK_BYTES) as u64;
                        (lba.plus((from / BLOCK_BYTES) as u64), blocks, Some(piece))
                    })
                    .collect();
                self.pending.push_back(PendingWrite {
                    request,
                    fua: fua.then_some(self.config.durability),
                    pieces,
                    bytes: data.len() as u64,
                });
            }
            Request::Zero { lba, blocks, fua } => {
                assert!(
                    blocks > 0 && lba.0 + blocks <= self.head.size_blocks,
                    "{blocks} zeros at {lba}"
                );
                let mut pieces = std::collections::VecDeque::new();
                let mut skip = 0;
                while skip < blocks {
                    let piece = (blocks - skip).min(ZERO_BLOCKS_MAX);
                    pieces.push_back((lba.plus(skip), piece, None));
                    skip += piece;
                }
                self.pending.push_back(PendingWrite {
                    request,
                    fua: fua.then_some(self.config.durability),
                    pieces,
                    bytes: 0,
                });
            }
            Request::Flush => {
                let class = self.config.durability;
                self.wait_durable(request, class, self.applied_seq, self.now);
            }
            Request::Grow { size_blocks } => self.grow(request, size_blocks),
            Request::Snapshot { name } => self.snapshot(request, name),
            Request::RemoveSnapshot { name } => self.remove_snapshot(request, name),
        }
        Ok(())
    }

    fn wait_durable(&mut self, request: RequestId, class: Durability, seq: Seq, ready: Time) {
        self.flushes.push(FlushWait {
            request,
            seq,
            class,
            ready,
        });
    }

    /// How far the store is behind.
    pub(super) fn lag(&self) -> Lag {
        let first = self.ring.spans.iter().find(|span| span.seq > self.durable_seq);
        let last = self.ring.spans.back();
        let (Some(first), Some(last)) = (first, last) else {
            return Lag::default();
        };
        Lag {
            bytes: (last.end - first.position) * PAGE_BYTES as u64,
            micros: self.now.since(first.since),
        }
    }

    /// Thousandths of what there is room for, be it in the ring or within the bounds of the lag.
    fn fill_permille(&self) -> u64 {
        let ring = self.ring.fill_permille();
        if self.config.on_outage == OnOutage::Ride {
            return ring;
        }
        let lag = self.lag();
        let bytes = lag.bytes.saturating_mul(1000) / self.config.lag_bytes_max.max(1);
        let age = lag.micros.saturating_mul(1000) / self.config.lag_us_max.max(1);
        ring.max(bytes).max(age)
    }

    /// Whether writes wait for room in the ring.
    pub(super) fn wants_room(&self) -> bool {
        !self.pending.is_empty() && self.ring.free_pages() < 2 * (self.config.record_blocks + 1)
    }

    /// Makes records of what is pending: all that arrived while others were being written goes into the next.
    pub(super) fn append_records(&mut self, out: &mut Vec<Output>) {
        while !self.pending.is_empty()
            && self.in_flight.len() < self.config.appends_max
            && self.fill_permille() < BLOCK_FROM
        {
            let most = self.config.record_blocks + 1;
            let to_end = self.ring.pages_to_end();
            let pad = if to_end < most { to_end } else { 0 };
            if self.ring.free_pages() < pad + most {
                return;
            }
            if pad > 0 {
                self.append_pad(pad, out);
            }
            self.append_writes(out);
        }
    }

    fn header(&self, kind: RecordKind) -> RecordHeader {
        RecordHeader {
            kind,
            disk: self.sealer.disk(),
            epoch: self.epoch,
            pages: 0,
            seq: self.ring.next_seq,
            position: self.ring.next_position,
            salt: self.salt,
            previous_crc: self.ring.last_crc,
            durable_seq: self.synced_seq,
        }
    }

    fn append_pad(&mut self, pages: u64, out: &mut Vec<Output>) {
        let Ok(after) = u32::try_from(pages - 1) else {
            unreachable!("less than a record to the ring's end")
        };
        let header = RecordHeader {
            pages: after,
            ..self.header(RecordKind::Pad)
        };
        let (bytes, record) = Record::encode(&self.sealer, header, &[]);
        self.push_record(&record, Vec::new(), 0, bytes, out);
    }

    fn append_writes(&mut self, out: &mut Vec<Output>) {
        let mut room = RecordRoom::new(self.config.record_blocks);
        let (mut pieces, mut requests, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(write) = self.pending.front_mut() {
            // A write goes into one record as long as one can hold it, so that a crash keeps all of it or nothing.
            let mut whole = room;
            let fits = write
                .pieces
                .iter()
                .all(|(_, blocks, data)| whole.take(data_blocks(*blocks, data)));
            if !fits && !pieces.is_empty() {
                break;
            }
            while let Some((_, blocks, data)) = write.pieces.front()
                && room.take(data_blocks(*blocks, data))
            {
                pieces.extend(write.pieces.pop_front());
            }
            if !write.pieces.is_empty() {
                break;
            }
            if let Some(write) = self.pending.pop_front() {
                requests.push((write.request, write.fua));
                bytes += write.bytes;
            }
        }
        if self.is(Mutant::ForgetZeroes) {
            pieces.retain(|(.., data)| data.is_some());
        }
        let (pages, record) = Record::encode(&self.sealer, self.header(RecordKind::Writes), &pieces);
        self.push_record(&record, requests, bytes, pages, out);
    }

    fn push_record(
        &mut self,
        record: &Record,
        requests: Vec<(RequestId, Option<Durability>)>,
        bytes: u64,
        pages: Vec<u8>,
        out: &mut Vec<Output>,
    ) {
        let header = record.header;
        self.ring.spans.push_back(Span {
            seq: header.seq,
            position: header.position,
            end: header.end(),
            previous_crc: header.previous_crc,
            epoch: header.epoch,
            since: self.now,
        });
        self.ring.next_position = header.end();
        self.ring.next_seq = header.seq.next();
        self.ring.last_crc = record.crc;
        self.in_flight.push_back(InFlightRecord {
            seq: header.seq,
            position: header.position,
            end: header.end(),
            changes: Change::of(record),
            requests,
            bytes,
            written: false,
            early: false,
        });
        out.push(Output::Append {
            seq: header.seq,
            position: header.position,
            bytes: Bytes::from(pages),
        });
    }

    pub(super) fn appended(&mut self, seq: Seq) {
        let early = self.is(Mutant::CompletionOrder);
        let over_hole = self.is(Mutant::FlushOverHole);
        let Some(record) = self.in_flight.iter_mut().find(|record| record.seq == seq) else {
            panic!("record {seq} was not being written")
        };
        record.written = true;
        let hasty: Vec<_> = record
            .requests
            .extract_if(.., |(_, fua)| over_hole && fua.is_some())
            .collect();
        if early {
            record.early = true;
            let (position, end, changes) = (record.position, record.end, std::mem::take(&mut record.changes));
            self.apply_changes(seq, position, end, &changes);
        }
        for (request, class) in hasty {
            self.wait_durable(request, class.unwrap_or(Durability::Local), seq, self.now);
        }
    }

    /// Lets records take effect, and tells of them, strictly in their order.
    pub(super) fn apply_records(&mut self) -> Result<(), LostLeaf> {
        while self.in_flight.front().is_some_and(|record| record.written) {
            let Some(record) = self.in_flight.pop_front() else {
                return Ok(());
            };
            assert!(
                record.seq == self.applied_seq.next(),
                "{} after {}",
                record.seq,
                self.applied_seq
            );
            self.applied_seq = record.seq;
            if !record.early {
                self.apply_changes(record.seq, record.position, record.end, &record.changes);
            }
            self.written.guest_bytes += record.bytes;
            self.written.journal_bytes += (record.end - record.position) * PAGE_BYTES as u64;
            let delay = pressure::delay(self.fill_permille(), record.bytes, self.drain.bytes_per_s());
            let ready = self.now.max(self.last_ready).plus(delay);
            let ready = if record.requests.is_empty() {
                self.last_ready
            } else {
                ready
            };
            self.last_ready = ready;
            for (request, fua) in record.requests {
                match fua {
                    Some(class) => self.wait_durable(request, class, record.seq, ready),
                    None => self.finish(ready, request, Outcome::Done),
                }
            }
        }
        Ok(())
    }

    pub(super) fn apply_changes(&mut self, seq: Seq, position: u64, end: u64, changes: &[Change]) {
        for change in changes {
            let value = Journaled {
                seq,
                position,
                data: change.piece.map(|piece| (piece, 0)),
            };
            self.journaled.set(change.lba.0, change.blocks, value, |_| {});
            self.batch.add(change.lba, change.blocks, value);
        }
        if self.is(Mutant::CompletionOrder) {
            self.batch.journal_seq = self.batch.journal_seq.max(seq);
        } else {
            self.batch.journal_seq = seq;
        }
        self.batch.bytes += (end - position) * PAGE_BYTES as u64;
        self.batch_since.get_or_insert(self.now);
    }

    /// Takes the open batch, to be uploaded.
    pub(super) fn take_batch(&mut self) -> Batch {
        self.batch_since = None;
        std::mem::take(&mut self.batch)
    }

    /// Asks for a sync when somebody waits for one that is not under way.
    pub(super) fn advance_sync(&mut self, out: &mut Vec<Output>) {
        let waited = |flush: &FlushWait| flush.class == Durability::Local && flush.seq > self.synced_seq;
        if self.sync_to.is_none() && self.flushes.iter().any(waited) {
            let to = if self.is(Mutant::FlushOverHole) {
                let written = self
                    .in_flight
                    .iter()
                    .filter(|record| record.written)
                    .map(|record| record.seq);
                written.max().unwrap_or(self.applied_seq)
            } else {
                self.applied_seq
            };
            self.sync_to = Some(to);
            out.push(Output::Sync);
        }
    }

    pub(super) fn synced(&mut self) {
        let Some(to) = self.sync_to.take() else {
            panic!("a sync that nobody asked for")
        };
        self.synced_seq = self.synced_seq.max(to);
    }

    pub(super) fn finish_flushes(&mut self) {
        let (synced, durable, now) = (self.synced_seq, self.durable_seq, self.now);
        let done = self.flushes.extract_if(.., |flush| match flush.class {
            Durability::Local => flush.seq <= synced,
            Durability::Remote => flush.seq <= durable,
            Durability::None => true,
        });
        let done: Vec<FlushWait> = done.collect();
        for flush in done {
            self.finish(flush.ready.max(now), flush.request, Outcome::Done);
        }
    }
}

fn data_blocks(blocks: u64, data: &Option<Bytes>) -> u64 {
    if data.is_some() { blocks } else { 0 }
}
