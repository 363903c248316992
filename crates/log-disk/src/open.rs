//! PURE. Opening a disk: claim it, load its map, find where its objects end, and take up what its journal has beyond.

mod finish;
mod judge;
mod load;
mod rollback;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use judge::{JournalState, judge_journal};
pub(crate) use load::{LoadLeaves, front_part, open_front};
pub use load::{WantedPart, WantedParts};
pub(crate) use steps::HEAD_FLAWS_MAX;
use steps::Step;

use crate::engine::{Config, Engine, Etag, GotHead, HeadPut, Mutant, PutOutcome};
use crate::extent_map::PageStore;
use crate::head::Head;
use crate::objects::ObjectName;
use crate::{
    DiskId, Epoch, Flaw, JournalId, LeafRef, Lineage, ObjectSeq, Objects, Record, Salt, Sealer, Seq,
    Superblock, Time,
};

/// What an opening is to work with.
#[derive(Debug)]
pub struct OpenOptions<S> {
    /// How the disk is to be served.
    pub config: Config,
    /// Its keys.
    pub sealer: Arc<Sealer>,
    /// The keys of the disks that it was forked from, one for each of [`Head::bases`].
    pub bases: Vec<Arc<Sealer>>,
    /// Random, drawn for this opening.
    pub salt: Salt,
    /// Random, drawn for this opening: the journal's name if it is formatted now.
    pub new_journal: JournalId,
    /// Pages of the slice after the superblocks.
    pub ring_pages: u64,
    /// Whether a journal that must not be replayed is formatted; otherwise the opening fails.
    pub discard_stale_journal: bool,
    /// Whether a journal that is damaged is given up, with all that only it has; otherwise the opening fails.
    pub discard_damaged_journal: bool,
    /// The snapshot that the disk is to be again, whatever was written since; also what only the journal has is given up.
    pub roll_back_to: Option<String>,
    /// Whether to go on without waiting for the former owner's time to end. If it still runs, what it answers meanwhile may
    /// be lost, flushed in [`Durability::Remote`](crate::Durability::Remote) or not.
    pub force: bool,
    /// Where leaves of the map are kept that memory has no room for.
    pub pages: Option<S>,
}

/// What the driver is to do next, one thing at a time; it tries again itself until it has a definite answer.
#[derive(Debug)]
pub enum Ask<S> {
    /// Read the slice's first two pages; answer with [`Answer::Superblocks`].
    ReadSuperblocks,
    /// Look at HEAD; answer with [`Answer::Head`].
    GetHead,
    /// Replace HEAD if it still carries the version; answer with [`Answer::HeadPut`].
    PutHead {
        /// Which version it must have.
        expected: Etag,
        /// What it becomes.
        body: Bytes,
    },
    /// Wait; answer with [`Answer::Done`] then.
    WaitUntil(Time),
    /// Read parts of objects; answer with [`Answer::Got`], in the same order.
    Get(WantedParts),
    /// Put an object of this disk if absent; answer with [`Answer::Put`].
    Put {
        /// Its name.
        name: ObjectName,
        /// Its bytes.
        body: Bytes,
    },
    /// List every data object whose seq is above; answer with [`Answer::Listed`].
    ListData {
        /// Which seq.
        after: ObjectSeq,
    },
    /// Read pages of the ring; answer with [`Answer::Ring`].
    ReadRing {
        /// Where, in pages.
        position: u64,
        /// How many; they do not wrap.
        pages: u64,
    },
    /// Make durable what was ever written to the ring; answer with [`Answer::Done`].
    SyncRing,
    /// Write the superblock into page 0, make that durable, then the same with page 1; answer with [`Answer::Done`].
    WriteSuperblock(Superblock),
    /// The disk is open.
    Ready(Box<Engine<S>>),
    /// It cannot be opened.
    Failed(OpenError),
}

/// What came of an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// The two pages; `None` when the slice cannot be read.
    Superblocks(Option<[Vec<u8>; 2]>),
    /// HEAD; [`GotHead::Unknown`] is asked for again.
    Head(GotHead),
    /// The swap.
    HeadPut(HeadPut),
    /// The bytes, `None` where there is no such object.
    Got(Vec<Option<Bytes>>),
    /// What the store made of it.
    Put(PutOutcome),
    /// The names, in any order.
    Listed(Vec<ObjectName>),
    /// The pages; `None` when they cannot be read.
    Ring(Option<Vec<u8>>),
    /// Done.
    Done,
}

