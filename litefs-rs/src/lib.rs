//! A file system that replicates the SQLite databases on it, byte- and wire-compatible with LiteFS 0.5.14.
//!
//! The map: [`db`] knows one database: SQLite's file formats, its locks, and when a transaction is committed and with which
//! pages.

pub mod db;
