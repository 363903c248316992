//! The simulated world `operations`: one volumed on a disk that loses power and a bucket that lies, random requests, guests
//! that write, and oracles that compare everything with a model.
//!
//! What must hold, whatever happens: catalog, pool and bucket agree once all is quiet; no slice without a record and no
//! record without its slice; what was acknowledged survives; a snapshot's content is the volume's at one moment between its
//! request and its answer; a fork's and a restore's content is their source's; a generation never goes back.

mod actions;
mod answers;
mod host;
mod model;
mod oracles;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fmt;
use std::panic::AssertUnwindSafe;

use sim::{Digest, World};

/// Why a seed failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Failure {}

/// Steps of one run; each is a batch of requests, a crash, a jump of the clock or a change of the weather.
const STEPS: u32 = 24;

/// Runs the world of one seed.
///
/// # Errors
/// [`Failure`] with the oracle that did not hold and the last events before it.
pub fn run_seed(seed: u64) -> Result<Digest, Failure> {
    let world = || World::run(seed, async |world| play(world).await);
    let (message, tail) = match std::panic::catch_unwind(AssertUnwindSafe(world)) {
        Ok((Ok(()), digest)) => return Ok(digest),
        Ok((Err((message, tail)), _)) => (message, tail),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            (
                format!("panicked: {}", text.unwrap_or("without a message")),
                Vec::new(),
            )
        }
    };
    let tail = tail.join("\n    ");
    Err(Failure {
        seed,
        message: format!("{message}\n    {tail}"),
    })
}

async fn play(world: World) -> Result<(), (String, Vec<String>)> {
    let trace = world.trace().clone();
    let mut game = actions::Game::new(world);
    game.play(STEPS).await.map_err(|message| (message, trace.tail()))
}
