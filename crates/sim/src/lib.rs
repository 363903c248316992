//! A world per seed: time that a simulation steps, a disk that loses power, an object store that is late and lies.
//!
//! [`World::run`] gives a test everything that it may draw chance or time from. The same seed makes the same run, and
//! [`Trace`] proves it: its digest is that of every event. For tests and `soak` only; no daemon links it.
//!
//! What a run must not do, or it will not repeat: iterate a `HashMap`, use `select!` without `biased`, read the real
//! clock, start a thread.

mod clock;
mod disk;
mod object_store;
mod rng;
mod trace;
mod world;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use object_store::{SimStore, StoreFaults};
pub use rng::Rng;
pub use trace::{Digest, Trace};
pub use world::{Failure, Report, World, soak};
