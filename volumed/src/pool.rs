//! Pools: where the bytes of volumes and of captured snapshots live on this host.
//!
//! A pool keeps *slices*, each named by its owner's id. The file pool keeps one file a slice; pools of logical volumes
//! fit the same trait: `activate` and `deactivate` bracket every use of a slice's device, and a layout that is
//! encrypted is made by whatever the pool uses (a LUKS header in a file, dm-crypt on a device).

pub mod bottomless;
mod capacity;
mod door;
pub mod file;
pub mod lvm;
pub mod moves;
mod pressure;

use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use capacity::Capacity;
pub use pressure::{Fault, Gauge, Pressure, PressureRules, Reading, Verdict, judge};

use crate::bulk::{ImageSink, ImageSource, Layout};
use crate::lvm::group::GroupError;
use crate::volume::{SnapshotId, VolumeId};

/// The owner of a slice; also its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SliceId {
    /// A volume's bytes.
    Volume(VolumeId),
    /// The local capture of a snapshot that is being uploaded.
    Capture(SnapshotId),
}

impl SliceId {
    /// Returns the name used inside the pool: `v-…` or `s-…`.
    pub fn name(&self) -> String {
        match self {
            Self::Volume(id) => format!("v-{id}"),
            Self::Capture(id) => format!("s-{id}"),
        }
    }

    /// Reads a name; none when it is not ours.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.split_at_checked(2)? {
            ("v-", id) => VolumeId::parse(id).ok().map(Self::Volume),
            ("s-", id) => SnapshotId::parse(id).ok().map(Self::Capture),
            _ => None,
        }
    }
}

/// A slice as a caller sees it: whose, how large to the guest, and how the bytes lie.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Whose.
    pub id: SliceId,
    /// Size as the guest sees it; headers are extra.
    pub size_bytes: u64,
    /// Raw or encrypted.
    pub layout: Layout,
}

/// A slice found in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub id: SliceId,
    /// Bytes of the pool that it takes now.
    pub allocated_bytes: u64,
    /// Whether it was finished; an unfinished one belongs to an operation that is still running.
    pub complete: bool,
    /// Size as the guest sees it; none when the pool does not know.
    pub size_bytes: Option<u64>,
    /// Whether it is encrypted; none when the pool does not know.
    pub encrypted: Option<bool>,
}

/// What a pool can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// A copy shares its bytes with the source and takes no time.
    pub reflink: bool,
    /// A slice in use can be captured at one point in time by the pool itself.
    pub atomic_snapshot: bool,
    /// Encrypted layouts can be made.
    pub encryption: bool,
    /// What changed between two captures can be told, so the newest one is kept for the next backup.
    pub deltas: bool,
}

/// Room in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Size of the file system or volume group.
    pub total_bytes: u64,
    /// What nobody uses.
    pub free_bytes: u64,
    /// What our slices take.
    pub allocated_bytes: u64,
}

/// Whether a grow makes the new last MiB read as zeros, which a volume without a file system needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroEnd {
    /// A file system is on it, which does not look there.
    Never,
    /// Only when this call did the lengthening: a guest may have seen a size that an earlier call made.
    IfGrownNow,
    /// Nobody has it open.
    Always,
}

/// How a copy came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// By the pool, at one point in time, whatever happened to the source meanwhile.
    Atomically,
    /// Byte by byte; a point in time only because nobody wrote.
    Plainly,
}

/// The device of an activated slice.
#[derive(Clone, Debug)]
pub struct Device {
    /// What QEMU opens.
    pub path: PathBuf,
    /// How the bytes lie.
    pub layout: Layout,
    /// Its name at an NBD server, whose socket `path` is then.
    pub export: Option<String>,
}

