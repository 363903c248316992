//! PURE. What the engine is told and what it asks for.

use bytes::Bytes;

use crate::gc_plan::GcLimits;
use crate::objects::ObjectName;
use crate::{
    Compression, Epoch, Lag, Layout, Lba, ObjectHeader, ObjectSeq, Pin, SealedObject, Seq, Source,
    Superblock, Time, ToSeal,
};

/// A request's number, chosen by the driver; not used again while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A read's number, +1 each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// The object store's compare-and-swap token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(pub String);

/// When a flush, or a write with FUA, is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once the journal is durable on this host.
    Local,
    /// Once the object store has it and every write before it.
    Remote,
    /// At once: for what may be lost.
    None,
}

/// What happens while the object store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// Answers cease when nobody has confirmed for [`Config::authority_us`] that this is still the owner, so that another host
    /// can claim the disk without force; and writes cease when the lag reaches its bounds.
    Stop,
    /// Writes go on until the journal is nearly full. A claim by another host needs force and may lose what was not uploaded.
    Ride,
}

/// How a disk is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// When a flush is answered.
    pub durability: Durability,
    /// What an outage of the store means.
    pub on_outage: OnOutage,
    /// For how long a look at HEAD confirms ownership, in microseconds, from the moment that it was asked for.
    pub authority_us: u64,
    /// Bound of what only the journal has, in bytes.
    pub lag_bytes_max: u64,
    /// Bound of the age of what only the journal has, in microseconds.
    pub lag_us_max: u64,
    /// Blocks of data of a full object; 2,048 are 8 MiB.
    pub object_blocks: u64,
    /// How long a batch stays open at most, in microseconds.
    pub batch_us: u64,
    /// Most objects being sealed or put.
    pub uploads_max: usize,
    /// Most records being written.
    pub appends_max: usize,
    /// Most blocks of data of a record, from 16 to [`RECORD_BLOCKS_MAX`](crate::RECORD_BLOCKS_MAX); the ring has room for four.
    pub record_blocks: u64,
    /// Data objects from one checkpoint to the next.
    pub checkpoint_objects: u64,
    /// Garbage collection.
    pub gc: GcLimits,
    /// Most bytes a second that collection puts into the store, on average; 0 for no bound.
    pub gc_bytes_per_s: u64,
    /// How new extents are compressed.
    pub compression: Compression,
    /// First and longest pause before a request to the store is made again, in microseconds.
    pub retry_us: (u64, u64),
    /// Most runs of the map in memory.
    pub map_runs_max: usize,
    /// A mistake made on purpose, so that tests show that they would notice.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::Local,
            on_outage: OnOutage::Ride,
            authority_us: 10_000_000,
            lag_bytes_max: 1 << 30,
            lag_us_max: 30_000_000,
            object_blocks: 2048,
            batch_us: 2_000_000,
            uploads_max: 8,
            appends_max: 4,
            record_blocks: crate::RECORD_BLOCKS_MAX,
            checkpoint_objects: 500,
            gc: GcLimits {
                garbage_permille: 200,
                live_permille_max: 600,
                blocks_max: 2048,
            },
            gc_bytes_per_s: 0,
            compression: Compression::Lz4,
            retry_us: (100_000, 20_000_000),
            map_runs_max: 1 << 20,
            mutant: None,
        }
    }
}

/// Mistakes that others have made; see [`Config::mutant`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A flush counts records behind one that is still being written.
    FlushOverHole,
    /// Recovery takes any record with the right number.
    TrustTail,
    /// Records take effect in the order in which their writes end.
    CompletionOrder,
    /// Collection drops what a write that is not uploaded yet has replaced.
    CollectAgainstFuture,
    /// What was collected replaces whatever stands in the map.
    CollectOverNewer,
    /// The map is switched before the store has confirmed the object.
    SwitchBeforePut,
    /// What is no longer referred to is deleted before a checkpoint says so.
    DeleteBeforeCommit,
    /// Zeroes change the map only.
    ForgetZeroes,
    /// Objects of a former epoch count whenever they arrive.
    LateObjectsCount,
    /// A failed compare-and-swap is taken for another owner's without looking.
    OwnSwapIsFencing,
    /// Answers go on after the time that HEAD was last looked at.
    ZombieAnswers,
    /// The journal is given up to the newest object, whatever is missing before it.
    TrimOverGap,
    /// What forks need is not looked up again once a snapshot is gone.
    OldPins,
    /// A fork is made without a pin.
    ForkWithoutPin,
    /// A fork is made without looking whether the snapshot outlived the pin's making.
    ForkOfWhatWas,
    /// A fork's pins go before its HEAD says that it is deleted.
    PinGoesFirst,
}

