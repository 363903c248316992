//! The right to acknowledge, which ends by itself.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::time::Instant as Clock;

use crate::Epoch;

const NEVER: u64 = 0;
const FOREVER: u64 = u64::MAX;

/// The right to acknowledge what was written. Whoever acknowledges asks at that very moment, on any thread: when the lease has
/// not been renewed in time the answer is no, whether or not anybody has noticed yet.
///
/// Time is the system's monotonic one, which stands still while the machine sleeps or is paused: a machine that is paused between
/// the question and the acknowledgement acknowledges late. What it then sends is refused by its epoch.
#[derive(Debug)]
pub struct Right {
    began: Instant,
    /// Nanoseconds after `began`; [`NEVER`] or [`FOREVER`].
    until: AtomicU64,
    epoch: AtomicU64,
    closed: AtomicBool,
}

impl Default for Right {
    fn default() -> Self {
        Self {
            began: Clock::now().into_std(),
            until: AtomicU64::new(NEVER),
            epoch: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }
}

impl Right {
    /// Makes the right of a primary that was chosen by hand: it never ends.
    #[must_use]
    pub fn forever() -> Self {
        let right = Self::default();
        right.until.store(FOREVER, Ordering::SeqCst);
        right
    }

    /// Grants it until then, under an epoch.
    pub fn grant(&self, epoch: Epoch, until: Instant) {
        let nanos = until.saturating_duration_since(self.began).as_nanos();
        // What does not fit is five hundred years away.
        let nanos = u64::try_from(nanos).unwrap_or(FOREVER - 1);
        // Never the new time under the old epoch.
        if self.epoch.swap(epoch.0, Ordering::SeqCst) != epoch.0 {
            self.until.store(NEVER, Ordering::SeqCst);
        }
        self.until.store(nanos, Ordering::SeqCst);
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Lets nothing new begin. What has begun may end, as long as the right lasts.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Takes it away.
    pub fn revoke(&self) {
        self.until.store(NEVER, Ordering::SeqCst);
    }

    /// Returns the epoch under which something may begin at this moment that is to be acknowledged.
    #[must_use]
    pub fn at(&self, now: Instant) -> Option<Epoch> {
        self.lasts_at(now).filter(|_| !self.closed.load(Ordering::SeqCst))
    }

    fn lasts_at(&self, now: Instant) -> Option<Epoch> {
        let epoch = Epoch(self.epoch.load(Ordering::SeqCst));
        match self.until.load(Ordering::SeqCst) {
            NEVER => None,
            FOREVER => Some(epoch),
            nanos => (now < self.began + Duration::from_nanos(nanos)).then_some(epoch),
        }
    }

    /// Returns the epoch under which something may begin now that is to be acknowledged.
    #[must_use]
    pub fn now(&self) -> Option<Epoch> {
        self.at(Clock::now().into_std())
    }

    /// Tells whether what began under an epoch may be acknowledged now.
    #[must_use]
    pub fn lasts(&self, epoch: Epoch) -> bool {
        self.lasts_at(Clock::now().into_std()) == Some(epoch)
    }
}

#[cfg(test)]
mod tests;
