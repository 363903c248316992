//! When to try again: pure arithmetic, the clock and the dice are the caller's.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Retries, Timeouts};

/// What is left of one call's patience.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    deadline: Instant,
    attempt: Duration,
    retries: Retries,
    attempts: u32,
}

impl Budget {
    /// Starts the patience of a get or a list.
    pub(crate) fn read(now: Instant, timeouts: &Timeouts, retries: Retries) -> Self {
        Self::new(now, timeouts.read_ms, timeouts.attempt_ms, retries)
    }

    /// Starts the patience of a put or a delete.
    pub(crate) fn write(now: Instant, timeouts: &Timeouts, retries: Retries) -> Self {
        Self::new(now, timeouts.write_ms, timeouts.attempt_ms, retries)
    }

    fn new(now: Instant, call_ms: u64, attempt_ms: u64, retries: Retries) -> Self {
        Self {
            deadline: now + Duration::from_millis(call_ms),
            attempt: Duration::from_millis(attempt_ms),
            retries,
            attempts: 0,
        }
    }

    /// Counts an attempt and returns how long it may take.
    pub(crate) fn start_attempt(&mut self, now: Instant) -> Duration {
        self.attempts += 1;
        self.attempt.min(self.deadline.saturating_duration_since(now))
    }

    /// Attempts started.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns how long to wait before the next attempt, or `None` when there is to be none.
    ///
    /// * `dice`: uniform in `0.0..1.0`. The whole wait is random, so that clients that failed together do not come
    ///   back together.
    pub(crate) fn pause(&self, now: Instant, dice: f64) -> Option<Duration> {
        assert!((0.0..1.0).contains(&dice), "dice show {dice}");
        if self.attempts >= self.retries.attempts_max {
            return None;
        }
        let doublings = self.attempts.saturating_sub(1).min(32);
        let ceiling_ms = self
            .retries
            .delay_ms_min
            .saturating_mul(1 << doublings)
            .min(self.retries.delay_ms_max);
        let delay = Duration::from_millis(ceiling_ms).mul_f64(dice);
        (now + delay < self.deadline).then_some(delay)
    }
}

#[cfg(test)]
mod tests;
