//! Transactions that are made here and count elsewhere first.

use std::{fmt, path::Path};

use ltx::{Header, NodeId};

use super::{
    apply::{ApplyError, Incoming},
    capture::Trigger,
    files::{FileKind, Files as _},
    handle::{Authority, Database},
    locks::{Conflict, LockByte, Owner},
    page::{DatabaseHeader, JournalMode},
    shm,
};

/// The node where the transactions of a database count, while its write lock is held from here.
pub trait Forward: fmt::Debug + Send + Sync {
    /// Tells whether an application may change the database now: what it begins is likely to be committed in time.
    fn may_write(&self) -> bool;

    /// Brings a transaction there and returns when it counts, or never will.
    ///
    /// * `file`: its LTX file.
    /// * `promised`: SQLite has promised it, and nothing is left untried.
    ///
    /// # Errors
    /// It does not count, or nobody knows.
    fn forward(&self, file: &Path, promised: bool) -> Result<(), ForwardError>;
}

/// Why a transaction does not count elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The write lock is not ours any more.
    #[error("the halt lock is not held any more")]
    NotHeld,
    /// The other node says no.
    #[error("the primary refuses it: {0}")]
    Refused(String),
    /// It may count or not: no answer came as long as the lock was held. Its stream tells.
    #[error("the primary did not say whether it counts: {0}")]
    Unknown(String),
}

impl Database {
    /// Lets the transactions of applications count elsewhere first, or nowhere any more.
    pub fn set_forward(&mut self, forward: Option<std::sync::Arc<dyn Forward>>) {
        self.forward = forward;
    }

    /// Keeps everybody else from writing, for one of our own that lets others read; whatever it held before.
    ///
    /// # Errors
    /// Somebody writes; then it holds nothing.
    pub fn hold(&mut self, owner: Owner) -> Result<(), Conflict> {
        self.locks.request_writing(owner)
    }

    /// Makes the index of a log that is empty, where the database has a log and nobody has its index open: who opens it while
    /// writers are [kept out](Self::hold) could not. Says whether there is one now that was not there.
    ///
    /// # Errors
    /// As the disk.
    pub fn offer_index(&mut self, owner: Owner) -> Result<bool, ApplyError> {
        let has_log = matches!(DatabaseHeader::read(&self.files), Ok(Some(header)) if header.journal_mode == JournalMode::Wal);
        if !has_log || self.locks.is_held_by_others(LockByte::WalOpen, owner) {
            return Ok(false);
        }
        self.files.create(FileKind::Shm)?;
        if self.files.len(FileKind::Shm)? != shm::BLOCK_BYTES as u64 {
            self.files.set_len(FileKind::Shm, shm::BLOCK_BYTES as u64)?;
        }
        self.renew_index()
    }

    /// Tells whether a transaction that `node` made is here already.
    #[must_use]
    pub fn has(&self, incoming: &Incoming, node: NodeId) -> bool {
        let header: &Header = incoming.header();
        header.node == node && header.max_txid <= self.history.pos().txid
    }

    /// Who lets a transaction count; nobody if that is not this node's to make.
    pub(super) fn authority(&self, trigger: Trigger) -> Option<Authority> {
        let primacy = &self.node.primacy;
        let admitted = self.admitted.filter(|epoch| match trigger {
            // SQLite has promised it: while the lease is let go, what is promised is still kept.
            Trigger::Unlock => primacy.lasts(*epoch),
            Trigger::Journal | Trigger::SuperJournal | Trigger::Drop => primacy.epoch() == Some(*epoch),
        });
        let elsewhere = match trigger {
            Trigger::Journal | Trigger::Unlock => self.forward.clone(),
            Trigger::SuperJournal | Trigger::Drop => None,
        };
        admitted.map(Authority::Here).or(elsewhere.map(Authority::There))
    }
}
