//! PURE. The engine: what happens to every request, and when.
//!
//! One engine is one epoch of one disk. Its driver hands it what happened and the time, performs what it asks for, and tells it
//! what came of that. See `docs/flows/disk-write.md` for a write's way.

mod authority;
mod checkpoints;
mod collect;
mod journal;
mod pins;
mod port;
mod reads;
mod state;
mod stats;
mod timers;
mod upload;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use port::{
    Config, Durability, Etag, GotHead, HeadPut, Input, Mutant, OnOutage, Outcome, Output, PutOutcome, ReadId,
    ReadPart, Request, RequestId, SealJob, Stopped,
};
pub(crate) use state::Start;
pub use stats::{Lag, Stats, Written};
pub(crate) use upload::apply_object;

use authority::Authority;
use checkpoints::{InFlightCheckpoint, SnapshotWish};
use collect::Collection;
use journal::Ring;
use pins::Pins;
use reads::ReadPin;
use timers::{Timers, Wake};
use upload::Upload;
use writes::{FlushWait, InFlightRecord, PendingWrite};

use crate::batch::{Batch, Journaled};
use crate::extent_map::{ExtentMap, LostLeaf, PageStore};
use crate::head::Head;
use crate::objects::{ObjectName, Objects};
use crate::pressure::DrainRate;
use crate::runs::RunMap;
use crate::{Epoch, LeafRef, Lineage, ObjectSeq, Salt, Sealer, Seq, Time};

/// The data plane of one disk.
#[derive(Debug)]
pub struct Engine<S> {
    config: Config,
    sealer: Arc<Sealer>,
    lineage: Lineage,
    salt: Salt,
    epoch: Epoch,
    now: Time,
    stopped: Option<Stopped>,

    // Writes, in the order of their records.
    pending: VecDeque<PendingWrite>,
    in_flight: VecDeque<InFlightRecord>,
    ring: Ring,
    applied_seq: Seq,
    synced_seq: Seq,
    sync_to: Option<Seq>,
    flushes: Vec<FlushWait>,
    /// What is done, and not told yet: by the time it may be told, in order.
    outbox: BTreeMap<(Time, u64), (RequestId, Outcome)>,
    outbox_next: u64,
    last_ready: Time,

    // What only the journal has.
    journaled: RunMap<Journaled>,
    batch: Batch,
    batch_since: Option<Time>,
    uploads: VecDeque<Upload>,
    drain: DrainRate,

    // What the object store has.
    head: Head,
    etag: Etag,
    authority: Authority,
    resized: bool,
    map: ExtentMap<S>,
    leaves: BTreeMap<u32, LeafRef>,
    objects: Objects,
    next_object: ObjectSeq,
    /// The last data object of the prefix without a gap, and the last record that it covers.
    data_seq: ObjectSeq,
    durable_seq: Seq,
    /// The last record that an object covers: behind it there may be pads.
    covered_seq: Seq,

    // Checkpoints, snapshots, deletions, collection.
    checkpoint: Option<InFlightCheckpoint>,
    next_checkpoint: u64,
    objects_since_checkpoint: u64,
    checkpoint_wanted: bool,
    snapshot_wishes: Vec<SnapshotWish>,
    pins: Pins,
    graves: BTreeMap<ObjectName, ReadId>,
    deleting: BTreeSet<ObjectName>,
    collection: Collection,
    /// Whether the table of objects has changed since it was last looked over for garbage.
    collection_due: bool,
    /// The next may begin then: collection is to leave the store to others, too.
    collection_not_before: Time,
    written: Written,
    unreadable: BTreeSet<ObjectSeq>,

    reads: BTreeMap<ReadId, ReadPin>,
    next_read: ReadId,
    timers: Timers,
}

