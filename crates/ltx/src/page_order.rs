//! PURE. Which pages a file may hold, and in which order.

use crate::{Header, Pgno};

/// Admits the pages of one file, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct PageOrder {
    snapshot: bool,
    commit_pages: u32,
    lock_page: Pgno,
    last: u32,
}

impl PageOrder {
    pub(crate) fn new(header: &Header) -> Self {
        Self {
            snapshot: header.is_snapshot(),
            commit_pages: header.commit_pages,
            lock_page: header.page_size.lock_page(),
            last: 0,
        }
    }

    /// Admits the next page, or says why it may not stand here; then nothing has changed.
    pub(crate) fn admit(&mut self, pgno: Pgno) -> Result<(), PageOrderError> {
        let (number, last) = (pgno.get(), self.last);
        if number > self.commit_pages {
            let commit_pages = self.commit_pages;
            return Err(PageOrderError::BeyondCommit { pgno, commit_pages });
        }
        if pgno == self.lock_page {
            return Err(PageOrderError::LockPage { pgno });
        }
        if number <= last {
            return Err(PageOrderError::Order { pgno, last });
        }
        let expected = self.successor();
        if self.snapshot && u64::from(number) != expected {
            return Err(PageOrderError::SnapshotGap { pgno, expected });
        }
        self.last = number;
        Ok(())
    }

    /// Says whether the pages may end here: those of a snapshot reach to its commit.
    pub(crate) fn end(&self) -> Result<(), PageOrderError> {
        let missing = self.successor();
        if self.snapshot && missing <= u64::from(self.commit_pages) {
            let commit_pages = self.commit_pages;
            return Err(PageOrderError::SnapshotEnd {
                missing,
                commit_pages,
            });
        }
        Ok(())
    }

    /// The page that follows the last one in a snapshot; the lock page is in none.
    fn successor(&self) -> u64 {
        let next = u64::from(self.last) + 1;
        if next == u64::from(self.lock_page.get()) {
            next + 1
        } else {
            next
        }
    }
}

/// Why a page may not stand where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageOrderError {
    /// The database does not reach that far after the transaction.
    #[error("page {pgno} beyond the commit of {commit_pages} pages")]
    BeyondCommit {
        /// The page.
        pgno: Pgno,
        /// Pages of the database.
        commit_pages: u32,
    },
    /// The page of SQLite's lock bytes is in no file.
    #[error("page {pgno} is the lock page")]
    LockPage {
        /// The page.
        pgno: Pgno,
    },
    /// Page numbers rise.
    #[error("page {pgno} after page {last}")]
    Order {
        /// The page.
        pgno: Pgno,
        /// The one before it.
        last: u32,
    },
    /// A snapshot holds every page.
    #[error("page {pgno} where a snapshot has page {expected}")]
    SnapshotGap {
        /// The page.
        pgno: Pgno,
        /// The one that belongs there.
        expected: u64,
    },
    /// A snapshot ends with the database's last page.
    #[error("a snapshot of {commit_pages} pages ends before page {missing}")]
    SnapshotEnd {
        /// The first page that is not there.
        missing: u64,
        /// Pages of the database.
        commit_pages: u32,
    },
}

#[cfg(test)]
mod tests;