/// Why a disk could not be opened. Nothing is ever given up silently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no HEAD: an operator can have it rebuilt.
    #[error("HEAD is missing")]
    HeadMissing,
    /// HEAD cannot be read.
    #[error("HEAD: {flaw}")]
    HeadDamaged {
        /// Why.
        flaw: Flaw,
    },
    /// Another host claimed the disk meanwhile.
    #[error("claimed by another host, epoch {by}")]
    Claimed {
        /// In which epoch.
        by: Epoch,
    },
    /// The journal holds what the surviving history does not: it must not be replayed.
    #[error(
        "the journal is of epoch {journal}, the disk went on in epoch {disk}: keep the slice aside or discard it"
    )]
    StaleJournal {
        /// The journal's.
        journal: Epoch,
        /// The disk's.
        disk: Epoch,
    },
    /// The slice is another disk's.
    #[error("the journal belongs to another disk")]
    ForeignJournal,
    /// The journal ends before what was known to be durable in it, and the store does not have the rest.
    #[error("the journal is damaged: record {seq} was durable and cannot be read")]
    JournalDamaged {
        /// The first that is missing.
        seq: Seq,
    },
    /// An object that the disk needs is missing.
    #[error("object {key} is missing")]
    ObjectMissing {
        /// Its key.
        key: String,
    },
    /// An object that the disk needs cannot be read.
    #[error("object {key}: {flaw}")]
    ObjectDamaged {
        /// Its key.
        key: String,
        /// Why.
        flaw: Flaw,
    },
    /// Objects are missing between those that are there and what the journal goes on with.
    #[error("objects are missing: they end with record {stored}, the journal begins with {journal}")]
    Gap {
        /// The last record that objects hold.
        stored: Seq,
        /// The first that the journal holds.
        journal: Seq,
    },
    /// Neither superblock can be read, and the slice is not new.
    #[error("the journal is damaged: neither superblock can be read")]
    SuperblockDamaged,
    /// The disk was deleted.
    #[error("the disk was deleted")]
    Deleted,
    /// The key of a disk that this one was forked from was not given.
    #[error("no key was given for disk {disk}, which this one was forked from")]
    NoKey {
        /// Which.
        disk: DiskId,
    },
    /// There is no such snapshot to go back to.
    #[error("there is no snapshot {name}")]
    NoSnapshot {
        /// Its name.
        name: String,
    },
    /// Another writer has the same epoch.
    #[error("another writer has the same epoch")]
    Twin,
    /// A format of another version.
    #[error("the journal: {flaw}")]
    Journal {
        /// Which.
        flaw: Flaw,
    },
    /// The slice that holds the map's leaves failed.
    #[error("leaf {leaf} of the map was lost while it was loaded")]
    Map {
        /// Which.
        leaf: u32,
    },
}

/// An opening under way.
#[derive(Debug)]
pub struct Opening<S> {
    options: OpenOptions<S>,
    step: Step,
    found: Found,
    map: Option<crate::ExtentMap<S>>,
    lineage: Option<Lineage>,
    head_flaws: u32,
}

/// What has been found out so far.
#[derive(Debug)]
struct Found {
    now: Time,
    superblock: Option<Superblock>,
    /// Whether the journal is replayed.
    replays: bool,
    /// Whether the former owner is somebody else, who may still run.
    somebody_else: bool,
    /// The checkpoint that goes back to a snapshot.
    turned_back: Option<crate::CheckpointRef>,
    head: Option<Head>,
    etag: Option<Etag>,
    /// HEAD as it will be when the swap under way is done, and when that was asked for.
    wanted: Option<Head>,
    asked: Time,
    leaves: BTreeMap<u32, LeafRef>,
    objects: Objects,
    data_seq: ObjectSeq,
    durable_seq: Seq,
    replayed_objects: u64,
    /// The highest seq seen anywhere.
    highest: ObjectSeq,
    records: Vec<Record>,
    ring_end: Option<crate::ScanEnd>,
}

impl<S: PageStore> Opening<S> {
    /// Begins; the first [`Ask`] comes with it.
    pub fn new(options: OpenOptions<S>) -> (Self, Ask<S>) {
        let found = Found {
            now: Time(0),
            superblock: None,
            replays: false,
            somebody_else: false,
            turned_back: None,
            head: None,
            etag: None,
            wanted: None,
            asked: Time(0),
            leaves: BTreeMap::new(),
            objects: Objects::default(),
            data_seq: ObjectSeq(0),
            durable_seq: Seq(0),
            replayed_objects: 0,
            highest: ObjectSeq(0),
            records: Vec::new(),
            ring_end: None,
        };
        let opening = Self {
            options,
            step: Step::Superblocks,
            found,
            map: None,
            lineage: None,
            head_flaws: 0,
        };
        (opening, Ask::ReadSuperblocks)
    }

    /// Takes an answer in at `now` and returns what is to be done next.
    pub fn answer(&mut self, now: Time, answer: Answer) -> Ask<S> {
        self.found.now = now;
        match self.proceed(answer) {
            Ok(ask) => ask,
            Err(why) => Ask::Failed(why),
        }
    }

    /// The disk's keys and those of the ones before it: known once HEAD was read.
    fn lineage(&self) -> &Lineage {
        match &self.lineage {
            Some(lineage) => lineage,
            None => unreachable!("HEAD was read in the second step"),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.options.config.mutant == Some(mutant)
    }
}

#[cfg(test)]
mod tests;