impl<S: PageStore> Engine<S> {
    /// Takes in what happened at `now` and appends what is to be done to `out`.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        assert!(now >= self.now, "time went back from {} to {now}", self.now);
        self.now = now;
        if let Err(lost) = self.take(input, out).and_then(|()| self.advance(out)) {
            self.stop(Stopped::Map { leaf: lost.leaf }, out);
        }
        self.tell(out);
    }

    /// Returns when [`Input::Tick`] is due at the latest, unless something else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.stopped.is_some() {
            return None;
        }
        let told = self
            .outbox
            .first_key_value()
            .map(|((ready, _), _)| *ready)
            .filter(|ready| *ready > self.now);
        let batch = self
            .batch_since
            .map(|since| since.plus(self.config.batch_us))
            .filter(|due| *due > self.now);
        let collection = Some(self.collection_not_before).filter(|at| self.collection_due && *at > self.now);
        [
            told,
            batch,
            collection,
            self.superblock_due().filter(|at| *at > self.now),
            self.timers.next(),
            self.authority.next_look(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn take(&mut self, input: Input, out: &mut Vec<Output>) -> Result<(), LostLeaf> {
        if self.stopped.is_some() {
            if let Input::Request { id, .. } = input {
                out.push(Output::Complete {
                    request: id,
                    outcome: Outcome::Failed,
                });
            }
            return Ok(());
        }
        match input {
            Input::Tick => {}
            Input::Request { id, request } => return self.request(id, request, out),
            Input::SetDurability(durability) => self.config.durability = durability,
            Input::SetOutage { on_outage, lag } => {
                self.config.on_outage = on_outage;
                self.config.lag_bytes_max = lag.bytes;
                self.config.lag_us_max = lag.micros;
            }
            Input::Appended { seq, done: true } => self.appended(seq),
            Input::Appended { done: false, .. } | Input::Synced { done: false } => {
                self.stop(Stopped::Journal, out);
            }
            Input::Synced { done: true } => self.synced(),
            Input::SuperblockWritten { done: true } => self.ring.superblock_written(),
            Input::SuperblockWritten { done: false } => self.stop(Stopped::Journal, out),
            Input::ReadDone { read, done } => self.read_done(read, done),
            Input::Sealed { seq, object } => self.sealed(seq, object, out),
            Input::Put { name, outcome } => return self.put(name, outcome, out),
            Input::Head { asked, got } => self.head_got(asked, got, out),
            Input::HeadPut { outcome } => self.head_put(outcome, out),
            Input::Deleted { name, done } => self.deleted(name, done),
            Input::Layout { object, layout } => return self.layout(object, layout, out),
            Input::Sweep { names } => self.sweep(&names),
            Input::Pins { asked, pins } => self.pins_got(asked, pins),
        }
        Ok(())
    }

    /// Does everything that has become possible.
    fn advance(&mut self, out: &mut Vec<Output>) -> Result<(), LostLeaf> {
        if self.stopped.is_some() {
            return Ok(());
        }
        for wake in self.timers.due(self.now) {
            self.wake(wake, out);
        }
        self.advance_authority(out);
        self.apply_records()?;
        self.append_records(out);
        self.advance_sync(out);
        self.advance_uploads(out)?;
        self.advance_collection(out)?;
        self.advance_checkpoint(out)?;
        self.advance_head(out);
        if std::mem::take(&mut self.resized) {
            out.push(Output::Resized {
                size_blocks: self.head.size_blocks,
            });
        }
        self.advance_pins(out);
        self.advance_deletions(out);
        self.advance_ring(out);
        self.finish_flushes();
        Ok(())
    }

    fn wake(&mut self, wake: Wake, out: &mut Vec<Output>) {
        match wake {
            Wake::Put(name) => self.put_again(name, out),
            Wake::Delete(name) => {
                self.deleting.remove(&name);
            }
            Wake::Head => self.authority.look_again(),
            Wake::Layout(object) => self.layout_again(object, out),
            Wake::Pins => self.pins.look_again(),
        }
    }

    /// Stops for good: nothing is acknowledged any more, nothing is written, and every request fails.
    fn stop(&mut self, why: Stopped, out: &mut Vec<Output>) {
        if self.stopped.is_some() {
            return;
        }
        let waiting: Vec<RequestId> = std::mem::take(&mut self.outbox)
            .into_values()
            .map(|(request, _)| request)
            .chain(
                self.in_flight
                    .drain(..)
                    .flat_map(|record| record.requests)
                    .map(|(request, _)| request),
            )
            .chain(self.pending.drain(..).map(|write| write.request))
            .chain(self.flushes.drain(..).map(|flush| flush.request))
            .chain(
                std::mem::take(&mut self.reads)
                    .into_values()
                    .map(|read| read.request),
            )
            .chain(self.snapshot_wishes.drain(..).map(|wish| wish.request))
            .chain(self.authority.drop_wishes())
            .collect();
        for request in waiting {
            out.push(Output::Complete {
                request,
                outcome: Outcome::Failed,
            });
        }
        self.stopped = Some(why);
        out.push(Output::Stopped { why });
    }

    /// Tells guests what is done, as far as that is still ours to tell.
    fn tell(&mut self, out: &mut Vec<Output>) {
        if self.stopped.is_some() || !self.may_tell() {
            return;
        }
        while let Some(entry) = self.outbox.first_entry()
            && entry.key().0 <= self.now
        {
            let (request, outcome) = entry.remove();
            out.push(Output::Complete { request, outcome });
        }
    }

    fn finish(&mut self, ready: Time, request: RequestId, outcome: Outcome) {
        self.outbox.insert((ready, self.outbox_next), (request, outcome));
        self.outbox_next += 1;
    }

    fn take_object_seq(&mut self) -> ObjectSeq {
        let seq = self.next_object;
        self.next_object = seq.next();
        seq
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }
}

#[cfg(test)]
mod tests;
