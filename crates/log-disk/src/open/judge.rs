//! PURE. Whether a journal continues the disk's history.

use crate::head::Head;
use crate::{Epoch, Superblock};

/// What a journal is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalState {
    /// It holds what comes after the disk's objects.
    Continues,
    /// It has never been written to, or the disk has not: nothing can be missing.
    Unused,
    /// Another journal went on after it, or this one in a later epoch: it must never be replayed.
    Stale {
        /// The epoch that writes there.
        journal: Epoch,
        /// The epoch that the disk's objects go on in.
        disk: Epoch,
    },
}

/// Judges a journal by what HEAD says. It continues the history when the newest stream is written from it: by the epoch that its
/// superblock names, or by the one that it was about to become when the process died. Claims that were never completed wrote
/// nothing, so they do not matter.
#[must_use]
pub fn judge_journal(superblock: &Superblock, head: &Head) -> JournalState {
    let Some(stream) = head.stream() else {
        return JournalState::Unused;
    };
    let named = stream.epoch == superblock.epoch || stream.epoch == superblock.adopting;
    if stream.owner == superblock.journal && named {
        JournalState::Continues
    } else if superblock.epoch == Epoch(0) {
        JournalState::Unused
    } else {
        JournalState::Stale {
            journal: superblock.epoch,
            disk: stream.epoch,
        }
    }
}