/// Why a pool did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No room.
    #[error("pool {pool} has no room for {wanted_bytes} bytes")]
    NoSpace {
        /// Which pool.
        pool: String,
        /// How much was asked for.
        wanted_bytes: u64,
    },
    /// The slice is not there.
    #[error("pool {pool} has no slice {slice}")]
    Missing {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
    },
    /// The slice is there and is not what the catalog says.
    #[error("pool {pool}: slice {slice} has {found_bytes} bytes, expected {expected_bytes}")]
    WrongSize {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
        /// As it is.
        found_bytes: u64,
        /// As it should be.
        expected_bytes: u64,
    },
    /// The slice's encryption header cannot be used.
    #[error("pool {pool}: slice {slice}")]
    Image {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
        /// What is wrong.
        #[source]
        source: crate::bulk::ImageError,
    },
    /// The header cannot be given the new key.
    #[error("pool {pool}: header of slice {slice}")]
    Luks {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
        /// What is wrong.
        #[source]
        source: crate::luks::LuksError,
    },
    /// Something of that name is there and is not ours.
    #[error("pool {pool}: {slice} is there and does not belong to volumed")]
    Foreign {
        /// Which pool.
        pool: String,
        /// The name.
        slice: String,
    },
    /// Something else must end first.
    #[error("pool {pool}: slice {slice} is busy: {by}")]
    Busy {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
        /// What keeps it busy.
        by: String,
    },
    /// A capture ran out of the room that it had for what changed meanwhile. The volume is as it was.
    #[error(
        "pool {pool}: capture {slice} ran out of room while its volume was written to; the volume is not affected"
    )]
    Overflowed {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
    },
    /// The pool is not as configured, or does not take this.
    #[error("pool {pool}: {why}")]
    Unfit {
        /// Which pool.
        pool: String,
        /// Why, and what to do.
        why: String,
    },
    /// It could not be opened yet, and is tried again all the while.
    #[error("pool {pool} is not open: {why}")]
    Closed {
        /// Which pool.
        pool: String,
        /// Why.
        why: String,
    },
    /// LVM, device-mapper or dm-crypt.
    #[error("pool {pool}: {doing} {slice}")]
    Group {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
        /// What was being done.
        doing: &'static str,
        /// What they said.
        #[source]
        source: Box<GroupError>,
    },
    /// The system below.
    #[error("pool {pool}: {doing} {slice}")]
    Io {
        /// Which pool.
        pool: String,
        /// Which slice.
        slice: String,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What a pool wants to be rid of, so that volumes keep the room they were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Captures that only speed up the next backup.
    Bases,
    /// Captures that are being uploaded too.
    Captures,
}

/// What a pool does whose volumes keep their snapshots themselves, in the bucket. Every call is idempotent, as the pool's own are.
#[async_trait]
pub trait DiskSnapshots: Send + Sync + Debug {
    /// Keeps a volume as it is now under a name; returns how many bytes it has in the bucket. When it returns, all that was
    /// written before the call is there.
    async fn take(&self, volume: &VolumeId, name: &str) -> Result<u64, PoolError>;

    /// Forgets a snapshot. One that is not there is a success.
    async fn remove(&self, volume: &VolumeId, name: &str) -> Result<(), PoolError>;

    /// Makes a slice of what a volume was at a snapshot; it has that snapshot's size, whatever `target` says.
    async fn fork(&self, volume: &VolumeId, name: &str, target: &Slice) -> Result<(), PoolError>;
}

/// Moves ranges of a slice, in order, to those of the bytes behind its header, cut to their size.
pub(crate) fn behind_header(changed: &[Range<u64>], header_bytes: u64, size_bytes: u64) -> Vec<Range<u64>> {
    let moved = changed.iter().map(|range| {
        let start = range.start.saturating_sub(header_bytes).min(size_bytes);
        let end = range.end.saturating_sub(header_bytes).min(size_bytes);
        start..end
    });
    moved.filter(|range| range.start < range.end).collect()
}

/// One pool. Every call is idempotent: after a crash the same call comes again.
#[async_trait]
pub trait Pool: Send + Sync + Debug {
    /// Returns its configured name.
    fn name(&self) -> &str;

    /// Returns `file`, `lvm-thin`, `lvm-linear`, `bottomless`.
    fn kind(&self) -> &'static str;

    /// Returns what it can do on this host.
    fn capabilities(&self) -> Capabilities;

    /// Tells how much room there is.
    async fn usage(&self) -> Result<PoolUsage, PoolError>;

    /// Returns the room rules that the operator set.
    fn capacity(&self) -> Capacity;

    /// Returns from when on it warns and refuses.
    fn pressure_rules(&self) -> PressureRules {
        PressureRules::default()
    }

    /// Measures what the pressure rules look at: by default how much of what is ours or free, less the reserve, is taken.
    async fn reading(&self) -> Result<Reading, PoolError> {
        let usage = self.usage().await?;
        Ok(Reading::of_data(&usage, &self.capacity()))
    }

    /// Makes a slice whose first and last MiB read as zeros. Makes nothing when it is there with that size.
    async fn create(&self, slice: &Slice) -> Result<(), PoolError>;

