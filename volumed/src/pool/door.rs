//! Whether a pool can be used: shut while something that it needs is not there, and tried again all the while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Fault, PoolError};

/// Time between two tries to open a pool.
pub(super) const OPEN_EVERY: Duration = Duration::from_secs(5);

/// The way into a pool.
#[derive(Debug)]
pub(super) struct Door(Mutex<Option<Shut>>);

#[derive(Debug)]
struct Shut {
    why: Fault,
    /// When somebody last tried to open it.
    tried: Option<Instant>,
}

impl Door {
    /// A door that is shut until somebody looked.
    pub(super) fn new() -> Self {
        let why = Fault {
            state: "missing",
            sentence: "it was not looked for yet".to_owned(),
        };
        Self(Mutex::new(Some(Shut { why, tried: None })))
    }

    /// Opens it, or shuts it for a reason.
    pub(super) fn set(&self, why: Option<Fault>) {
        let mut shut = self.lock();
        let tried = shut.as_ref().and_then(|shut| shut.tried);
        *shut = why.map(|why| Shut { why, tried });
    }

    /// Returns why it is shut.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.lock().as_ref().map(|shut| shut.why.clone())
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().is_none()
    }

    /// Goes through.
    ///
    /// # Errors
    /// [`PoolError::Closed`] with the reason, while it is shut.
    pub(super) fn pass(&self, pool: &str) -> Result<(), PoolError> {
        match &*self.lock() {
            None => Ok(()),
            Some(shut) => Err(PoolError::Closed {
                pool: pool.to_owned(),
                why: shut.why.sentence.clone(),
            }),
        }
    }

    /// Says whether it is shut and time to try again, and notes the try.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match &mut *self.lock() {
            Some(shut)
                if shut
                    .tried
                    .is_none_or(|at| now.saturating_duration_since(at) >= OPEN_EVERY) =>
            {
                shut.tried = Some(now);
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Shut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
