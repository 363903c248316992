//! Why a database could not be recovered.

use std::io;

use ltx::{Checksum, DecodeError, FileName, PageSize, Pos};

use crate::db::{commit::CommitError, page::ReadHeaderError};

/// Why a database could not be recovered. Other databases are not touched by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The disk fails.
    #[error("recover a database")]
    Disk(#[from] io::Error),
    /// The database file is no database.
    #[error("recover a database")]
    Header(#[from] ReadHeaderError),
    /// The newest LTX file cannot be read.
    #[error("{file}")]
    Ltx {
        /// The file.
        file: FileName,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// Between LTX files one is missing, and the log does not hold its transaction.
    #[error("{file} follows upon {before}, which is missing, and the log does not hold it")]
    Gap {
        /// The file behind the gap.
        file: FileName,
        /// What should be before it.
        before: Pos,
    },
    /// The newest LTX file holds other transactions than its name says.
    #[error("{file} holds {says}")]
    Misnamed {
        /// Its name.
        file: FileName,
        /// What it should be called.
        says: FileName,
    },
    /// A rollback journal is of another database, or damaged.
    #[error("a rollback journal of {pages} pages of {page_size} bytes")]
    Journal {
        /// What it would bring back.
        pages: u32,
        /// Their size.
        page_size: PageSize,
    },
    /// There is a database, and no transaction that made it.
    #[error("a database of {pages} pages without any ltx file")]
    NoHistory {
        /// Its pages.
        pages: u32,
    },
    /// There is no database where there was one.
    #[error("no database is left of the one at {before}")]
    NoDatabase {
        /// Where it was.
        before: Pos,
    },
    /// The database is neither as the newest LTX file found it nor as it left it.
    #[error("checksum {found} of a database that {file} takes from {before} to {after}")]
    Diverged {
        /// The newest file.
        file: FileName,
        /// The checksum before it.
        before: Checksum,
        /// The checksum after it.
        after: Checksum,
        /// What the database has.
        found: Checksum,
    },
    /// What has no LTX file cannot be given one.
    #[error("make a transaction of what was found")]
    Keep(#[from] CommitError),
}
