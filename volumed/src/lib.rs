//! The host volume daemon: volumes in local pools, snapshots and backups in an object store, every change a durable
//! operation.
//!
//! The map: [`volume`] and [`snapshot`] are the records, [`lifecycle`] decides what may happen to them, [`catalog`] keeps
//! them, [`pool`] holds their bytes, [`ops`] changes them step by step, [`service`] is what the [`api`] serves.

pub mod api;
pub mod auto_extend;
pub mod backup;
pub mod bulk;
pub mod catalog;
pub mod cli;
mod clock_watch;
pub mod command;
pub mod config;
pub mod disk;
pub mod disk_tools;
pub mod error;
pub mod host;
pub mod keys;
pub mod lifecycle;
pub mod luks;
pub mod lvm;
pub mod metrics;
pub mod nbd_file;
pub mod ops;
pub mod pool;
pub mod random;
pub mod retention;
pub mod runner_client;
pub mod schedule;
pub mod scrub;
pub mod serve;
pub mod service;
pub mod snapshot;
pub mod sweep;
pub mod volume;

#[cfg(test)]
mod testing;
