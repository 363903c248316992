//! PURE. What a guest that reads one block after the other will want next.

use crate::Lba;

/// How far ahead is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadLimits {
    /// Guests' streams that are told apart.
    pub streams: usize,
    /// Blocks read ahead when a stream has just been noticed.
    pub first_blocks: u64,
    /// Most blocks read ahead; 0 for none.
    pub blocks_max: u64,
}

impl Default for AheadLimits {
    fn default() -> Self {
        Self {
            streams: 16,
            first_blocks: 32,
            blocks_max: 1024,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    /// Where its next read begins, if it goes on.
    next: u64,
    /// How far it was read ahead.
    until: u64,
    window: u64,
    /// When it was last seen.
    seen: u64,
}

/// Notices sequential reads, several at a time, by their addresses; so it follows a stream from one object to the next.
#[derive(Debug)]
pub struct ReadAhead {
    limits: AheadLimits,
    streams: Vec<Stream>,
    reads: u64,
}

/// Blocks that a stream may skip and still be one: several of its reads are under way at once.
const SLACK_BLOCKS: u64 = 64;

impl ReadAhead {
    /// Creates one that has seen nothing.
    #[must_use]
    pub fn new(limits: AheadLimits) -> Self {
        Self {
            limits,
            streams: Vec::new(),
            reads: 0,
        }
    }

    /// Takes a guest's read in, and returns what is worth reading ahead now: first block and how many, never past `size_blocks`.
    pub fn saw(&mut self, lba: Lba, blocks: u64, size_blocks: u64) -> Option<(Lba, u64)> {
        self.reads += 1;
        let (reads, end) = (self.reads, lba.0 + blocks);
        let goes_on =
            |stream: &&mut Stream| lba.0 + SLACK_BLOCKS >= stream.next && lba.0 <= stream.next + SLACK_BLOCKS;
        let Some(stream) = self.streams.iter_mut().find(goes_on) else {
            let stream = Stream {
                next: end,
                until: end,
                window: 0,
                seen: reads,
            };
            let full = self.streams.len() >= self.limits.streams;
            match self.streams.iter_mut().min_by_key(|stream| stream.seen) {
                Some(oldest) if full => *oldest = stream,
                Some(_) | None => self.streams.push(stream),
            }
            return None;
        };
        stream.seen = reads;
        if end <= stream.next {
            // Back and forth in one place is no stream.
            return None;
        }
        stream.next = end;
        stream.until = stream.until.max(end);
        stream.window = (stream.window * 2)
            .max(self.limits.first_blocks)
            .min(self.limits.blocks_max);
        let ahead = stream.until - end;
        if self.limits.blocks_max == 0 || ahead * 2 > stream.window {
            return None;
        }
        let from = stream.until;
        let to = (end + stream.window).min(size_blocks);
        stream.until = stream.until.max(to);
        (to > from).then(|| (Lba(from), to - from))
    }
}
