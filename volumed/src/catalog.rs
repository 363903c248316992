//! The catalog: volumes, snapshots, operations and events in one SQLite database.
//!
//! Every change is one transaction; a step of an operation and the records it changes commit together. On disk the
//! database runs in WAL mode with `synchronous=FULL` on one owner thread behind a bounded queue. In memory it runs in
//! the caller and can hand out its bytes after each commit, for simulations.

mod backend;
mod operation_log;
mod schema;
mod tx;

use std::path::PathBuf;

pub use backend::{Catalog, CommitHook};
pub use operation_log::{CatalogLog, Change};
pub use tx::{Event, NewEvent, OperationRow, Tx};

use crate::error::Refusal;

#[cfg(test)]
mod tests;

/// Why the catalog could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// SQLite did not open or migrate it.
    #[error("open catalog {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// It was written by a newer program.
    #[error("catalog {} has schema {found}, this program knows up to {known}; install the newer volumed", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: u32,
        /// Newest known schema.
        known: u32,
    },
    /// The owner thread did not start.
    #[error("start the catalog's thread")]
    Thread(#[source] std::io::Error),
}

/// Why a transaction did not commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// SQLite refused.
    #[error("catalog: {doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A stored record cannot be read.
    #[error("catalog: record {id} in {table} is damaged")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which record.
        id: String,
        /// What the decoder said.
        source: serde_json::Error,
    },
    /// A record that the change needs is not there.
    #[error("catalog: {id} is missing")]
    Missing {
        /// Its id.
        id: String,
    },
    /// The owner thread has ended.
    #[error("the catalog has stopped")]
    Stopped,
}

/// Why a transaction was rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TxError {
    /// The change itself said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The subject has a running operation.
    #[error("{subject} is busy with operation {running}")]
    Busy {
        /// What the operation changes.
        subject: String,
        /// The operation in the way.
        running: String,
    },
}
