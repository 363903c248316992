//! The only source of wall time. It stamps records for people; it never orders events.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// Returns the wall time now.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns the text of a time, by RFC 3339 with milliseconds; that of 1970 for what no calendar has.
///
/// * `ms`: milliseconds since 1970.
pub fn text_of_ms(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// Tells the wall time. Injected wherever a date decides something, so that a test can set it.
pub trait WallClock: Send + Sync + Debug {
    /// Returns the wall time now; it may jump either way between two calls.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> Timestamp {
        now()
    }
}

/// A clock that stands still until it is set or advanced.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Timestamp>,
}

impl ManualClock {
    /// Creates a clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { now: Mutex::new(now) }
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves the clock forward.
    ///
    /// # Panics
    /// When the result is beyond jiff's range (the year 9999).
    pub fn advance(&self, by: std::time::Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now
            .checked_add(by)
            .expect("a manual clock stays within jiff's range");
    }
}

impl WallClock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
