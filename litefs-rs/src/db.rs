//! One database: its files, as SQLite writes and locks them, and the transactions that come of it.

pub mod capture;
pub mod checksum;
pub mod commit;
mod database_files;
pub mod files;
mod handle;
pub mod locks;
pub mod page;
pub mod recover;
pub mod rollback_journal;
pub mod shm;
pub mod wal;

pub use database_files::DatabaseFiles;
pub use handle::{Database, DatabaseError, Node, PreparedCommit};

#[cfg(test)]
mod testing;
