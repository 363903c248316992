//! Why a transaction could not be committed.

use std::{fmt, io};

use ltx::{EncodeError, FileName, Pgno};

use crate::db::{capture::PagePlace, forward::ForwardError};

/// What was being done to an LTX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is created under its temporary name.
    Create,
    /// It is written, and synced unless the log has the transaction.
    Write,
    /// It is given its name.
    Publish,
    /// It is made durable, before the log goes that its transaction stands in.
    Sync,
    /// It turned out to say nothing and is removed.
    Discard,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Publish => "publish",
            Self::Sync => "sync",
            Self::Discard => "discard",
        })
    }
}

/// Why a transaction could not be committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A page cannot be read.
    #[error("read page {pgno} from {} at {}", .place.file, .place.offset)]
    Read {
        /// The page.
        pgno: Pgno,
        /// Where it stands.
        place: PagePlace,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written, or would be none.
    #[error("{name}")]
    Ltx {
        /// The file.
        name: FileName,
        /// What is wrong with it.
        #[source]
        source: EncodeError,
    },
    /// The disk fails.
    #[error("{step} {name}")]
    Disk {
        /// The file.
        name: FileName,
        /// What was being done.
        step: Step,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another makes transactions by now.
    #[error("this node is not primary any more")]
    NotPrimary,
    /// It does not count where it should first.
    #[error("bring a transaction to the primary")]
    Forward(#[source] ForwardError),
    /// It changes the size of pages, which takes two transactions: another node might take one of them alone.
    #[error("another page size cannot be brought to the primary")]
    Resized,
    /// No transaction can follow.
    #[error("the last transaction of 64 bits was used")]
    LastTxid,
}
