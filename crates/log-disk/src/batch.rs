//! PURE. What goes into the next data object: the newest of what was written since the last one.

use crate::runs::{RunMap, RunValue};
use crate::{EXTENT_BLOCKS_MAX, Lba, ObjectSeq, Seq, Source, SourceRun, ToSeal};

/// Where a block that only the journal has lies; `None` in `data` for zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Journaled {
    pub(crate) seq: Seq,
    /// Where its record begins.
    pub(crate) position: u64,
    /// Piece of the record, and block of the piece.
    pub(crate) data: Option<(u16, u16)>,
}

impl Journaled {
    pub(crate) fn source(self) -> Option<Source> {
        self.data.map(|(piece, skip)| Source::Journal {
            seq: self.seq,
            position: self.position,
            piece,
            skip,
        })
    }
}

impl RunValue for Journaled {
    fn advance(self, blocks: u64) -> Self {
        let data = self.data.map(|(piece, skip)| {
            let Ok(skip) = u16::try_from(u64::from(skip) + blocks) else {
                panic!("block {skip} + {blocks} of a piece")
            };
            (piece, skip)
        });
        Self { data, ..self }
    }
}

/// Writes in order, of which only the newest of each block is kept. It becomes one object, all or nothing: within it the
/// order is lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    runs: RunMap<Journaled>,
    data_blocks: u64,
    /// The last record in it.
    pub(crate) journal_seq: Seq,
    /// Bytes of records in it.
    pub(crate) bytes: u64,
}

impl Batch {
    /// Adds a run that is newer than all in here.
    pub(crate) fn add(&mut self, lba: Lba, blocks: u64, value: Journaled) {
        let mut gone = 0;
        self.runs.set(lba.0, blocks, value, |part| {
            if part.value.is_some_and(|value| value.data.is_some()) {
                gone += part.blocks;
            }
        });
        self.data_blocks -= gone;
        if value.data.is_some() {
            self.data_blocks += blocks;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// How many runs it has, whatever their length.
    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// What an object of it holds, by LBA.
    pub(crate) fn to_seal(&self) -> Vec<ToSeal> {
        let mut out = Vec::new();
        for part in self.runs.iter() {
            let Some(value) = part.value else {
                unreachable!("a run maps to something")
            };
            push_run(&mut out, Lba(part.start), part.blocks, ObjectSeq(0), |skip| {
                value.advance(skip).source()
            });
        }
        out
    }
}

/// Appends a run to what an object will hold, joined with the one before where that continues it, cut where it is too long.
pub(crate) fn push_run(
    out: &mut Vec<ToSeal>,
    lba: Lba,
    blocks: u64,
    origin: ObjectSeq,
    source: impl Fn(u64) -> Option<Source>,
) {
    let mut skip = 0;
    while skip < blocks {
        let at = lba.plus(skip);
        let Some(from) = source(skip) else {
            let rest = (blocks - skip).min(u64::from(u32::MAX));
            out.push(ToSeal {
                lba: at,
                blocks: rest,
                origin,
                sources: Vec::new(),
            });
            skip += rest;
            continue;
        };
        let joins = out.last_mut().filter(|last| {
            last.lba.plus(last.blocks) == at
                && last.origin == origin
                && !last.sources.is_empty()
                && last.blocks < EXTENT_BLOCKS_MAX
        });
        let room = joins
            .as_ref()
            .map_or(EXTENT_BLOCKS_MAX, |last| EXTENT_BLOCKS_MAX - last.blocks);
        let blocks = (blocks - skip).min(room);
        let run = SourceRun { blocks, source: from };
        match joins {
            Some(last) => {
                last.blocks += blocks;
                last.sources.push(run);
            }
            None => out.push(ToSeal {
                lba: at,
                blocks,
                origin,
                sources: vec![run],
            }),
        }
        skip += blocks;
    }
}

#[cfg(test)]
mod tests;
