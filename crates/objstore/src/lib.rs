//! The workspace's only way to an object store: conditional writes, ranged reads, lists and deletes.
//!
//! [`ObjectStore`] is the port. [`S3Store`] speaks the S3 protocol with retries of its own; [`MemoryStore`] keeps
//! objects in memory; [`FaultStore`] breaks any other store on purpose. [`probe()`] finds out
//! whether a live store keeps the port's promises.

mod answer;
pub mod config;
pub mod faults;
mod memory;
mod metrics;
pub mod probe;
mod retry;
mod s3_store;
mod s3_wire;
mod store;
mod wire;

pub use config::{ConnectError, Retries, S3Config, Timeouts};
pub use faults::FaultStore;
pub use memory::MemoryStore;
pub use metrics::Metrics;
pub use probe::{Lack, ProbeFailure, ProbeReport, probe};
pub use s3_store::S3Store;
pub use store::{
    DeleteError, ETag, Entry, GetError, KEY_BYTES_MAX, Key, KeyError, ListError, OBJECT_DAMAGED, Object,
    ObjectStore, Outage, Page, Purpose, PutError, Refusal, Remedy,
};
