//! What a node knows of the others.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::sync::watch;

use crate::db::{Primacy, Role};

/// Who the primary is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Primary {
    /// This node.
    Here,
    /// Another, by its host name.
    There(String),
}

/// What a node knows of the others. Whoever replicates writes it, applications read it.
#[derive(Debug)]
pub struct Status {
    primacy: Primacy,
    wall_clock_ms: fn() -> i64,
    primary: watch::Sender<Option<Primary>>,
    reached_ms: AtomicI64,
    was_ready: AtomicBool,
    ready: watch::Sender<bool>,
}

impl Status {
    /// Begins: a primary is ready, a replica knows nobody.
    #[must_use]
    pub fn new(primacy: Primacy, wall_clock_ms: fn() -> i64) -> Self {
        let primary = primacy.role() == Role::Primary;
        Self {
            primacy,
            wall_clock_ms,
            primary: watch::Sender::new(primary.then_some(Primary::Here)),
            reached_ms: AtomicI64::new(0),
            was_ready: AtomicBool::new(primary),
            ready: watch::Sender::new(primary),
        }
    }

    /// Returns who makes transactions.
    #[must_use]
    pub fn role(&self) -> Role {
        self.primacy.role()
    }

    /// Returns the host name of the primary, while it is another and this node is connected to it or tries to be.
    #[must_use]
    pub fn primary(&self) -> Option<String> {
        match &*self.primary.borrow() {
            Some(Primary::There(hostname)) => Some(hostname.clone()),
            Some(Primary::Here) | None => None,
        }
    }

    /// Says who the primary is, as far as is known.
    pub fn set_primary(&self, primary: Option<Primary>) {
        self.primary.send_if_modified(|last| {
            let news = *last != primary;
            *last = primary;
            news
        });
    }

    /// Returns what tells when the primary is another.
    #[must_use]
    pub fn primaries(&self) -> watch::Receiver<Option<Primary>> {
        self.primary.subscribe()
    }

    /// Returns how far behind the primary this node is, in milliseconds; nothing if it never was in sync.
    #[must_use]
    pub fn lag_ms(&self) -> Option<i64> {
        if self.role() == Role::Primary {
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
