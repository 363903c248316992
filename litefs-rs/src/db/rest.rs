//! A database that is put at rest, and one that was: nobody uses it, and its log is in it.

use ltx::{Checksum, Pgno};

use super::{
    capture::{GiveUp, Input, in_database, read_page},
    files::{FileKind, Files as _},
    handle::{Database, DatabaseError, disk},
    kept_checksums,
    locks::LockByte,
    rollback_journal,
};

/// What became of a database that was to be put at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is: the next start is quick, and there is no log.
    Settled,
    /// A transaction was under way. The next start takes it back.
    Interrupted,
}

/// A page is not what its transaction made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("page {pgno} has the checksum {found}, its transaction left {expected}")]
pub struct Damaged {
    /// The page.
    pub pgno: Pgno,
    /// What it should have.
    pub expected: Checksum,
    /// What it has.
    pub found: Checksum,
}

impl Database {
    /// Puts the database at rest. Nobody has it open any more.
    ///
    /// # Errors
    /// As the disk. The next start finds everything.
    pub fn settle(&mut self) -> Result<Rest, DatabaseError> {
        // What a writer left that died when it had written everything.
        let (lock, by) = (LockByte::WalWrite, GiveUp::Request);
        self.tell(Input::GiveUp { lock, by })?;
        let live = rollback_journal::is_live(&self.files);
        if live.map_err(disk(FileKind::RollbackJournal))? || !self.capture.is_settled() {
            return Ok(Rest::Interrupted);
        }
        self.empty_log()?;
        for file in [FileKind::Wal, FileKind::Shm, FileKind::RollbackJournal] {
            self.files.unlink(file).map_err(disk(file))?;
        }
        self.files.sync_names().map_err(disk(FileKind::Database))?;
        // Also of what was not verified yet: the next start begins with that again.
        let kept = kept_checksums::keep(&*self.node.disk, &self.directory, &self.history);
        kept.map_err(disk(FileKind::Database))?;
        Ok(Rest::Settled)
    }

    /// Copies the log into the database, durably.
    pub(super) fn empty_log(&mut self) -> Result<(), DatabaseError> {
        self.make_durable()?;
        let Some(page_size) = self.history.page_size() else {
            return Ok(());
        };
        let mut page = vec![0; page_size.as_usize()];
        let pages = self.history.checksums().pages();
        let in_log: Vec<_> = self.capture.in_log().collect();
        for (pgno, place) in in_log.iter().filter(|(pgno, _)| pgno.get() <= pages) {
            read_page(&self.files, *place, &mut page).map_err(disk(FileKind::Wal))?;
            let offset = in_database(page_size, *pgno).offset;
            self.files
                .write(FileKind::Database, &page, offset)
                .map_err(disk(FileKind::Database))?;
        }
        let len = u64::from(pages) * u64::from(page_size.bytes());
        if self
            .files
            .len(FileKind::Database)
            .map_err(disk(FileKind::Database))?
            != len
        {
            self.files
                .set_len(FileKind::Database, len)
                .map_err(disk(FileKind::Database))?;
        }
        self.files
            .sync(FileKind::Database)
            .map_err(disk(FileKind::Database))
    }

    /// Compares some pages with their checksums, if those were believed at start; nothing when all are verified.
    ///
    /// * `count`: how many pages are read at most.
    ///
    /// # Errors
    /// As the disk.
    pub fn verify(&mut self, count: u32) -> Result<Option<Result<(), Damaged>>, DatabaseError> {
        let (Some(from), Some(page_size)) = (self.unverified, self.history.page_size()) else {
            self.unverified = None;
            return Ok(None);
        };
        if !self.capture.is_settled() {
            // A transaction is under way: what stands in the file may be its.
            return Ok(Some(Ok(())));
        }
        let mut page = vec![0; page_size.as_usize()];
        let last = self.history.checksums().pages();
        let mut next = Some(from);
        for _ in 0..count {
            let Some(pgno) = next.filter(|pgno| pgno.get() <= last) else {
                self.unverified = None;
                return Ok(None);
            };
            if let Some(place) = self.capture.place(pgno).filter(|_| pgno != page_size.lock_page()) {
                read_page(&self.files, place, &mut page).map_err(disk(place.file))?;
                let (expected, found) = (
                    self.history.checksums().page(pgno),
                    Checksum::of_page(pgno, &page),
                );
                if expected != found {
                    return Ok(Some(Err(Damaged {
                        pgno,
                        expected,
                        found,
                    })));
                }
            }
            next = pgno.next();
        }
        self.unverified = next;
        Ok(Some(Ok(())))
    }
}
