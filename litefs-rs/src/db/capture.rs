//! PURE. When a transaction of SQLite is committed, and which pages it wrote.
//!
//! | journal | a transaction is committed when |
//! |---|---|
//! | `DELETE` | the rollback journal is unlinked |
//! | `TRUNCATE` | it is cut to nothing |
//! | `PERSIST`, exclusive locking | its header is overwritten with zeros |
//! | `WAL` | the log's write lock is given up and complete frames are there |
//! | `MEMORY`, `OFF` | the database's exclusive lock is given up, and there is no journal |
//! | any, over several databases | the super-journal is unlinked that their journals name |
//!
//! A rollback ends the same way, with the pages as they were: whoever commits compares them, and makes nothing of it.

mod byte_ranges;
mod error;
mod messages;

pub use error::CaptureError;
pub use messages::{CommitPoint, GiveUp, Input, Output, PagePlace, Trigger};

use std::{collections::BTreeMap, io};

use ltx::{PageSize, Pgno};

use super::{
    files::{FileKind, Files},
    locks::{LockByte, Locks, Mode},
    page::{DatabaseHeader, ReadHeaderError},
    rollback_journal,
    wal::{self, WalHeader, WalPlace, WalTransactions},
};
use byte_ranges::ByteRanges;

/// Watches the files of one database.
///
/// Every input comes before what it announces is done, and waits for the outputs; after an error it is not done at all.
#[derive(Debug, Clone)]
pub struct Capture {
    page_size: Option<PageSize>,
    pages: u32,
    /// Bytes of the database that were written since its last transaction, or since its log was last empty.
    written: ByteRanges,
    log: Option<Log>,
    database_unsynced: bool,
    log_unsynced: bool,
    /// The end of a journal, too: one that came back after a power cut is harmless only while its transaction is the last.
    journal_unsynced: bool,
}

#[derive(Debug, Clone)]
struct Log {
    header: WalHeader,
    /// Behind the last transaction that was captured.
    captured: WalPlace,
    /// Where the newest copy of each page is.
    pages: BTreeMap<Pgno, u64>,
}

impl Capture {
    /// Begins with a database at rest: without a live journal and with an empty log.
    ///
    /// * `page_size`: nothing when there is no database yet.
    /// * `pages`: how many it has.
    #[must_use]
    pub fn new(page_size: Option<PageSize>, pages: u32) -> Self {
        Self {
            page_size,
            pages,
            written: ByteRanges::default(),
            log: None,
            database_unsynced: false,
            log_unsynced: false,
            journal_unsynced: false,
        }
    }

    /// Takes an input and says what is to be done before it.
    ///
    /// # Errors
    /// The application may not do this, or the files cannot be read or make no sense.
    pub fn handle<F: Files + ?Sized>(
        &mut self,
        input: Input<'_>,
        locks: &Locks,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        match input {
            Input::Write { file, offset, data } => self.write(file, offset, data, locks, files, out),
            Input::Truncate { file, len } => self.truncate(file, len, files, out),
            Input::Unlink { file } => self.unlink(file, files, out),
            Input::UnlinkSuperJournal { name } => self.unlink_super_journal(name, files, out),
            Input::GiveUp { lock, by } => self.give_up(lock, by, files, out),
            Input::Synced { file } => {
                match file {
                    FileKind::Database => self.database_unsynced = false,
                    FileKind::Wal => self.log_unsynced = false,
                    FileKind::RollbackJournal => self.journal_unsynced = false,
                    FileKind::Shm => {}
                }
                Ok(())
            }
            Input::Committed(point) => {
                self.committed(point);
                Ok(())
            }
        }
    }

    /// Returns where the newest committed copy of a page is.
    #[must_use]
    pub fn place(&self, pgno: Pgno) -> Option<PagePlace> {
        let page_size = self.page_size.filter(|_| pgno.get() <= self.pages)?;
        let in_log = self.log.as_ref().and_then(|log| log.pages.get(&pgno));
        Some(match in_log {
            Some(offset) => PagePlace {
                file: FileKind::Wal,
                offset: *offset,
            },
            None => in_database(page_size, pgno),
        })
    }

