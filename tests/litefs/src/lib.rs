//! The simulated world `litefs`: nodes under one lease in an object store that is late and lies. They crash, stand still, lose
//! their disks, are cut off from the store and from each other, while applications write wherever a node lets them.
//!
//! What decides is the real thing: the lease's engine and keeper, what a primary sends, what a replica takes. What is in between,
//! databases and connections, is a model.
//!
//! What must hold, whatever happens, and where it is looked at:
//!
//! 1. At any moment one node at most acknowledges, and under one epoch always the same (`Oracles::acknowledged`).
//! 2. Epochs only grow along a history, and no history has a gap (`Oracles::check_history`).
//! 3. When all was calm for a while, whoever becomes primary has come at least as far as everybody who could have
//!    (`Oracles::begins`).
//! 4. A lease that is handed over takes nothing with it: the next primary has everything that was acknowledged (`Oracles::begins`).
//! 5. A node that has nothing is never primary of a cluster that had something (`Oracles::begins`).
//! 6. Once all is calm there is one primary, every node has what it has, and what it acknowledges from then on is everywhere
//!    (`Game::finale`).

mod game;
mod node;
mod oracles;
mod process;
mod shelf;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod world;

pub use world::{Failure, Mistake, run_mistake, run_seed};
