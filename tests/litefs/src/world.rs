//! One seed's universe.

use std::fmt;
use std::panic::AssertUnwindSafe;

use lease::Mutant;
use sim::{Digest, World};

use crate::game::Game;

/// Why a seed failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold, and the last events before it.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A mistake, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The engine's.
    Engine(Mutant),
    /// A node says that nothing is under way any more without looking.
    SaysDrained,
    /// A node does not look again whether it is primary before it acknowledges.
    AcknowledgesLate,
    /// A replica believes that it has everything as soon as it is connected.
    SyncedAtOnce,
    /// A replica takes what does not follow.
    TakesAnything,
}

/// Runs the world of one seed.
///
/// # Errors
/// [`Failure`] with the oracle that did not hold and the last events before it.
pub fn run_seed(seed: u64) -> Result<Digest, Failure> {
    run(seed, None)
}

/// Runs the world of one seed with a mistake.
///
/// # Errors
/// As [`run_seed`].
pub fn run_mistake(seed: u64, mistake: Mistake) -> Result<Digest, Failure> {
    run(seed, Some(mistake))
}

fn run(seed: u64, mistake: Option<Mistake>) -> Result<Digest, Failure> {
    let world = || World::run(seed, async |world| play(world, mistake).await);
    let message = match std::panic::catch_unwind(AssertUnwindSafe(world)) {
        Ok((Ok(()), digest)) => return Ok(digest),
        Ok((Err(message), _)) => message,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a message"))
        }
    };
    Err(Failure { seed, message })
}

async fn play(world: World, mistake: Option<Mistake>) -> Result<(), String> {
    let trace = world.trace().clone();
    let mut game = Game::new(world, mistake);
    let played = game.play().await;
    played.map_err(|message| format!("{message}\n    {}", trace.tail().join("\n    ")))
}