    /// Returns the pages whose newest committed copy is in the log.
    pub(super) fn in_log(&self) -> impl Iterator<Item = (Pgno, PagePlace)> + '_ {
        let pages = self.log.iter().flat_map(|log| &log.pages);
        pages.map(|(pgno, offset)| (*pgno, in_log(*offset)))
    }

    /// Returns the log and where it goes on; nothing when there is none.
    pub(super) fn log(&self) -> Option<(WalHeader, WalPlace)> {
        let log = self.log.as_ref()?;
        Some((log.header, log.captured))
    }

    /// Takes up a transaction that was appended to the log, and not by an application.
    ///
    /// * `pages`: where they stand.
    pub(super) fn appended(
        &mut self,
        header: WalHeader,
        end: WalPlace,
        pages: BTreeMap<Pgno, u64>,
        commit_pages: u32,
    ) {
        let log = self.log.get_or_insert_with(|| Log {
            header,
            captured: end,
            pages: BTreeMap::new(),
        });
        log.pages.extend(pages);
        log.captured = end;
        self.pages = commit_pages;
    }

    /// Tells whether the database file holds nothing but what was committed, a checkpoint's pages included.
    pub(super) fn is_settled(&self) -> bool {
        self.written.is_empty() || self.in_log().next().is_some()
    }

    fn write<F: Files + ?Sized>(
        &mut self,
        file: FileKind,
        offset: u64,
        data: &[u8],
        locks: &Locks,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        match file {
            FileKind::Database => {
                self.written
                    .insert(offset..offset.saturating_add(data.len() as u64));
                self.database_unsynced = true;
                Ok(())
            }
            FileKind::RollbackJournal => {
                let magic = rollback_journal::MAGIC;
                let kept = data.len().min(magic.len());
                if offset == 0 && data[..kept] != magic[..kept] {
                    self.finish_journal(files, out)?;
                }
                self.journal_unsynced = true;
                Ok(())
            }
            FileKind::Wal => self.write_log(offset, data, locks, out),
            FileKind::Shm => Ok(()),
        }
    }

    fn write_log(
        &mut self,
        offset: u64,
        data: &[u8],
        locks: &Locks,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        if locks.state(LockByte::WalWrite) != Some(Mode::Exclusive) {
            return Err(CaptureError::LogWithoutLock);
        }
        let header: Option<&[u8; wal::HEADER_BYTES]> = data.try_into().ok().filter(|_| offset == 0);
        if let Some(header) = header {
            self.empty_log(out);
            self.log = WalHeader::decode(header).map(|(header, checksum)| Log {
                header,
                captured: WalPlace::first(checksum),
                pages: BTreeMap::new(),
            });
        } else {
            let captured = self
                .log
                .as_ref()
                .map_or(wal::HEADER_BYTES as u64, |log| log.captured.offset);
            if offset < captured {
                return Err(CaptureError::OverwritesLog { offset, captured });
            }
        }
        self.log_unsynced = true;
        Ok(())
    }

    fn truncate<F: Files + ?Sized>(
        &mut self,
        file: FileKind,
        len: u64,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        match file {
            FileKind::Database => {
                self.written.insert(len..u64::MAX);
                self.database_unsynced = true;
                Ok(())
            }
            FileKind::RollbackJournal => {
                if len < rollback_journal::MAGIC.len() as u64 {
                    self.finish_journal(files, out)?;
                }
                self.journal_unsynced = true;
                Ok(())
            }
            FileKind::Shm => Ok(()),
            FileKind::Wal => {
                let captured = self.log.as_ref().map_or(0, |log| log.captured.offset);
                if len == 0 {
                    self.empty_log(out);
                } else if len < captured {
                    return Err(CaptureError::CutsLog { len, captured });
                }
                self.log_unsynced = true;
                Ok(())
            }
        }
    }

    fn unlink<F: Files + ?Sized>(
        &mut self,
        file: FileKind,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        match file {
            FileKind::Database => {
                if let Some(page_size) = self.page_size.filter(|_| self.pages > 0) {
                    out.push(Output::Commit(CommitPoint {
                        trigger: Trigger::Drop,
                        page_size,
                        resizes_pages: false,
                        commit_pages: 0,
                        pages: BTreeMap::new(),
                        wal: None,
                        wal_end: None,
                    }));
                }
                Ok(())
            }
            FileKind::RollbackJournal => {
                self.finish_journal(files, out)?;
                self.journal_unsynced = false;
                Ok(())
            }
            FileKind::Wal => {
                self.empty_log(out);
                Ok(())
            }
            FileKind::Shm => Ok(()),
        }
    }

    fn unlink_super_journal<F: Files + ?Sized>(
        &mut self,
        name: &[u8],
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        let read = CaptureError::reading(FileKind::RollbackJournal);
        if !rollback_journal::is_live(files).map_err(read)? {
            return Ok(());
        }
        let path = rollback_journal::super_journal(files).map_err(read)?;
        let ours = path.is_some_and(|path| path.rsplit(|byte| *byte == b'/').next() == Some(name));
        if ours {
            self.end_transaction(Trigger::SuperJournal, files, out)?;
        }
        Ok(())
    }

    fn give_up<F: Files + ?Sized>(
        &mut self,
        lock: LockByte,
        by: GiveUp,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        match lock {
            LockByte::WalWrite => match by {
                GiveUp::Request => self.capture_log(files, out),
                // Its writer died, perhaps after its last frame and before it told SQLite's other processes. If they go on,
                // they overwrite it; if one rebuilds the index it finds the frames, and then gives this lock up.
                GiveUp::Close => Ok(()),
            },
            LockByte::Shared if self.written.is_empty() => Ok(()),
            LockByte::Shared => {
                let in_log = self.log.as_ref().is_some_and(|log| !log.pages.is_empty());
                let live = rollback_journal::is_live(files);
                if in_log || live.map_err(CaptureError::reading(FileKind::RollbackJournal))? {
                    // What was written is a checkpoint's, or will be rolled back.
                    return Ok(());
                }
                self.end_transaction(Trigger::Unlock, files, out)
            }
            LockByte::Pending
            | LockByte::Reserved
            | LockByte::WalCheckpoint
            | LockByte::WalRecover
            | LockByte::WalRead0
            | LockByte::WalRead1
            | LockByte::WalRead2
            | LockByte::WalRead3
            | LockByte::WalRead4
            | LockByte::WalOpen => Ok(()),
        }
    }

    /// Before the log's frames go: they are all in the database, and must be there for good.
    fn empty_log(&mut self, out: &mut Vec<Output>) {
        if self.log.take().is_some_and(|log| !log.pages.is_empty()) && self.database_unsynced {
            out.push(Output::Sync(FileKind::Database));
        }
        self.written.clear();
    }

    fn finish_journal<F: Files + ?Sized>(
        &mut self,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        // SQLite writes to the database only under a live journal: one that never was has nothing to finish.
        let live = rollback_journal::is_live(files);
        if live.map_err(CaptureError::reading(FileKind::RollbackJournal))? {
            self.end_transaction(Trigger::Journal, files, out)?;
        }
        Ok(())
    }

    /// Ends what was written to the database itself.
    fn end_transaction<F: Files + ?Sized>(
        &mut self,
        trigger: Trigger,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        if self.written.is_empty() {
            return Ok(());
        }
        let header = DatabaseHeader::read(files).map_err(|error| match error {
            ReadHeaderError::Read(source) => CaptureError::reading(FileKind::Database)(source),
            ReadHeaderError::Header(source) => CaptureError::Header(source),
        })?;
        let Some(header) = header else {
            return if self.pages == 0 {
                Ok(())
            } else {
                Err(CaptureError::Emptied { pages: self.pages })
            };
        };
        let file_bytes = files.len(FileKind::Database);
        let file_bytes = file_bytes.map_err(CaptureError::reading(FileKind::Database))?;
        let commit_pages = header.pages(file_bytes).map_err(CaptureError::Header)?;
        let page_size = header.page_size;
        let resizes_pages = self.page_size.is_some_and(|before| before != page_size);
        let before = if resizes_pages { 0 } else { self.pages };
        let written = self
            .written
            .blocks(u64::from(page_size.bytes()), u64::from(commit_pages));
        let written = written.filter_map(|block| u32::try_from(block + 1).ok());
        let pages = written
            .chain(before + 1..=commit_pages)
            .filter_map(Pgno::new)
            .filter(|pgno| *pgno != page_size.lock_page())
            .map(|pgno| (pgno, in_database(page_size, pgno)))
            .collect();
        self.sync_before_commit(FileKind::Database, self.database_unsynced, out);
        out.push(Output::Commit(CommitPoint {
            trigger,
            page_size,
            resizes_pages,
            commit_pages,
            pages,
            wal: None,
            wal_end: None,
        }));
        Ok(())
    }

    /// Ends what was appended to the log. More than one transaction is there when a writer died before, and when SQLite
    /// repeats a commit to fill a sector.
    fn capture_log<F: Files + ?Sized>(
        &mut self,
        files: &F,
        out: &mut Vec<Output>,
    ) -> Result<(), CaptureError> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        let found = wal::transactions(files, &log.header, log.captured, u64::MAX);
        let Some(found) = found.map_err(CaptureError::reading(FileKind::Wal))? else {
            return Ok(());
        };
        let page_size = log.header.page_size;
        if let Some(before) = self.page_size.filter(|before| *before != page_size) {
            return Err(CaptureError::LogPageSize {
                log: page_size,
                database: before,
            });
        }
        let point = in_log_from(&log.header, log.captured, &found, self.pages, &log.pages);
        self.sync_before_commit(FileKind::Wal, self.log_unsynced, out);
        out.push(Output::Commit(point));
        Ok(())
    }

    /// A transaction is durable only with the files that it stands in; and with the end of the journal before it.
    fn sync_before_commit(&self, file: FileKind, unsynced: bool, out: &mut Vec<Output>) {
        if self.journal_unsynced {
            out.push(Output::Sync(FileKind::RollbackJournal));
        }
        if unsynced {
            out.push(Output::Sync(file));
        }
    }

    fn committed(&mut self, point: &CommitPoint) {
        if point.commit_pages == 0 {
            *self = Self::new(None, 0);
            return;
        }
        self.page_size = Some(point.page_size);
        self.pages = point.commit_pages;
        match (&mut self.log, point.wal_end) {
            (Some(log), Some(end)) => {
                assert!(log.captured.offset < end.offset, "a log is captured forwards");
                let in_log = point
                    .pages
                    .iter()
                    .filter(|(_, place)| place.file == FileKind::Wal);
                log.pages
                    .extend(in_log.map(|(pgno, place)| (*pgno, place.offset)));
                log.captured = end;
            }
            _ => self.written.clear(),
        }
    }
}

