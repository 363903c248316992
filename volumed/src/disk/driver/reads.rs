//! Reads: parts from memory, slice and store, put together.

use std::collections::HashMap;

use bytes::Bytes;
use log_disk::{BLOCK_BYTES, Input, ReadId, ReadPart, RequestId, Source};
use tracing::error;

use super::clients::Asked;
use super::object_reads::Part;
use super::{Driver, Waiter};
use crate::disk::journal::Place;

/// Reads under way, and the data of those that are done and not told yet.
#[derive(Debug, Default)]
pub(super) struct Reads {
    running: HashMap<ReadId, Reading>,
    done: HashMap<RequestId, Bytes>,
}

#[derive(Debug)]
struct Reading {
    request: RequestId,
    data: Vec<u8>,
    /// Parts that are still to come.
    missing: usize,
    failed: bool,
}

impl Reads {
    /// Returns what a request has read.
    pub(super) fn take(&mut self, request: RequestId) -> Option<Bytes> {
        self.done.remove(&request)
    }
}

impl Driver {
    pub(super) fn read(&mut self, read: ReadId, request: RequestId, parts: &[ReadPart]) {
        if let Some(Waiter::Client {
            asked: Asked::Status { map, .. },
            ..
        }) = self.waiters.get_mut(&request)
        {
            // Only where the blocks are was asked for, not what they hold.
            map.extend(parts.iter().map(|part| (part.blocks, part.source.is_some())));
            self.inputs.push_back(Input::ReadDone { read, done: true });
            return;
        }
        let blocks: u64 = parts.iter().map(|part| part.blocks).sum();
        let mut reading = Reading {
            request,
            data: vec![0; bytes_of(blocks)],
            missing: 0,
            failed: false,
        };
        let (mut from_slice, mut from_objects) = (Vec::new(), Vec::new());
        let mut to = 0;
        for part in parts {
            let len = bytes_of(part.blocks);
            match part.source {
                None => {}
                Some(Source::Journal {
                    seq,
                    position,
                    piece,
                    skip,
                }) => {
                    let place = Place {
                        seq,
                        position,
                        piece,
                        skip,
                        blocks: part.blocks,
                    };
                    match self.sealing.journal.read_fresh(place) {
                        Ok(Some(fresh)) => reading.data[to..to + len].copy_from_slice(&fresh),
                        Ok(None) => from_slice.push((place, to)),
                        Err(unsound) => {
                            error!(error = %unsound, "journal in memory is damaged");
                            reading.failed = true;
                        }
                    }
                }
                Some(Source::Object { object, at }) => {
                    let Some(found) = self.object(object) else {
                        panic!("the map names object {object}, of which the engine does not know")
                    };
                    from_objects.push(Part {
                        read,
                        to,
                        object: found,
                        lba: part.lba,
                        at,
                        blocks: part.blocks,
                    });
                }
            }
            to += len;
        }
        reading.missing = from_slice.len() + from_objects.len();
        self.reads.running.insert(read, reading);
        for (place, to) in from_slice {
            self.read_journal(read, place, to);
        }
        let ahead = (!from_objects.is_empty()).then(|| parts[0].lba);
        for part in from_objects {
            self.read_object(part);
        }
        if let Some(lba) = ahead {
            self.read_ahead(lba, blocks);
        }
        self.finish_read(read);
    }

    /// One part has come, or never will.
    pub(super) fn part_read(&mut self, read: ReadId, to: usize, bytes: Option<&[u8]>) {
        let Some(reading) = self.reads.running.get_mut(&read) else {
            return;
        };
        reading.missing -= 1;
        match bytes {
            Some(bytes) => reading.data[to..to + bytes.len()].copy_from_slice(bytes),
            None => reading.failed = true,
        }
        self.finish_read(read);
        self.feed_waiting();
    }

    /// Tells the engine of a read that has all its parts.
    fn finish_read(&mut self, read: ReadId) {
        if self
            .reads
            .running
            .get(&read)
            .is_some_and(|reading| reading.missing > 0)
        {
            return;
        }
        if let Some(reading) = self.reads.running.remove(&read) {
            self.metrics.read(reading.data.len());
            if !reading.failed {
                self.reads.done.insert(reading.request, Bytes::from(reading.data));
            }
            let done = !reading.failed;
            self.inputs.push_back(Input::ReadDone { read, done });
        }
    }
}

pub(super) fn bytes_of(blocks: u64) -> usize {
    usize::try_from(blocks)
        .unwrap_or(usize::MAX)
        .saturating_mul(BLOCK_BYTES)
}
