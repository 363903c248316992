//! One database: its files, as SQLite writes and locks them, and the transactions that come of it.

mod admission;
mod apply;
pub mod capture;
pub mod checksum;
pub mod commit;
mod database_files;
pub mod files;
mod forward;
mod handle;
mod image;
mod kept_checksums;
pub mod locks;
pub mod page;
mod primacy;
pub mod recover;
mod rest;
pub mod rollback_journal;
pub mod shm;
mod snapshot;
pub mod wal;
mod wal_index;

pub use apply::{ApplyError, Changed, Incoming};
pub use capture::CaptureError;
pub use database_files::DatabaseFiles;
pub use forward::{Forward, ForwardError};
pub use handle::{Database, DatabaseError, Node, PreparedCommit, Role};
pub use image::{Image, ImageError};
pub use primacy::Primacy;
pub use rest::{Damaged, Rest};
pub use snapshot::{Snapshot, SnapshotError};

#[cfg(test)]
mod testing;
