//! One database: its files, as SQLite writes and locks them, and the transactions that come of it.

mod apply;
pub mod capture;
pub mod checksum;
pub mod commit;
mod database_files;
pub mod files;
mod handle;
mod kept_checksums;
pub mod locks;
pub mod page;
pub mod recover;
mod rest;
pub mod rollback_journal;
pub mod shm;
pub mod wal;

pub use apply::{ApplyError, Changed, Incoming};
pub use capture::CaptureError;
pub use database_files::DatabaseFiles;
pub use handle::{Database, DatabaseError, Node, PreparedCommit, Role};
pub use rest::{Damaged, Rest};

#[cfg(test)]
mod testing;
