//! Reads: parts from memory, slice and store, put together.

use std::collections::HashMap;

use bytes::Bytes;
use log_disk::{BLOCK_BYTES, Input, ReadId, ReadPart, RequestId, Source};
use tracing::error;

use super::clients::Asked;
use super::{Driver, Event, Waiter};
use crate::disk::journal::Place;
use crate::disk::objects::Run;
use crate::disk::store::{chain, purpose};

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
        let (mut from_slice, mut from_store) = (Vec::new(), Vec::new());
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
                Some(Source::Object { object, at }) => match self.engine.object_name(object) {
                    Some(name) => from_store.push((
                        to,
                        Run {
                            name,
                            at,
                            blocks: part.blocks,
                        },
                    )),
                    None => panic!("the map names object {object}, of which the engine does not know"),
                },
            }
            to += len;
        }
        reading.missing = from_slice.len() + usize::from(!from_store.is_empty());
        self.reads.running.insert(read, reading);
        for (place, to) in from_slice {
            self.read_journal(read, place, to);
        }
        if !from_store.is_empty() {
            self.fetch(read, from_store);
        }
        self.finish_read(read);
    }

    fn fetch(&self, read: ReadId, wanted: Vec<(usize, Run)>) {
        let reader = self.sealing.reader.clone();
        self.start("disk-fetch", async move {
            let (places, runs): (Vec<usize>, Vec<Run>) = wanted.into_iter().unzip();
            let parts = match reader.read_patiently(&runs, purpose::READ).await {
                Ok(parts) => Some(places.into_iter().zip(parts).collect()),
                Err(error) => {
                    error!(error = %chain(&error), "blocks were not read");
                    None
                }
            };
            Event::Fetched { read, parts }
        });
    }

    pub(super) fn fetched(&mut self, read: ReadId, parts: Option<Vec<(usize, Bytes)>>) {
        let Some(reading) = self.reads.running.get_mut(&read) else {
            return;
        };
        reading.missing -= 1;
        match parts {
            Some(parts) => {
                for (to, bytes) in parts {
                    reading.data[to..to + bytes.len()].copy_from_slice(&bytes);
                }
            }
            None => reading.failed = true,
        }
        self.finish_read(read);
        self.feed_waiting();
    }

    /// One part has come from the slice, or never will.
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

fn bytes_of(blocks: u64) -> usize {
    usize::try_from(blocks)
        .unwrap_or(usize::MAX)
        .saturating_mul(BLOCK_BYTES)
}
