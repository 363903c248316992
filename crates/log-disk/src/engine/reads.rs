//! PURE. Reads: the journal's blocks over the objects', and what must stay as long as somebody reads it.

use super::{Engine, Outcome, Output, ReadId, ReadPart, RequestId};
use crate::batch::Journaled;
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
        let mut parts = Vec::new();
        let mut journal_from: Option<u64> = None;
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
            let Journaled { position, .. } = value;
            let source = value.source();
            if source.is_some() {
                journal_from = Some(journal_from.map_or(position, |from| from.min(position)));
            }
            parts.push(ReadPart {
                lba: Lba(part.start),
                blocks: part.blocks,
                source,
            });
        }
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