/// What was appended to a log.
///
/// * `from`: where it begins.
/// * `pages_before`: of the database before it.
/// * `older`: where pages stand in the log before it.
pub(super) fn in_log_from(
    log: &WalHeader,
    from: WalPlace,
    appended: &WalTransactions,
    pages_before: u32,
    older: &BTreeMap<Pgno, u64>,
) -> CommitPoint {
    let (page_size, commit_pages) = (log.page_size, appended.commit_pages);
    let mut pages = BTreeMap::new();
    for pgno in (pages_before + 1..=commit_pages).filter_map(Pgno::new) {
        let in_log = older.get(&pgno).map(|offset| in_log(*offset));
        pages.insert(pgno, in_log.unwrap_or_else(|| in_database(page_size, pgno)));
    }
    pages.extend(
        appended
            .pages
            .iter()
            .map(|(pgno, offset)| (*pgno, in_log(*offset))),
    );
    pages.retain(|pgno, _| pgno.get() <= commit_pages && *pgno != page_size.lock_page());
    CommitPoint {
        trigger: Trigger::Unlock,
        page_size,
        resizes_pages: false,
        commit_pages,
        pages,
        wal: Some(log.span(from, appended.end)),
        wal_end: Some(appended.end),
    }
}

/// Where a page is in the database file.
pub(super) fn in_database(page_size: PageSize, pgno: Pgno) -> PagePlace {
    PagePlace {
        file: FileKind::Database,
        offset: u64::from(pgno.get() - 1) * u64::from(page_size.bytes()),
    }
}

/// Where a page is in the log.
pub(super) fn in_log(offset: u64) -> PagePlace {
    PagePlace {
        file: FileKind::Wal,
        offset,
    }
}

/// Reads a page from where it stands; behind the end of its file it is zeros.
///
/// # Errors
/// The file cannot be read.
pub fn read_page<F: Files + ?Sized>(files: &F, place: PagePlace, page: &mut [u8]) -> io::Result<()> {
    let read = files.read_at(place.file, page, place.offset)?;
    page[read..].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests;