/// What a guest wants. Addresses are in range and not empty: the export has checked that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The blocks, from wherever they are.
    Read {
        /// First block.
        lba: Lba,
        /// How many.
        blocks: u64,
    },
    /// Whole blocks.
    Write {
        /// First block.
        lba: Lba,
        /// The bytes.
        data: Bytes,
        /// Whether the answer says that it, and everything before it, is durable.
        fua: bool,
    },
    /// Zeros: write-zeroes and discard alike.
    Zero {
        /// First block.
        lba: Lba,
        /// How many.
        blocks: u64,
        /// As for a write.
        fua: bool,
    },
    /// Everything answered so far is to be durable.
    Flush,
    /// More room at the end, in blocks; never less.
    Grow {
        /// The new size.
        size_blocks: u64,
    },
    /// Keep this moment under a name.
    Snapshot {
        /// 1 to 255 bytes.
        name: String,
    },
    /// Give a kept moment up.
    RemoveSnapshot {
        /// Its name.
        name: String,
    },
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked for.
    Done,
    /// Not, and nothing is known of whether it had an effect.
    Failed,
    /// Not, and it had none: the name is taken or unknown, the size is smaller, there are too many snapshots.
    Refused,
}

/// What the store made of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is there. Also when these very bytes stood there already.
    Stored,
    /// Other bytes stand there.
    Taken,
    /// Nobody knows.
    Unknown,
}

/// What a look at HEAD showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GotHead {
    /// The object.
    Found {
        /// Its bytes.
        bytes: Bytes,
        /// Its version.
        etag: Etag,
    },
    /// There is none. Never guessed: a store that does not answer is [`GotHead::Unknown`].
    Missing,
    /// No answer, or not a whole one.
    Unknown,
}

/// What a compare-and-swap of HEAD came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadPut {
    /// It is now as asked for.
    Stored(Etag),
    /// It carries another version.
    Stale,
    /// Nobody knows.
    Unknown,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A guest wants something.
    Request {
        /// Its number.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// The operator chose otherwise; holds for flushes from now on.
    SetDurability(Durability),
    /// The operator chose otherwise; holds from now on.
    SetOutage {
        /// See [`Config::on_outage`].
        on_outage: OnOutage,
        /// See [`Config::lag_bytes_max`] and [`Config::lag_us_max`].
        lag: Lag,
    },
    /// A record was written, not made durable.
    Appended {
        /// Which.
        seq: Seq,
        /// Whether all of it was.
        done: bool,
    },
    /// Everything that had been written when [`Output::Sync`] was asked for is durable.
    Synced {
        /// Whether it is.
        done: bool,
    },
    /// The superblock was written and is durable.
    SuperblockWritten {
        /// Whether it is.
        done: bool,
    },
    /// A read's parts were read and verified, or some could not be.
    ReadDone {
        /// Which.
        read: ReadId,
        /// Whether all were.
        done: bool,
    },
    /// An object was put together; `None` when its parts could not be read.
    Sealed {
        /// Which.
        seq: ObjectSeq,
        /// All of it.
        object: Option<SealedObject>,
    },
    /// A put ended.
    Put {
        /// Of what.
        name: ObjectName,
        /// How.
        outcome: PutOutcome,
    },
    /// A look at HEAD ended.
    Head {
        /// When it was asked for, as [`Output::GetHead`] said.
        asked: Time,
        /// What it showed.
        got: GotHead,
    },
    /// A compare-and-swap of HEAD ended.
    HeadPut {
        /// How.
        outcome: HeadPut,
    },
    /// A delete ended.
    Deleted {
        /// Of what.
        name: ObjectName,
        /// Whether it is certain that the object is gone.
        done: bool,
    },
    /// An object's front was read; `None` when it could not be for now.
    Layout {
        /// Which object's.
        object: ObjectSeq,
        /// What it says.
        layout: Option<Layout>,
    },
    /// A list of the pins ended.
    Pins {
        /// When it was asked for, as [`Output::ListPins`] said.
        asked: u64,
        /// All of them; `None` when there was no answer, or none on one page.
        pins: Option<Vec<Pin>>,
    },
    /// These objects were in the store a moment ago; those that nobody needs are to go.
    Sweep {
        /// Their names.
        names: Vec<ObjectName>,
    },
}

