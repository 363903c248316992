//! PURE. Reads: the journal's blocks over the objects', and what must stay as long as somebody reads it.

use super::{Engine, Outcome, Output, ReadId, ReadPart, RequestId};
use crate::extent_map::{LostLeaf, PageStore};
use crate::{Lba, Source};

/// A read under way.
#[derive(Debug)]
pub(super) struct ReadPin {
    pub(super) request: RequestId,
    /// Where the oldest record that it reads begins.
    pub(super) journal_from: Option<u64>,
}

impl<S: PageStore> Engine<S> {
    pub(super) fn read(
        &mut self,
        request: RequestId,
        lba: Lba,
        blocks: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), LostLeaf> {
        assert!(
            blocks > 0 && lba.0 + blocks <= self.head.size_blocks,
            "a read of {blocks} at {lba}"
        );
        let parts = self.parts(lba, blocks)?;
        let journal_from = parts
            .iter()
            .filter_map(|part| match part.source? {
                Source::Journal { position, .. } => Some(position),
                Source::Object { .. } => None,
            })
            .min();
        let read = self.next_read;
        self.next_read = ReadId(read.0 + 1);
        let pin = ReadPin {
            request,
            journal_from,
        };
        self.reads.insert(read, pin);
        out.push(Output::Read { read, request, parts });
        Ok(())
    }

    /// Returns where blocks lie at the moment, those past the disk's end left out; nothing when the map cannot tell. Nothing is
    /// kept for it: an object may be deleted meanwhile. For reading ahead.
    pub fn peek(&mut self, lba: Lba, blocks: u64) -> Vec<ReadPart> {
        let blocks = blocks.min(self.head.size_blocks.saturating_sub(lba.0));
        if blocks == 0 || self.stopped.is_some() {
            return Vec::new();
        }
        self.parts(lba, blocks).unwrap_or_default()
    }

    fn parts(&mut self, lba: Lba, blocks: u64) -> Result<Vec<ReadPart>, LostLeaf> {
        let mut parts = Vec::new();
        for part in self.journaled.parts(lba.0, blocks) {
            let Some(value) = part.value else {
                for below in self.map.lookup(Lba(part.start), part.blocks)? {
                    parts.push(ReadPart {
                        lba: Lba(below.start),
                        blocks: below.blocks,
                        source: below.value.map(|location| Source::Object {
                            object: location.object,
                            at: location.at,
                        }),
                    });
                }
                continue;
            };
            parts.push(ReadPart {
                lba: Lba(part.start),
                blocks: part.blocks,
                source: value.source(),
            });
        }
        Ok(parts)
    }

    pub(super) fn read_done(&mut self, read: ReadId, done: bool) {
        let Some(ReadPin { request, .. }) = self.reads.remove(&read) else {
            panic!("read {read:?} was not under way")
        };
        let outcome = if done { Outcome::Done } else { Outcome::Failed };
        self.finish(self.now, request, outcome);
    }

    /// Whether nobody reads any more what was in the map before read `since`.
    pub(super) fn readers_are_gone(&self, since: ReadId) -> bool {
        self.reads
            .first_key_value()
            .is_none_or(|(oldest, _)| *oldest >= since)
    }
}