    /// Grows a slice of `from_bytes` to `slice.size_bytes`, whether or not somebody uses it.
    ///
    /// On [`PoolError::NoSpace`] it has its former size.
    async fn grow(&self, slice: &Slice, from_bytes: u64, zero_end: ZeroEnd) -> Result<(), PoolError>;

    /// Copies a slice into a new one of the same size; a different passphrase in `target` re-keys its header.
    ///
    /// Without [`Capabilities::atomic_snapshot`] the caller sees to it that nobody writes to `source` meanwhile.
    async fn copy(&self, source: &Slice, target: &Slice) -> Result<Copied, PoolError>;

    /// Copies as [`copy`](Self::copy) does, and gives up soon after `cancelled` fires: [`PoolError::Io`] of the kind
    /// `Interrupted`. What it leaves then is unfinished, and stays so whatever threads of it still do.
    ///
    /// A pool whose copies take no time need not care.
    async fn copy_unless(
        &self,
        source: &Slice,
        target: &Slice,
        cancelled: &CancellationToken,
    ) -> Result<Copied, PoolError> {
        let _takes_no_time = cancelled;
        self.copy(source, target).await
    }

    /// Prepares a copy that somebody else writes: returns an empty file of the raw length of `slice`.
    async fn copy_begin(&self, slice: &Slice) -> Result<PathBuf, PoolError>;

    /// Finishes such a copy, made from a slice with `source_layout`: makes it durable and gives it its name.
    async fn copy_finish(&self, slice: &Slice, source_layout: &Layout) -> Result<(), PoolError>;

    /// Removes a slice, finished or not. One that is not there is a success.
    async fn delete(&self, id: &SliceId) -> Result<(), PoolError>;

    /// Says whether a finished slice is there.
    async fn exists(&self, id: &SliceId) -> Result<bool, PoolError>;

    /// Returns the slices that are ours, in order of name.
    async fn list(&self) -> Result<Vec<Found>, PoolError>;

    /// Makes the slice's device usable and says where it is.
    async fn activate(&self, slice: &Slice) -> Result<Device, PoolError>;

    /// Ends the use of the slice's device.
    async fn deactivate(&self, slice: &Slice) -> Result<(), PoolError>;

    /// Opens the plaintext view of a slice that nobody writes to.
    async fn open_source(&self, slice: &Slice) -> Result<Box<dyn ImageSource>, PoolError>;

    /// Opens the plaintext view of a slice that is being filled.
    async fn open_sink(&self, slice: &Slice) -> Result<Box<dyn ImageSink>, PoolError>;

    /// Returns what may differ between two captures of one volume, in order, in bytes of the plaintext view; none when
    /// that is not known for certain, and then everything must be read. Both captures are finished.
    async fn changed(&self, _base: &Slice, _slice: &Slice) -> Option<Vec<Range<u64>>> {
        None
    }

    /// Says whether captures that are kept for the next backup take room that is promised to nobody yet, so that a request
    /// which finds too little has to have them removed.
    fn bases_take_room(&self) -> bool {
        false
    }

    /// Returns the folder that its slices are in; none when they are in none.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Returns what tells its place from any other, once it was used; none where that is not needed.
    fn place(&self) -> Option<String> {
        None
    }

    /// Returns the names of what lies in it and is neither a slice nor its own.
    async fn foreign(&self) -> Result<Vec<String>, PoolError> {
        Ok(Vec::new())
    }

    /// Says whether it can be used. One that is not opens by itself, in [`tend`](Self::tend), when what it lacked is there.
    fn is_open(&self) -> bool {
        true
    }

    /// Says whether its volumes' home is the bucket, so that their size is no matter of this host's room.
    fn is_bottomless(&self) -> bool {
        false
    }

    /// Returns how its volumes keep snapshots, where they do so themselves; then nothing is ever copied out of them.
    fn disk_snapshots(&self) -> Option<&dyn DiskSnapshots> {
        None
    }

    /// How its volumes move between nodes; `None` where they do not.
    fn moves(&self) -> Option<&dyn moves::Moves> {
        None
    }

    /// Returns what a person may want to know of a slice, beyond what every volume shows.
    async fn figures(&self, _id: &SliceId) -> Option<serde_json::Value> {
        None
    }

    /// How long after a look at itself the next is due: less than its headroom lasts when it is filled at full speed.
    fn tend_every(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Looks after itself: called every [so often](Self::tend_every). Returns what its caller must do for it.
    async fn tend(&self, _now: Instant) -> Vec<Shed> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
