//! One seed's universe, and many of them in a row.

use std::fmt::{self, Display};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::{Digest, Rng, SimClock, SimDisk, SimStore, Trace};

/// What a simulated run draws time, chance, disks and stores from.
#[derive(Debug, Clone)]
pub struct World {
    seed: u64,
    rng: Rng,
    trace: Trace,
    clock: Arc<SimClock>,
}

impl World {
    /// Runs `body` in the world of `seed`, on one thread and in paused time: whenever every task waits, time steps to the
    /// next thing that anyone waits for.
    ///
    /// Returns what `body` returned and the digest of all that happened.
    ///
    /// # Panics
    /// As `body` does; also when the runtime cannot be built.
    pub fn run<T>(seed: u64, body: impl AsyncFnOnce(Self) -> T) -> (T, Digest) {
        let trace = Trace::new();
        (Self::run_traced(seed, &trace, body), trace.digest())
    }

    fn run_traced<T>(seed: u64, trace: &Trace, body: impl AsyncFnOnce(Self) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O can be built");
        runtime.block_on(async {
            let clock = Arc::new(SimClock::new());
            body(Self {
                seed,
                rng: Rng::new(seed),
                trace: trace.clone(),
                clock,
            })
            .await
        })
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the generator for one part of the world, as [`Rng::fork`].
    pub fn rng(&self, part: &str) -> Rng {
        self.rng.fork(part)
    }

    /// Returns the trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Returns the wall clock.
    pub fn clock(&self) -> Arc<SimClock> {
        Arc::clone(&self.clock)
    }

    /// Creates a disk of `total_bytes`; `name` tells it from others.
    pub fn disk(&self, name: &str, total_bytes: u64) -> SimDisk {
        SimDisk::new(total_bytes, self.rng(&format!("disk {name}")), self.trace.clone())
    }

    /// Creates an object store that works as well as any; see [`SimStore::set_faults`].
    pub fn store(&self) -> SimStore {
        SimStore::new(self)
    }
}

/// A seed whose run panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What the panic said.
    pub message: String,
    /// The last events before it.
    pub tail: Vec<String>,
}

/// The outcome of many seeds; its text ends with `soak WORLD: N passed, M failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Report {
    /// The world's name.
    pub world: &'static str,
    /// How many seeds passed.
    pub passed: u64,
    /// The others, in the order of the seeds.
    pub failures: Vec<Failure>,
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.world;
        for Failure { seed, message, tail } in &self.failures {
            for line in tail {
                writeln!(f, "    {line}")?;
            }
            writeln!(f, "seed {seed}: {message}")?;
            writeln!(f, "replay: cargo xtask soak {world} --seeds 1 --from {seed}")?;
        }
        write!(
            f,
            "soak {world}: {} passed, {} failed",
            self.passed,
            self.failures.len()
        )
    }
}

/// Runs `body` in the worlds of `seeds` seeds that begin at `from`. A panic fails its seed alone.
pub fn soak(world: &'static str, from: u64, seeds: u64, body: impl AsyncFn(World)) -> Report {
    let mut report = Report {
        world,
        passed: 0,
        failures: Vec::new(),
    };
    for seed in from..from.saturating_add(seeds) {
        let trace = Trace::new();
        let run = || World::run_traced(seed, &trace, &body);
        match std::panic::catch_unwind(AssertUnwindSafe(run)) {
            Ok(()) => report.passed += 1,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                let message = text.unwrap_or("panic without a message").to_owned();
                report.failures.push(Failure {
                    seed,
                    message,
                    tail: trace.tail(),
                });
            }
        }
    }
    report
}

#[cfg(test)]
mod tests;
