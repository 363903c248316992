//! The disk as a port: what durable code may ask of it, the real one, and a recorder that replays power cuts.
//!
//! A missing fsync is invisible to `kill -9`. Code that promises to survive a power cut therefore writes through
//! [`Disk`], and its tests run it on a [`Recorder`], whose [`Log`] can be cut after any event: [`Log::cut`] gives one of
//! the states that the disk may then be in. The rules stand in [`model`], which the simulated disk shares.

pub mod model;

mod disk;
mod lock_file;
mod log;
mod real_disk;
mod recorder;
mod shared_extents;
mod write_atomic;

pub use disk::{Disk, DiskFile, Entry, OpenOptions, Space, Stat};
pub use lock_file::{LockError, LockFile};
pub use log::{Cut, Log, Marker};
pub use real_disk::RealDisk;
pub use recorder::Recorder;
pub use write_atomic::{create_dir_durable, sweep_temporaries, write_atomic};
