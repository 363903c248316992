//! PURE. Figures for people.

use super::Engine;
use crate::Seq;
use crate::extent_map::PageStore;
use crate::objects::Role;

/// How far behind the object store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Bytes of records that only the journal has.
    pub bytes: u64,
    /// Age of the oldest of them, in microseconds.
    pub micros: u64,
}

/// Bytes written since a disk was opened. The last three by the first are the write amplification of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// By guests.
    pub guest_bytes: u64,
    /// Into the journal.
    pub journal_bytes: u64,
    /// Data objects that count.
    pub data_bytes: u64,
    /// GC objects that count.
    pub gc_bytes: u64,
    /// Checkpoints that HEAD named.
    pub checkpoint_bytes: u64,
}

/// What an operator may want to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// The last record accepted.
    pub accepted_seq: Seq,
    /// The last one of those that are written without a gap.
    pub applied_seq: Seq,
    /// The last one that is durable here.
    pub journaled_seq: Seq,
    /// The last one that the object store has, without a gap.
    pub durable_seq: Seq,
    /// What is missing there.
    pub lag: Lag,
    /// Thousandths of the ring in use.
    pub ring_permille: u64,
    /// Blocks with data in objects of ours that are not dead.
    pub stored_blocks: u64,
    /// Those of them that the map refers to; the others are garbage.
    pub live_blocks: u64,
    /// Blocks of other disks that the map refers to: of those that this one was forked from.
    pub inherited_blocks: u64,
    /// Garbage beyond what is tolerated, in blocks: what collection is behind.
    pub gc_debt_blocks: u64,
    /// Bytes of all objects of ours in the store, dead ones and checkpoints included.
    pub stored_bytes: u64,
    /// Bytes of those that nothing but snapshots and forks need, or nobody any more.
    pub dead_bytes: u64,
    /// What was written since the disk was opened.
    pub written: Written,
    /// Objects that exist, dead ones included.
    pub objects: u64,
    /// Runs of the map in memory.
    pub map_runs: usize,
    /// Objects being sealed or put.
    pub uploads: usize,
}

impl<S: PageStore> Engine<S> {
    /// Returns figures for people; costs a look at every object.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            accepted_seq: Seq(self.ring.next_seq.0 - 1),
            applied_seq: self.applied_seq,
            journaled_seq: self.synced_seq,
            durable_seq: self.durable_seq,
            lag: self.lag(),
            ring_permille: self.ring.fill_permille(),
            map_runs: self.map.runs_in_memory(),
            uploads: self.uploads.len(),
            written: self.written,
            ..Stats::default()
        };
        for (_, facts) in self.objects.own() {
            stats.objects += 1;
            stats.stored_bytes += facts.bytes;
            if facts.dead != 0 {
                stats.dead_bytes += facts.bytes;
            } else if facts.role != Role::Checkpoint {
                stats.stored_blocks += facts.blocks;
                stats.live_blocks += facts.live;
            }
        }
        let all: u64 = self.objects.iter().map(|(_, facts)| data_live(facts)).sum();
        let own: u64 = self.objects.own().map(|(_, facts)| data_live(facts)).sum();
        stats.inherited_blocks = all - own;
        let tolerated = stats.stored_blocks * self.config.gc.garbage_permille / 1000;
        stats.gc_debt_blocks = (stats.stored_blocks - stats.live_blocks).saturating_sub(tolerated);
        stats
    }
}

fn data_live(facts: &crate::ObjectFacts) -> u64 {
    if facts.role == Role::Checkpoint {
        0
    } else {
        facts.live
    }
}
