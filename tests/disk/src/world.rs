//! One seed's universe.

use std::fmt;
use std::panic::AssertUnwindSafe;

use log_disk::Mutant;
use sim::{Digest, World};

use crate::family::Family;

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

/// Steps of one run: each some requests, and perhaps a crash, a takeover or other weather.
const STEPS: u32 = 30;

/// Runs the world of one seed.
///
/// # Errors
/// [`Failure`] with the oracle that did not hold and the last events before it, for the fewest steps that show it.
pub fn run_seed(seed: u64) -> Result<Digest, Failure> {
    run(seed, None)
}

/// Runs the world of one seed with a mistake in the engine.
///
/// # Errors
/// As [`run_seed`].
pub fn run_mutant(seed: u64, mutant: Mutant) -> Result<Digest, Failure> {
    run(seed, Some(mutant))
}

fn run(seed: u64, mutant: Option<Mutant>) -> Result<Digest, Failure> {
    let mut shortest = match attempt(seed, mutant, STEPS) {
        Ok(digest) => return Ok(digest),
        Err(message) => message,
    };
    // A run of fewer steps is the beginning of the same run: the first that fails says where it went wrong.
    let mut failed = STEPS;
    let mut passed = 0;
    while mutant.is_none() && passed + 1 < failed {
        let steps = u32::midpoint(passed, failed);
        match attempt(seed, mutant, steps) {
            Ok(_) => passed = steps,
            Err(message) => (shortest, failed) = (message, steps),
        }
    }
    Err(Failure {
        seed,
        message: format!("after {failed} steps: {shortest}"),
    })
}

fn attempt(seed: u64, mutant: Option<Mutant>, steps: u32) -> Result<Digest, String> {
    let world = || World::run(seed, async |world| play(world, mutant, steps).await);
    match std::panic::catch_unwind(AssertUnwindSafe(world)) {
        Ok((Ok(()), digest)) => Ok(digest),
        Ok((Err(message), _)) => Err(message),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("without a message")))
        }
    }
}

async fn play(world: World, mutant: Option<Mutant>, steps: u32) -> Result<(), String> {
    let trace = world.trace().clone();
    let mut family = Family::new(world, mutant).await;
    family
        .play(steps)
        .await
        .map_err(|message| format!("{message}\n    {}", trace.tail().join("\n    ")))
}
