//! What a node knows of the others.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use tokio::sync::watch;

use crate::db::Role;

/// What a node knows of the others. Whoever replicates writes it, applications read it.
#[derive(Debug)]
pub struct Status {
    role: Role,
    wall_clock_ms: fn() -> i64,
    primary: Mutex<Option<String>>,
    reached_ms: AtomicI64,
    was_ready: AtomicBool,
    ready: watch::Sender<bool>,
}

impl Status {
    /// Begins: a primary is ready, a replica knows nobody.
    #[must_use]
    pub fn new(role: Role, wall_clock_ms: fn() -> i64) -> Self {
        let primary = role == Role::Primary;
        Self {
            role,
            wall_clock_ms,
            primary: Mutex::new(None),
            reached_ms: AtomicI64::new(0),
            was_ready: AtomicBool::new(primary),
            ready: watch::Sender::new(primary),
        }
    }

    /// Returns who makes transactions.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the host name of the primary, while it is another and this node is connected to it or tries to be.
    #[must_use]
    pub fn primary(&self) -> Option<String> {
        self.primary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says who the primary is.
    pub fn set_primary(&self, hostname: Option<String>) {
        *self.primary.lock().unwrap_or_else(PoisonError::into_inner) = hostname;
    }

    /// Returns how far behind the primary this node is, in milliseconds; nothing if it never was in sync.
    #[must_use]
    pub fn lag_ms(&self) -> Option<i64> {
        if self.role == Role::Primary {
            return Some(0);
        }
        if !self.was_ready.load(Ordering::Acquire) {
            return None;
        }
        let reached = self.reached_ms.load(Ordering::Acquire);
        Some(((self.wall_clock_ms)() - reached).max(0))
    }

    /// Replication is as far as the primary's time.
    pub fn reached(&self, timestamp_ms: i64) {
        self.reached_ms.store(timestamp_ms, Ordering::Release);
    }

    /// This node has everything that the primary had.
    pub fn become_ready(&self) {
        self.reached_ms.store((self.wall_clock_ms)(), Ordering::Release);
        self.was_ready.store(true, Ordering::Release);
        self.ready.send_replace(true);
    }

    /// Tells whether this node once had everything.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Returns what tells when it has.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}
