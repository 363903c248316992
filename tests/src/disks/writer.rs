//! A writer that stamps every block, and knows what it was told of each.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use rand::{Rng, RngExt as _};

use super::{NbdClient, NbdError};

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Writes sent before their answers are waited for.
const AT_ONCE: usize = 16;
/// Most blocks of one write.
const BLOCKS_MAX: u64 = 24;

/// What a block may hold: stamps in the order in which they were sent; 0 for zeros.
#[derive(Debug, Clone, Default)]
struct Block {
    /// The newest stamp that was answered.
    answered: u64,
    /// Newer ones that were sent and never answered.
    doubtful: BTreeSet<u64>,
}

/// One write, as it was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    cookie: u64,
    stamp: u64,
    first: u64,
    blocks: u64,
}

/// A writer over the first blocks of a disk.
#[derive(Debug, Clone)]
pub struct Writer {
    blocks: u64,
    stamp: u64,
    /// The newest stamp that was answered before a flush that was answered.
    flushed: u64,
    known: BTreeMap<u64, Block>,
    /// Every write that was answered, by stamp.
    history: BTreeMap<u64, (u64, u64)>,
}

impl Writer {
    /// Creates a writer over `blocks` blocks of zeros.
    #[must_use]
    pub fn new(blocks: u64) -> Self {
        Self {
            blocks,
            stamp: 0,
            flushed: 0,
            known: BTreeMap::new(),
            history: BTreeMap::new(),
        }
    }

    /// Returns the newest stamp.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Returns the newest stamp that a flush covers.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Writes at random, several at once, and flushes now and then, until `enough` or the connection breaks.
    ///
    /// # Errors
    /// [`NbdError`]: what was under way is in doubt from then on.
    pub fn write(
        &mut self,
        client: &mut NbdClient,
        rng: &mut impl Rng,
        mut enough: impl FnMut() -> bool,
    ) -> Result<(), NbdError> {
        while !enough() {
            let mut sent = Vec::new();
            let mut broken = None;
            for _ in 0..rng.random_range(1..=AT_ONCE) {
                if let Err(error) = self.send(client, rng, &mut sent) {
                    broken = Some(error);
                    break;
                }
            }
            for _ in 0..sent.len() {
                match client.answer() {
                    Ok(cookie) => self.answered(&sent, cookie),
                    Err(error) => {
                        broken = Some(error);
                        break;
                    }
                }
            }
            if let Some(error) = broken {
                return Err(error);
            }
            if rng.random_range(0..8) == 0 {
                let before = self.stamp;
                client.flush()?;
                self.flushed = before;
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        client: &mut NbdClient,
        rng: &mut impl Rng,
        sent: &mut Vec<Sent>,
    ) -> Result<(), NbdError> {
        let blocks = rng.random_range(1..=BLOCKS_MAX.min(self.blocks));
        let first = rng.random_range(0..=self.blocks - blocks);
        self.stamp += 1;
        let stamp = self.stamp;
        for block in first..first + blocks {
            self.known.entry(block).or_default().doubtful.insert(stamp);
        }
        let data: Vec<u8> = (first..first + blocks)
            .flat_map(|block| stamped(block, stamp))
            .collect();
        let cookie = client.send_write(first * BLOCK as u64, &data)?;
        sent.push(Sent {
            cookie,
            stamp,
            first,
            blocks,
        });
        Ok(())
    }

    fn answered(&mut self, sent: &[Sent], cookie: u64) {
        for write in sent.iter().filter(|write| write.cookie == cookie) {
            self.history.insert(write.stamp, (write.first, write.blocks));
            for block in write.first..write.first + write.blocks {
                let known = self.known.entry(block).or_default();
                known.answered = known.answered.max(write.stamp);
                // What was sent later on the same connection is also done later.
                known.doubtful = known.doubtful.split_off(&(write.stamp + 1));
            }
        }
    }

    /// Reads everything: each block holds the last that was answered, or something newer that was sent. Goes on from what it found.
    ///
    /// # Errors
    /// When a block holds anything else, or cannot be read.
    pub fn check(&mut self, client: &mut NbdClient) -> Result<()> {
        let found = self.stamps(client)?;
        for (block, stamp) in found {
            let known = self.known.entry(block).or_default();
            ensure!(
                stamp == known.answered || known.doubtful.contains(&stamp),
                "block {block} holds stamp {stamp}, not {} or one of {:?}",
                known.answered,
                known.doubtful
            );
            known.answered = stamp;
            known.doubtful.clear();
        }
        Ok(())
    }

    /// Reads everything: there is a stamp up to which every write is there, and none after it. Returns it.
    ///
    /// # Errors
    /// When there is no such stamp.
    pub fn check_prefix(&self, client: &mut NbdClient) -> Result<u64> {
        let found = self.stamps(client)?;
        let last = found.values().copied().max().unwrap_or(0);
        let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
        for (stamp, (first, blocks)) in self.history.range(..=last) {
            for block in *first..first + blocks {
                wanted.insert(block, *stamp);
            }
        }
        for (block, stamp) in found {
            let wanted = wanted.get(&block).copied().unwrap_or(0);
            let doubtful = self
                .known
                .get(&block)
                .is_some_and(|known| known.doubtful.contains(&stamp));
            ensure!(
                stamp == wanted || doubtful,
                "block {block} holds stamp {stamp}, but up to {last} it was {wanted}"
            );
        }
        Ok(last)
    }

    fn stamps(&self, client: &mut NbdClient) -> Result<BTreeMap<u64, u64>> {
        let mut found = BTreeMap::new();
        let step = 256;
        for first in (0..self.blocks).step_by(256) {
            let count = step.min(self.blocks - first);
            let data = client.read(first * BLOCK as u64, usize::try_from(count)? * BLOCK)?;
            for (block, bytes) in (first..).zip(data.chunks(BLOCK)) {
                let stamp = u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]));
                let sound = if stamp == 0 {
                    bytes.iter().all(|byte| *byte == 0)
                } else {
                    bytes == stamped(block, stamp).as_slice()
                };
                ensure!(
                    sound,
                    "block {block} holds what nobody wrote there, stamp {stamp}"
                );
                found.insert(block, stamp);
            }
        }
        Ok(found)
    }
}

/// A block's bytes: its stamp, and something that depends on both and does not compress away.
fn stamped(block: u64, stamp: u64) -> Vec<u8> {
    let mut bytes = stamp.to_le_bytes().to_vec();
    let mut mixed = stamp ^ block.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15;
    while bytes.len() < BLOCK {
        mixed ^= mixed << 13;
        mixed ^= mixed >> 7;
        mixed ^= mixed << 17;
        bytes.extend(mixed.to_le_bytes());
    }
    bytes
}
