//! A log-structured disk whose home is an object store: formats, map, garbage collection and the engine, all of it pure.
//!
//! Nothing here knows of HTTP, of files, of tasks or of a clock: a driver performs what the engine asks for and tells it what
//! came of it. The bytes stand in `docs/formats/disk.md`.

mod batch;
mod bucket;
mod checkpoint;
mod compression;
mod engine;
mod extent_map;
mod fields;
mod flaw;
#[doc(hidden)]
pub mod forge;
mod fork;
mod gc_plan;
mod head;
mod journal;
mod lineage;
mod object;
mod objects;
mod open;
mod pin;
mod pressure;
mod read_cache;
mod reap;
mod runs;
mod seal;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
mod units;
mod view;

pub use bucket::{BucketAnswer, BucketAsk, BucketStep};
pub use checkpoint::{Checkpoint, CheckpointHeader, LeafRef};
pub use compression::Compression;
pub use engine::{
    Config, Durability, Engine, Etag, GotHead, HeadPut, Input, Lag, Mutant, OnOutage, Outcome, Output,
    PutOutcome, ReadId, ReadPart, Request, RequestId, SealJob, Stats, Stopped, Written,
};
pub use extent_map::{
    ChangedLeaf, ExtentMap, LEAF_BLOCKS, LEAF_BYTES_MAX, Location, LostLeaf, PAGED_BYTES_MAX, PageSeal,
    PageStore, decode_leaf, encode_leaf, leaf_of,
};
pub use flaw::Flaw;
pub use fork::{ForkError, ForkOptions, Forking};
pub use gc_plan::{GcLimits, choose_victims};
pub use head::{BASES_MAX, Base, CheckpointRef, Head, SNAPSHOTS_MAX, Snapshot, Stream};
pub use journal::{
    JournalBlocks, PAGE_BYTES, PIECE_BLOCKS_MAX, RECORD_BLOCKS_MAX, Record, RecordHeader, RecordKind,
    RecordPiece, RecordRoom, SUPERBLOCK_PAGES, Scan, ScanEnd, ScanStep, Superblock, newest_superblock,
};
pub use lineage::{Lineage, NoKey};
pub use object::{
    EXTENT_BLOCKS_MAX, EXTENTS_MAX, Extent, ExtentRead, Layout, ObjectHeader, ObjectKind, PREFIX_BYTES,
    SealedObject, Source, SourceRun, ToSeal, seal_object,
};
pub use objects::{ObjectFacts, ObjectName, Objects, Role, head_key};
pub use open::{
    Answer, Ask, JournalState, OpenError, OpenOptions, Opening, WantedPart, WantedParts, judge_journal,
};
pub use pin::{PINS_MAX, Pin};
pub use read_cache::{
    AheadLimits, CacheLimits, CacheStats, CacheStep, Fetch, FetchId, Fill, LINE_BYTES, Plan, ReadAhead,
    ReadCache, Wanted,
};
pub use reap::{ReapError, ReapOptions, Reaped, Reaping};
pub use runs::{Part, RunMap, RunValue};
pub use seal::{Salt, Sealer, TAG_BYTES};
pub use units::{BLOCK_BYTES, DiskId, Epoch, JournalId, Lba, ObjectSeq, Seq, Time};
pub use view::{SnapshotView, Viewing};
