//! Everything that happened, as one digest and the last few lines.

use std::collections::VecDeque;
use std::fmt::{self, Arguments, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many lines are kept for the report of a failure.
const TAIL_LINES: usize = 60;

/// The digest of a run: equal for equal runs only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex()[..16])
    }
}

/// The events of one run. Clones write into the same.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hasher: blake3::Hasher,
    events: u64,
    tail: VecDeque<String>,
}

impl Trace {
    /// Creates an empty trace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes one event: `trace.event(format_args!("put {key}"))`. Lines must not hold addresses, thread ids or real time.
    pub fn event(&self, line: Arguments<'_>) {
        let line = line.to_string();
        let mut state = self.lock();
        state.events += 1;
        state.hasher.update(&(line.len() as u64).to_le_bytes());
        state.hasher.update(line.as_bytes());
        if state.tail.len() == TAIL_LINES {
            state.tail.pop_front();
        }
        state.tail.push_back(line);
    }

    /// Returns the number of events.
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// Returns the digest of all events so far.
    pub fn digest(&self) -> Digest {
        Digest(*self.lock().hasher.finalize().as_bytes())
    }

    /// Returns the last lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.lock().tail.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
