//! One database: its files, as SQLite writes and locks them, and the transactions that come of it.

pub mod capture;
pub mod checksum;
pub mod files;
pub mod locks;
pub mod page;
pub mod rollback_journal;
pub mod shm;
pub mod wal;

#[cfg(test)]
mod testing;
