//! PURE. On the primary: whose transactions of one database count that are made elsewhere.

use std::time::{Duration, Instant};

use lease::Epoch;
use ltx::{Header, NodeId, Pos};

/// A write lock that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its number, which the asker has chosen.
    pub id: i64,
    /// Who asked; nobody in particular if he did not say.
    pub peer: Option<NodeId>,
    /// Under which epoch this node granted it.
    pub epoch: Epoch,
    /// Where the database was.
    pub pos: Pos,
    /// When it ends.
    pub until: Instant,
}

/// What becomes of who asks for the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// He has it.
    Has(Grant),
    /// Nobody has it: writers are to be kept out, then it is [granted](Grants::grant).
    Free,
    /// Another has it.
    Busy,
}

/// Who brings a transaction, and what he says.
#[derive(Debug, Clone, Copy)]
pub struct Bringer<'a> {
    /// The number of his lock.
    pub id: Option<i64>,
    /// Who he is.
    pub peer: Option<NodeId>,
    /// The epoch under which this node is primary; nothing if it is none.
    pub epoch: Option<Epoch>,
    /// What the transaction says of itself.
    pub header: &'a Header,
}

/// Why a transaction is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TxRefused {
    /// He has no lock, or not that one.
    #[error("halt lock is not held")]
    NotHeld,
    /// He had it.
    #[error("halt lock has expired")]
    Expired,
    /// This node was primary when it granted the lock, and is not any more or again.
    #[error("lease expired")]
    OtherEpoch,
    /// It is not one transaction.
    #[error("non-sequential header minimum txid {min}, maximum {max}: one transaction at a time")]
    Several {
        /// The first.
        min: ltx::Txid,
        /// The last.
        max: ltx::Txid,
    },
}

/// The write lock of one database, as the primary has it.
///
/// It ends when it is [released](Self::release), when it is [too old](Self::expire), and when this node is [not primary any
/// more](Self::end). A transaction counts only while it lasts, whether or not anybody has noticed that it ended.
#[derive(Debug, Default)]
pub struct Grants {
    held: Option<Grant>,
}

impl Grants {
    /// Asks for the lock.
    #[must_use]
    pub fn ask(&self, now: Instant, id: i64) -> Asked {
        match &self.held {
            None => Asked::Free,
            Some(held) if held.id == id && now < held.until => Asked::Has(held.clone()),
            Some(_) => Asked::Busy,
        }
    }

    /// Lets the lock last on for who has it: nodes of LiteFS do not ask for that. Nothing if he does not have it.
    ///
    /// * `lasts`: from now on.
    pub fn renew(&mut self, now: Instant, id: i64, lasts: Duration) -> Option<Grant> {
        let held = self.held.as_mut()?;
        if held.id != id || held.until <= now {
            return None;
        }
        held.until = held.until.max(now + lasts);
        Some(held.clone())
    }

    /// Grants the lock, which nobody has: all others are kept out.
    pub fn grant(&mut self, grant: Grant) {
        self.held = Some(grant);
    }

    /// Tells whether nobody has it, or had it and has not been parted from it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.held.is_none()
    }

    /// Tells whether a transaction is one that counts now, if it follows.
    ///
    /// # Errors
    /// It is none.
    pub fn check(&self, now: Instant, bringer: Bringer<'_>) -> Result<Epoch, TxRefused> {
        let held = self.held.as_ref().ok_or(TxRefused::NotHeld)?;
        if bringer.id != Some(held.id) || held.peer.is_some() && held.peer != bringer.peer {
            return Err(TxRefused::NotHeld);
        }
        if bringer.epoch != Some(held.epoch) {
            return Err(TxRefused::OtherEpoch);
        }
        if now >= held.until {
            return Err(TxRefused::Expired);
        }
        let (min, max) = (bringer.header.min_txid, bringer.header.max_txid);
        if min != max {
            return Err(TxRefused::Several { min, max });
        }
        Ok(held.epoch)
    }

    /// Returns when the lock ends by itself.
    #[must_use]
    pub fn until(&self, id: i64) -> Option<Instant> {
        self.held
            .as_ref()
            .filter(|held| held.id == id)
            .map(|held| held.until)
    }

    /// Gives the lock back, and tells whether it was held.
    pub fn release(&mut self, id: i64) -> bool {
        self.held.take_if(|held| held.id == id).is_some()
    }

    /// Ends a lock that is too old, and tells whether it was.
    pub fn expire(&mut self, now: Instant, id: i64) -> bool {
        self.held
            .take_if(|held| held.id == id && held.until <= now)
            .is_some()
    }

    /// Ends the lock, whoever has it.
    pub fn end(&mut self) -> Option<Grant> {
        self.held.take()
    }
}

#[cfg(test)]
mod tests;
