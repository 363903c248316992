//! Wall time that runs with the simulation's own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemon::wall_clock::WallClock;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z: when every world begins.
const BEGIN: i64 = 1_767_225_600;

/// A wall clock that advances with tokio's paused time and can be made to jump.
#[derive(Debug)]
pub struct SimClock {
    began: Instant,
    shift: Mutex<SignedDuration>,
}

impl SimClock {
    /// Creates a clock that shows 2026-01-01 now.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            shift: Mutex::new(SignedDuration::ZERO),
        }
    }

    /// Makes wall time jump, as an operator or a time server does; the simulation's own time does not notice.
    pub fn jump(&self, by: SignedDuration) {
        let mut shift = self.shift.lock().unwrap_or_else(PoisonError::into_inner);
        *shift = shift.saturating_add(by);
    }

    /// Returns the time since the world began, which never jumps.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl WallClock for SimClock {
    fn now(&self) -> Timestamp {
        let shift = *self.shift.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Timestamp::from_second(BEGIN).expect("the year 2026 is within range");
        let now = begin
            .checked_add(self.elapsed())
            .and_then(|now| now.checked_add(shift));
        now.expect("a simulated clock stays within jiff's range")
    }
}

#[cfg(test)]
mod tests;
