//! PURE. What is told to who watches the files of a database, and what it says to that.

use std::collections::BTreeMap;

use ltx::{PageSize, Pgno, WalSpan};

use crate::db::{files::FileKind, locks::LockByte, wal::WalPlace};

/// What an application is about to do, or what was done for it.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Bytes are about to be written.
    Write {
        /// The file.
        file: FileKind,
        /// Where.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// A file is about to be cut, or grown.
    Truncate {
        /// The file.
        file: FileKind,
        /// Its new length in bytes.
        len: u64,
    },
    /// A file's name is about to be removed; the database's, if it is to be dropped.
    Unlink {
        /// The file.
        file: FileKind,
    },
    /// A super-journal is about to be unlinked: that of the transaction, if its journal names it.
    UnlinkSuperJournal {
        /// The last part of its path.
        name: &'a [u8],
    },
    /// A byte that somebody holds alone is about to be given up: see [`Locks::given_up`](crate::db::locks::Locks::given_up).
    GiveUp {
        /// The byte.
        lock: LockByte,
        /// How it comes.
        by: GiveUp,
    },
    /// What was written to a file is now durable.
    Synced {
        /// The file.
        file: FileKind,
    },
    /// A transaction has its place in our history, or turned out to have changed nothing.
    Committed(&'a CommitPoint),
}

/// How a lock comes to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// Its holder asked for it.
    Request,
    /// Its holder closed the file, or died.
    Close,
}

/// What is to be done before the input is, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make a file durable, and say so.
    Sync(FileKind),
    /// Commit a transaction, and say so. If that cannot be done the input is refused: SQLite then rolls back, but for a lock
    /// that is given up. It has promised the transaction by then, and a node that cannot keep it must stop.
    Commit(CommitPoint),
}

/// What ended a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Its rollback journal was finished.
    Journal,
    /// The super-journal of its rollback journal was.
    SuperJournal,
    /// A lock was given up.
    Unlock,
    /// The database was dropped.
    Drop,
}

/// Where a page stands as a transaction left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagePlace {
    /// The database or its log. Behind the end of the database a page is zeros.
    pub file: FileKind,
    /// Where the page begins, in bytes.
    pub offset: u64,
}

/// A transaction that ends now. Its pages stand in the files until the input is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPoint {
    /// What ended it.
    pub trigger: Trigger,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// Whether pages had another size before; then all pages are here, and the old ones are gone.
    pub resizes_pages: bool,
    /// How many pages the database has now; 0 when it is dropped.
    pub commit_pages: u32,
    /// All pages that may have changed, and all that are new; never the lock page.
    pub pages: BTreeMap<Pgno, PagePlace>,
    /// The part of the log that it stands in.
    pub wal: Option<WalSpan>,
    pub(super) wal_end: Option<WalPlace>,
}
