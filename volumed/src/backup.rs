//! Backups of volumes in the object store. The format is `docs/formats/backup.md`; it and this module agree.
//!
//! A backup of one snapshot is a complete [manifest](ManifestHead) and the 4 MiB blocks that it names. [`upload`] reads
//! an image and stores the blocks that its base does not have; [`restore`], [`verify`] and [`RangeReader`] need one
//! manifest and the cluster key, nothing from any host. [`delete_manifest`] and [`gc`] give space back.
//!
//! Three rules keep a block alive as long as anything can name it; `gc.rs` derives the rest from them:
//!
//! 1. Names are used once. A block's key holds the snapshot whose upload wrote it, and a snapshot's id is never
//!    used again, so a request that arrives late hits nothing that is alive.
//! 2. An upload re-uses blocks of one live manifest only, its base, and reads the base after it has entered itself in
//!    the volume's register (`state.rs`), from which it leaves after its manifest is published.
//! 3. Publishing, abandoning and deleting are decided by one conditional write to the manifest's key.

mod block;
mod damage;
mod delete;
mod fetch;
mod frame;
mod gc;
mod listing;
mod manifest;
mod names;
mod range_reader;
mod restore;
mod seal;
mod state;
mod upload;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use objstore::{ObjectStore, Purpose};

use crate::bulk::Workers;
use crate::keys::ClusterKey;

pub use block::{Address, BLOCK_BYTES, FRAME_BYTES};
pub use damage::{Damage, Flaw};
pub use delete::{Abandoned, DeleteManifestError, abandon, delete_manifest};
pub use fetch::ManifestError;
pub use frame::Compression;
pub use gc::{GcError, GcPolicy, GcReport, Waiting, gc};
pub use listing::{Listing, ListingError, head, list, list_volume, volumes};
pub use manifest::ManifestHead;
pub use names::{IdError, SnapshotRef};
pub use range_reader::{RangeReader, RangeReaderError};
pub use restore::{RestoreError, Restored, restore};
pub use state::StateError;
pub use upload::{Base, BaseUse, UploadError, Uploaded, upload};
pub use verify::{VerifyError, VerifyReport, verify, verify_sample};

pub(crate) const BLOCK: Purpose = Purpose("backup_block");
pub(crate) const MANIFEST: Purpose = Purpose("backup_manifest");
pub(crate) const GC: Purpose = Purpose("backup_gc");

/// Blocks under way at once, unless set otherwise. Each holds up to about 9 MiB.
pub const CONCURRENCY: usize = 8;

/// Where backups are kept, and what opens them.
#[derive(Debug, Clone)]
pub struct Backups {
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// Opens the data key in each manifest.
    pub cluster_key: ClusterKey,
    /// Where hashing, compression and sealing run.
    pub workers: Workers,
    /// Blocks under way at once, 1 and up.
    pub concurrency: usize,
    /// How new frames are compressed.
    pub compression: Compression,
}

impl Backups {
    /// Backups in `store` with [`CONCURRENCY`] and lz4.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, cluster_key: ClusterKey, workers: Workers) -> Self {
        Self {
            store,
            cluster_key,
            workers,
            concurrency: CONCURRENCY,
            compression: Compression::Lz4,
        }
    }
}

/// How far an upload, a restore or a verification has come; readable meanwhile from elsewhere.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// Bytes of the volume dealt with so far.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the volume in all; 0 while that is not known.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    fn begin(&self, total_bytes: u64) {
        self.done_bytes.store(0, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests;
