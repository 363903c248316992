//! PURE. The checksums of a database's pages, and with them the database's own.

use std::collections::BTreeMap;

use ltx::{Checksum, PageSize, Pgno};

/// What the pages of a database add up to after its last transaction, wherever they lie: in its file or in its log.
///
/// Memory: 8 bytes a page. A transaction costs what its pages cost, not what the database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageChecksums {
    lock_page: Option<Pgno>,
    /// Of page 1 first. That of the lock page is none.
    pages: Vec<Checksum>,
    database: Checksum,
}

impl Default for PageChecksums {
    fn default() -> Self {
        Self {
            lock_page: None,
            pages: Vec::new(),
            database: Checksum::EMPTY_DATABASE,
        }
    }
}

impl PageChecksums {
    /// Returns those of a database without pages.
    #[must_use]
    pub fn new(page_size: PageSize) -> Self {
        Self {
            lock_page: Some(page_size.lock_page()),
            ..Self::default()
        }
    }

    /// Returns those of a database whose pages have these checksums, the first one's first; the lock page's is left out.
    #[must_use]
    pub fn of(page_size: PageSize, pages: Vec<Checksum>) -> Self {
        let mut checksums = Self {
            pages,
            ..Self::new(page_size)
        };
        if let Some(lock_page) = checksums.pages.get_mut(index(page_size.lock_page())) {
            *lock_page = Checksum::NONE;
        }
        checksums.database = checksums
            .pages
            .iter()
            .fold(Checksum::EMPTY_DATABASE, |database, page| toggle(database, *page));
        checksums
    }

    /// Returns the number of pages.
    #[must_use]
    pub fn pages(&self) -> u32 {
        u32::try_from(self.pages.len()).expect("page numbers have 32 bits")
    }

    /// Returns the database's checksum.
    #[must_use]
    pub fn database(&self) -> Checksum {
        self.database
    }

    /// Returns a page's checksum; none for the lock page and beyond the last one.
    #[must_use]
    pub fn page(&self, pgno: Pgno) -> Checksum {
        self.pages.get(index(pgno)).copied().unwrap_or(Checksum::NONE)
    }

    /// Returns the checksums of all pages, the first one's first.
    pub(super) fn all(&self) -> &[Checksum] {
        &self.pages
    }

    /// Returns the database's checksum as it would be after [`apply`](Self::apply).
    #[must_use]
    pub fn after(&self, commit_pages: u32, changed: &BTreeMap<Pgno, Checksum>) -> Checksum {
        let cut = self.pages.iter().skip(commit_pages as usize);
        let cut = cut.fold(self.database, |database, page| toggle(database, *page));
        let within = changed.iter().filter(|(pgno, _)| pgno.get() <= commit_pages);
        within.fold(cut, |database, (pgno, checksum)| {
            if Some(*pgno) == self.lock_page {
                return database;
            }
            toggle(toggle(database, self.page(*pgno)), *checksum)
        })
    }

    /// Takes a transaction over.
    ///
    /// * `commit_pages`: how many pages the database has afterwards.
    /// * `changed`: the checksums of pages that may have changed. Every page that the database did not have before is among
    ///   them, the lock page excepted.
    pub fn apply(&mut self, commit_pages: u32, changed: &BTreeMap<Pgno, Checksum>) {
        self.database = self.after(commit_pages, changed);
        self.pages.resize(commit_pages as usize, Checksum::NONE);
        for (pgno, checksum) in changed {
            if pgno.get() <= commit_pages && Some(*pgno) != self.lock_page {
                self.pages[index(*pgno)] = *checksum;
            }
        }
    }
}

fn index(pgno: Pgno) -> usize {
    pgno.get() as usize - 1
}

fn toggle(database: Checksum, page: Checksum) -> Checksum {
    if page.is_none() {
        database
    } else {
        database.toggle(page)
    }
}

#[cfg(test)]
mod tests;
