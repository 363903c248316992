//! The simulated world `disk`: a log-structured disk on hosts that lose power, processes and slices, over a bucket that is late
//! and lies, under a guest that stamps every block it writes.
//!
//! A disk has forks, and they have theirs: each is made, lives, goes back to snapshots and is deleted while the others go on. One seed in
//! five has slices whose reads and writes fail, whose writes are lost, misdirected or come back with another bit, whose pages of the map are
//! old or another's, and a way from the store that damages what it carries.
//!
//! What must hold, whatever happens, and where it is looked at:
//!
//! 1. After any recovery one prefix of what the guest wrote, in its order, explains every block (`Guest::recover`).
//! 2. It holds everything that was answered as durable in the volume's class, and after the loss of a host it lacks no more bytes than
//!    the lag that was last told; with `stop` that lag keeps within its bound (`Game::reopen`, `Game::die`, `Game::check_lag`).
//! 3. It never goes back: what was found once is answered for from then on, and a read shows the last answered write or a later one
//!    (`Guest::recover`, `State::check_block`).
//! 4. A snapshot's content never changes; a fork begins as its snapshot, and a disk that goes back to one is what that was
//!    (`Guest::check_snapshot`, `Family::fork`, `Game::roll_back`).
//! 5. Once another host has taken a disk over, the former owner answers nothing more (`State::completed`).
//! 6. Nothing that is needed is ever missing in the bucket, for forks of deleted disks neither; nothing that is not stays there, pins
//!    included (`Bare::check_references`, `Game::finale`, `Family::check_pins`).
//! 7. Once all is calm everything arrives there, in bounded time (`Game::finale`).
//! 8. Where slices fail: no block is ever read that was not written there; what was flushed in class `remote` is there; one fault in the
//!    journal loses nothing silently that was durable before something was asked for that is durable, too, and nothing is called
//!    damaged that is not (`stamp::read`, `Game::reopen`, `Guest::evident_floor`).
//!
//! `decoders` shows damaged, forged and arbitrary bytes to every reader of the formats.

mod decoders;
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

pub use decoders::{INPUTS, run_decoders};
pub use log_disk::Mutant;
pub use world::{Failure, run_mutant, run_seed};
