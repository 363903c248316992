//! Whether this node makes transactions, at this very moment.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use lease::{Epoch, Right};

use super::handle::Role;

/// No epoch.
const NOBODY: u64 = u64::MAX;

/// Whether this node makes transactions, at this very moment: it has the lease, and has made its databases ready since. Clones are
/// the same.
#[derive(Debug, Clone)]
pub struct Primacy {
    right: Arc<Right>,
    /// The epoch for which databases are made ready.
    begun: Arc<AtomicU64>,
    /// Whether this node is primary for good: after a restart, too.
    for_good: bool,
}

impl Primacy {
    /// Makes that of a node under a lease: it does not begin by itself.
    #[must_use]
    pub fn under(right: Arc<Right>) -> Self {
        Self {
            right,
            begun: Arc::new(AtomicU64::new(NOBODY)),
            for_good: false,
        }
    }

    /// Makes that of a node whose role never changes.
    #[must_use]
    pub fn fixed(role: Role) -> Self {
        let mut primacy = Self::under(Arc::new(match role {
            Role::Primary => Right::forever(),
            Role::Replica => Right::default(),
        }));
        primacy.for_good = role == Role::Primary;
        if role == Role::Primary {
            primacy.begin(Epoch::NONE);
        }
        primacy
    }

    /// Returns the right that it depends on.
    #[must_use]
    pub fn right(&self) -> Arc<Right> {
        Arc::clone(&self.right)
    }

    /// Begins: what is kept of the lease is durable, and databases may be made ready.
    pub fn begin(&self, epoch: Epoch) {
        self.begun.store(epoch.0, Ordering::SeqCst);
    }

    /// Ends, until it begins again.
    pub fn end(&self) {
        self.begun.store(NOBODY, Ordering::SeqCst);
    }

    /// Returns the epoch under which transactions are made now.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        let begun = self.begun.load(Ordering::SeqCst);
        self.right.now().filter(|epoch| epoch.0 == begun)
    }

    /// Tells whether what began under an epoch may still be acknowledged.
    #[must_use]
    pub fn lasts(&self, epoch: Epoch) -> bool {
        self.right.lasts(epoch)
    }

    /// Tells whether this node is primary whenever it runs: what SQLite's log holds at its next start will count then as well.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        self.for_good
    }

    /// Returns who makes transactions.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.epoch() {
            Some(_) => Role::Primary,
            None => Role::Replica,
        }
    }
}
