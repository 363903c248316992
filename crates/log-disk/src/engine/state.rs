//! PURE. How an engine begins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::authority::Authority;
use super::collect::Collection;
use super::journal::{Ring, Span};
use super::pins::Pins;
use super::timers::Timers;
use super::writes::Change;
use super::{Config, Engine, Etag, ReadId, Stopped, Written};
use crate::batch::Batch;
use crate::extent_map::{ExtentMap, PageStore};
use crate::head::Head;
use crate::objects::Objects;
use crate::pressure::DrainRate;
use crate::runs::RunMap;
use crate::{
    DiskId, Epoch, LeafRef, Lineage, ObjectSeq, Record, RecordKind, Salt, Sealer, Seq, Superblock, Time,
};

/// What an opening has found out.
#[derive(Debug)]
pub(crate) struct Start<S> {
    pub(crate) config: Config,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) lineage: Lineage,
    pub(crate) salt: Salt,
    pub(crate) now: Time,
    pub(crate) head: Head,
    pub(crate) etag: Etag,
    /// When HEAD was last asked for and found to be ours.
    pub(crate) confirmed: Time,
    pub(crate) map: ExtentMap<S>,
    pub(crate) leaves: BTreeMap<u32, LeafRef>,
    pub(crate) objects: Objects,
    pub(crate) next_object: ObjectSeq,
    pub(crate) data_seq: ObjectSeq,
    pub(crate) durable_seq: Seq,
    pub(crate) objects_since_checkpoint: u64,
    pub(crate) superblock: Superblock,
    /// Records of the journal that the store does not have, oldest first.
    pub(crate) records: Vec<Record>,
    pub(crate) next_position: u64,
    pub(crate) next_seq: Seq,
    pub(crate) last_crc: u32,
}

impl<S: PageStore> Engine<S> {
    pub(crate) fn new(start: Start<S>) -> Self {
        let Start {
            config,
            now,
            head,
            superblock,
            ..
        } = start;
        let epoch = head.epoch;
        let next_checkpoint = head.checkpoint.map_or(1, |checkpoint| checkpoint.number + 1);
        let last_seq = Seq(start.next_seq.0 - 1);
        let mut engine = Self {
            salt: start.salt,
            sealer: start.sealer,
            lineage: start.lineage,
            epoch,
            now,
            stopped: None,
            pending: VecDeque::new(),
            in_flight: VecDeque::new(),
            ring: Ring {
                spans: VecDeque::new(),
                next_position: start.next_position,
                next_seq: start.next_seq,
                last_crc: start.last_crc,
                superblock,
                superblock_since: now,
                writing: None,
            },
            applied_seq: last_seq,
            synced_seq: last_seq,
            sync_to: None,
            flushes: Vec::new(),
            outbox: BTreeMap::new(),
            outbox_next: 0,
            last_ready: now,
            journaled: RunMap::default(),
            batch: Batch::default(),
            batch_since: None,
            uploads: VecDeque::new(),
            drain: DrainRate::new(now),
            head,
            etag: start.etag,
            authority: Authority::new(start.confirmed, &config),
            resized: false,
            map: start.map,
            leaves: start.leaves,
            objects: start.objects,
            next_object: start.next_object,
            data_seq: start.data_seq,
            durable_seq: start.durable_seq,
            covered_seq: start.durable_seq,
            checkpoint: None,
            next_checkpoint,
            objects_since_checkpoint: start.objects_since_checkpoint,
            checkpoint_wanted: false,
            snapshot_wishes: Vec::new(),
            pins: Pins::new(),
            graves: BTreeMap::new(),
            deleting: BTreeSet::new(),
            collection: Collection::Idle,
            collection_not_before: now,
            written: Written::default(),
            collection_due: true,
            unreadable: BTreeSet::new(),
            reads: BTreeMap::new(),
            next_read: ReadId(0),
            timers: Timers::new(start.salt.0, config.retry_us),
            config,
        };
        for record in &start.records {
            engine.take_up(record);
        }
        engine.dig_graves();
        engine
    }

    /// Takes a record of an earlier life in, as if it had just been written and made durable.
    fn take_up(&mut self, record: &Record) {
        let header = record.header;
        self.ring.spans.push_back(Span {
            seq: header.seq,
            position: header.position,
            end: header.end(),
            previous_crc: header.previous_crc,
            epoch: header.epoch,
            since: self.now,
        });
        if header.kind == RecordKind::Writes {
            let changes: Vec<Change> = Change::of(record);
            self.apply_changes(header.seq, header.position, header.end(), &changes);
        }
    }

    /// Returns the disk's size in blocks.
    #[must_use]
    pub fn size_blocks(&self) -> u64 {
        self.head.size_blocks
    }

    /// Returns the epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns HEAD as it was last confirmed.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns why the engine stopped, if it did.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Returns an object's name, for a read that was asked for.
    #[must_use]
    pub fn object_name(&self, object: ObjectSeq) -> Option<crate::ObjectName> {
        self.objects.name(object)
    }

    /// Returns the disk below whose prefix an object lies: this one, or one that it was forked from.
    #[must_use]
    pub fn home(&self, object: ObjectSeq) -> DiskId {
        self.lineage.home(object)
    }

    /// Returns what opens an object's layout and extents.
    #[must_use]
    pub fn sealer_of(&self, object: ObjectSeq) -> &Arc<Sealer> {
        self.lineage.sealer(object)
    }

    /// Says whether nothing is left to be done for what was asked for so far: all of it is in the store, nothing is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.durable_seq >= self.applied_seq
            && self.pending.is_empty()
            && self.in_flight.is_empty()
            && self.outbox.is_empty()
            && self.uploads.is_empty()
            && self.checkpoint.is_none()
            && !self.checkpoint_wanted
            && self.collection.is_idle()
            && !self.collection_due
            && self.authority.is_settled()
            && self.pins.is_settled()
            && self.graves.is_empty()
            && self.deleting.is_empty()
            && self.reads.is_empty()
    }

    /// Returns the objects that there should be.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }
}
