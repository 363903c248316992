//! Why an application may not do what it is about to do.

use std::io;

use ltx::PageSize;

use crate::db::{files::FileKind, page::DatabaseHeaderError};

/// Why an application may not do what it is about to do. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A file cannot be read.
    #[error("read {file}")]
    Read {
        /// Which one.
        file: FileKind,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A transaction leaves something that is no database.
    #[error("a transaction on the database file")]
    Header(#[source] DatabaseHeaderError),
    /// A transaction leaves nothing of a database.
    #[error("a transaction leaves nothing of a database of {pages} pages")]
    Emptied {
        /// What it had.
        pages: u32,
    },
    /// The log is written by someone who holds no lock that others see, as in exclusive locking mode: nobody could say when a
    /// transaction is committed.
    #[error("the write-ahead log is written without its lock, as in exclusive locking mode")]
    LogWithoutLock,
    /// The log is overwritten where it holds a transaction.
    #[error("the write-ahead log is written at {offset}, its transactions reach to {captured}")]
    OverwritesLog {
        /// Where.
        offset: u64,
        /// Behind the last transaction.
        captured: u64,
    },
    /// The log is cut where it holds a transaction.
    #[error("the write-ahead log is cut to {len}, its transactions reach to {captured}")]
    CutsLog {
        /// Its new length.
        len: u64,
        /// Behind the last transaction.
        captured: u64,
    },
    /// The log belongs to another database.
    #[error("a write-ahead log with pages of {log} bytes of a database with pages of {database}")]
    LogPageSize {
        /// The log's.
        log: PageSize,
        /// The database's.
        database: PageSize,
    },
}

impl CaptureError {
    pub(super) fn reading(file: FileKind) -> impl Fn(io::Error) -> Self + Copy {
        move |source| Self::Read { file, source }
    }
}