/// One part of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPart {
    /// First block.
    pub lba: Lba,
    /// How many; they may run over several extents of the object.
    pub blocks: u64,
    /// Where they lie; `None` for zeros.
    pub source: Option<Source>,
}

/// An object to be put together: read the sources, then call [`seal_object`](crate::seal_object).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealJob {
    /// What it is.
    pub header: ObjectHeader,
    /// What it holds.
    pub runs: Vec<ToSeal>,
    /// How it is compressed.
    pub compression: Compression,
}

/// Why an engine stopped for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Another owner has claimed the disk.
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
    /// HEAD is gone, damaged, or not what it can be.
    Head,
    /// Another writer has our epoch.
    Twin,
    /// The journal cannot be written: what is in it is in doubt. Opening anew decides by what is there.
    Journal,
    /// A leaf of the map was lost; opening anew rebuilds it.
    Map {
        /// Which.
        leaf: u32,
    },
    /// What the journal held could not be read back for an upload.
    Unreadable {
        /// The object that it was for.
        object: ObjectSeq,
    },
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Tell the guest. A read's data goes with it.
    Complete {
        /// Which request.
        request: RequestId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Write these pages at `position` of the ring; answer with [`Input::Appended`]. Several may run at once.
    Append {
        /// The record.
        seq: Seq,
        /// Where, in pages.
        position: u64,
        /// Whole pages.
        bytes: Bytes,
    },
    /// Make durable what was written so far; answer with [`Input::Synced`].
    Sync,
    /// Write the superblock into page 0, make that durable, then the same with page 1; answer with [`Input::SuperblockWritten`].
    WriteSuperblock {
        /// What.
        superblock: Superblock,
    },
    /// Read these parts for a request and keep the data until it is completed; answer with [`Input::ReadDone`].
    Read {
        /// The read's number.
        read: ReadId,
        /// Whose.
        request: RequestId,
        /// From where, in order.
        parts: Vec<ReadPart>,
    },
    /// Put an object together; answer with [`Input::Sealed`].
    Seal(SealJob),
    /// Put an object if absent; answer with [`Input::Put`].
    Put {
        /// Its name.
        name: ObjectName,
        /// Its bytes.
        body: Bytes,
    },
    /// Look at HEAD; answer with [`Input::Head`].
    GetHead {
        /// To be handed back.
        asked: Time,
    },
    /// Replace HEAD if it still carries `expected`; answer with [`Input::HeadPut`].
    PutHead {
        /// Which version it must have.
        expected: Etag,
        /// What it becomes.
        body: Bytes,
    },
    /// Delete an object; answer with [`Input::Deleted`].
    Delete {
        /// Its name.
        name: ObjectName,
    },
    /// List the disk's pins, on one page of at least [`PINS_MAX`](crate::PINS_MAX); answer with [`Input::Pins`].
    ListPins {
        /// To be handed back.
        asked: u64,
    },
    /// Read an object's front; answer with [`Input::Layout`].
    GetLayout {
        /// Its name.
        name: ObjectName,
    },
    /// The disk has this size now; tell the guest.
    Resized {
        /// In blocks.
        size_blocks: u64,
    },
    /// Nothing more will be asked for. Every request that was running has failed.
    Stopped {
        /// Why.
        why: Stopped,
    },
}
