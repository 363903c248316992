//! The simulated world `disk`: a log-structured disk on hosts that lose power, processes and slices, over a bucket that is late
//! and lies, under a guest that stamps every block it writes.
//!
//! What must hold, whatever happens: after any recovery one prefix of what the guest wrote, in its order, explains every block,
//! and it holds everything that was answered as durable in the volume's class; that prefix never goes back; a snapshot's
//! content never changes; once another host has taken the disk over, the former owner answers nothing more; nothing that is
//! needed is ever missing in the bucket, and nothing that is not stays there; once all is calm everything arrives there.

mod driver;
mod family;
mod faults;
mod game;
mod guest;
mod image;
mod io;
mod reader;
mod stamp;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod world;

pub use log_disk::Mutant;
pub use world::{Failure, run_mutant, run_seed};
