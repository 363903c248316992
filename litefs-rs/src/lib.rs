//! A file system that replicates the SQLite databases on it, byte- and wire-compatible with LiteFS 0.5.14.
//!
//! The map: [`db`] knows one database: SQLite's file formats, its locks, when a transaction is committed and with which
//! pages, and what a crash leaves. [`replication`] brings transactions from the primary to replicas. [`name`] says what
//! stands behind a name in the mount. [`halt`] lets applications on a replica write. [`store`] holds the databases of a node, [`fuse`]
//! mounts them, [`node`] runs all of it from start to stop, as [`config`] says, with the commands of [`supervisor`] and the
//! [`proxy`] in front of them. [`verify`] says whether all is as it should be.

pub mod api;
pub mod cli;
pub mod commands;
pub mod config;
pub mod db;
pub mod fuse;
pub mod halt;
pub mod http_client;
pub mod name;
pub mod node;
pub mod proxy;
pub mod replication;
pub mod retention;
pub mod store;
pub mod supervisor;
pub mod sys;
pub mod verify;
