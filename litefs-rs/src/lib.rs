//! A file system that replicates the SQLite databases on it, byte- and wire-compatible with LiteFS 0.5.14.
//!
//! The map: [`db`] knows one database: SQLite's file formats, its locks, when a transaction is committed and with which
//! pages, and what a crash leaves. [`replication`] brings transactions from the primary to replicas. [`name`] says what
//! stands behind a name in the mount.

pub mod db;
pub mod name;
pub mod replication;
