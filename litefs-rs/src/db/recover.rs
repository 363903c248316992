//! A database at start: what a crash left is made whole, and nothing that SQLite was promised is lost.
//!
//! The newest LTX file says where the database stands. A rollback journal that is live is played back: if it was that
//! file's transaction, the file is applied. Playing back leaves pages that nobody uses as the transaction left them; and what
//! the log holds behind that file was committed for SQLite, and not yet for us, or by a file that was not synced. Either becomes
//! LTX files, if this node may make some.

mod error;
mod journal;
mod left_log;
mod newest;

pub use error::RecoverError;

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use crashsafe::Disk;
use ltx::{Checksum, PageSize, Pgno, Pos, WalSpan};

use super::{
    capture::{PagePlace, in_database, in_log, in_log_from, read_page},
    checksum::PageChecksums,
    commit::{Durable, History, Origin, Pages, sync_files, write_file},
    database_files::{DatabaseFiles, ltx_directory},
    files::{FileKind, Files as _},
    page::{DatabaseHeader, ReadHeaderError},
    rollback_journal,
    wal::WalPlace,
};
use journal::Undone;
use left_log::{LeftLog, Offsets};
use newest::{Found, Newest};

/// What becomes of what SQLite did and what has no LTX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// It becomes one: this node is the primary, as it was when that was done.
    Keep(Origin),
    /// It goes: another may be the primary by now, and have made other transactions. A database that cannot be had without
    /// it is refused, and is to be fetched.
    Drop,
}

/// A database that is whole.
#[derive(Debug)]
pub struct Recovered {
    /// Its files: the database alone.
    pub files: DatabaseFiles,
    /// Where it stands.
    pub history: History,
    /// Where it stands, if that took a transaction more than there was before.
    pub made: Option<Pos>,
}

/// Recovers the database in `directory`, which exists. Can be interrupted anywhere and begun again.
///
/// Cost: the whole database is read.
///
/// * `super_journal_exists`: tells whether the file exists that SQLite called so.
///
/// # Errors
/// The disk fails, or the files say different things; then nothing of them is lost.
pub fn recover(
    disk: Arc<dyn Disk>,
    directory: &Path,
    unsent: Unsent,
    super_journal_exists: &dyn Fn(&[u8]) -> bool,
) -> Result<Recovered, RecoverError> {
    let ltx_directory = ltx_directory(directory);
    crashsafe::create_dir_durable(&*disk, "recover", &ltx_directory)?;
    newest::sweep(&*disk, &ltx_directory)?;
    let mut files = DatabaseFiles::open(Arc::clone(&disk), directory.to_path_buf())?;
    files.unlink(FileKind::Shm)?;
    let log = LeftLog::read(&files)?;
    let written = log.filter(|log| !log.is_replicas());
    let Found {
        newest,
        in_log,
        lost,
        why,
    } = newest::find(&*disk, &ltx_directory, written.as_ref().map(|log| &log.header))?;
    let (kept, why) = match (unsent, why) {
        (Unsent::Keep(_), why) => (written, why),
        // Only who keeps what the log holds can make them again.
        (Unsent::Drop, Some(why)) => return Err(why),
        (Unsent::Drop, None) => (None, None),
    };
    let undone = journal::undo(&mut files, newest.as_ref(), super_journal_exists)?;
    let mut found = State::read(&files, log, newest.as_ref(), unsent)?;
    let mut made = None;
    if let (Some(log), Some(newest), Unsent::Keep(origin)) = (kept, &newest, unsent) {
        made = found.replay(&mut files, &ltx_directory, log, newest, origin)?;
    }
    let pos = match made {
        Some(pos) => pos,
        None => match found.next_step(&files, &ltx_directory, newest.as_ref(), undone)? {
            Step::Rest(pos) => pos,
            Step::Apply => found.apply(&mut files, &ltx_directory, newest.as_ref())?,
            Step::Make { before, otherwise } => match unsent {
                Unsent::Keep(origin) => {
                    let span = found
                        .end
                        .zip(log)
                        .map(|(end, log)| log.header.span(log.first(), end));
                    let pos = found.make(&mut files, &ltx_directory, before, origin, span, 0)?;
                    made = Some(pos);
                    pos
                }
                Unsent::Drop => return Err(otherwise),
            },
        },
    };
    if let Some(why) = why {
        newest::replaced(&*disk, &ltx_directory, pos, &lost, why)?;
    }
    // The log goes, which had what was not synced.
    sync_files(&*disk, &ltx_directory, in_log)?;
    found.settle(&mut files)?;
    files.unlink(FileKind::RollbackJournal)?;
    files.sync_names()?;
    Ok(Recovered {
        files,
        history: History::new(ltx_directory, pos, found.page_size, found.checksums),
        made,
    })
}

/// How a database stands to which nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspected {
    /// It is what its newest LTX file says.
    At(Pos),
    /// It was left in the midst of something, which the next start finishes or takes back.
    Unfinished,
}

/// Looks at the database in `directory`, and changes nothing. Of what was appended to its log behind the newest LTX file nothing
/// is said.
///
/// Cost: the whole database is read.
///
/// # Errors
/// The disk fails, or the files say different things.
pub fn inspect(disk: Arc<dyn Disk>, directory: &Path) -> Result<Inspected, RecoverError> {
    let ltx_directory = ltx_directory(directory);
    let files = DatabaseFiles::open(Arc::clone(&disk), directory.to_path_buf())?;
    let log = LeftLog::read(&files)?;
    let found = match disk.stat(&ltx_directory)? {
        Some(_) => {
            let kept = log.as_ref().filter(|log| !log.is_replicas());
            newest::find(&*disk, &ltx_directory, kept.map(|log| &log.header))?
        }
        None => Found::default(),
    };
    if rollback_journal::is_live(&files)? || !found.lost.is_empty() {
        return Ok(Inspected::Unfinished);
    }
    let newest = found.newest;
    let found = State::read(&files, log, newest.as_ref(), Unsent::Drop)?;
    match found.next_step(&files, &ltx_directory, newest.as_ref(), Undone::Nothing)? {
        Step::Rest(pos) => Ok(Inspected::At(pos)),
        Step::Apply => Ok(Inspected::Unfinished),
        Step::Make { otherwise, .. } => Err(otherwise),
    }
}

/// What is to be done about the newest LTX file.
enum Step {
    /// Nothing: the database is where it should be.
    Rest(Pos),
    /// It is applied.
    Apply,
    /// Another follows upon `before`, with what the database holds.
    Make {
        before: Pos,
        /// What is wrong if none may be made.
        otherwise: RecoverError,
    },
}

/// What the files hold, the log over the database.
struct State {
    page_size: Option<PageSize>,
    checksums: PageChecksums,
    /// Where the pages are that stand in the log.
    log: Offsets,
    /// Behind the last transaction of the log that is in here.
    end: Option<WalPlace>,
    /// Whether there is a log at all.
    has_log: bool,
}

impl State {
    /// Reads what has LTX files; where there are none, what has to be in the first.
    fn read(
        files: &DatabaseFiles,
        log: Option<LeftLog>,
        newest: Option<&Newest>,
        unsent: Unsent,
    ) -> Result<Self, RecoverError> {
        let first = newest.is_none() && matches!(unsent, Unsent::Keep(_));
        let limit = log.map_or(0, |log| match log.is_replicas() || first {
            true => u64::MAX,
            false => log.covered_end(newest),
        });
        Self::read_up_to(files, log, limit)
    }

    /// * `limit`: no frame of the log counts that ends behind it, in bytes.
    fn read_up_to(files: &DatabaseFiles, log: Option<LeftLog>, limit: u64) -> Result<Self, RecoverError> {
        let mut state = Self {
            page_size: None,
            checksums: PageChecksums::default(),
            log: Offsets::new(),
            end: None,
            has_log: files.exists(FileKind::Wal),
        };
        let Some(header) = DatabaseHeader::read(files)? else {
            return Ok(state);
        };
        state.page_size = Some(header.page_size);
        let in_log = match log {
            Some(log) => log.up_to(files, limit)?,
            None => None,
        };
        let pages = match in_log {
            Some(in_log) => {
                state.log = in_log.pages;
                state.log.retain(|pgno, _| pgno.get() <= in_log.commit_pages);
                state.end = Some(in_log.end);
                in_log.commit_pages
            }
            None => header
                .pages(files.len(FileKind::Database)?)
                .map_err(ReadHeaderError::Header)?,
        };
        state.checksums = state.sum(files, header.page_size, pages)?;
        Ok(state)
    }

    /// Reads all pages.
    fn sum(&self, files: &DatabaseFiles, page_size: PageSize, pages: u32) -> io::Result<PageChecksums> {
        let mut page = vec![0; page_size.as_usize()];
        let mut checksums = Vec::new();
        for pgno in (1..=pages).filter_map(Pgno::new) {
            read_page(files, self.place(page_size, pgno), &mut page)?;
            checksums.push(Checksum::of_page(pgno, &page));
        }
        Ok(PageChecksums::of(page_size, checksums))
    }

    fn place(&self, page_size: PageSize, pgno: Pgno) -> PagePlace {
        let in_log = self.log.get(&pgno).map(|offset| in_log(*offset));
        in_log.unwrap_or_else(|| in_database(page_size, pgno))
    }

    /// Compares the database with the newest LTX file.
    fn next_step(
        &self,
        files: &DatabaseFiles,
        ltx_directory: &Path,
        newest: Option<&Newest>,
        undone: Undone,
    ) -> Result<Step, RecoverError> {
        let found = self.checksum();
        let Some(newest) = newest else {
            return Ok(match self.checksums.pages() {
                0 => Step::Rest(Pos::ZERO),
                pages => Step::Make {
                    before: Pos::ZERO,
                    otherwise: RecoverError::NoHistory { pages },
                },
            });
        };
        let header = &newest.decoded.header;
        let (before, after) = (header.pre_apply_pos(), newest.decoded.pos);
        let otherwise = RecoverError::Diverged {
            file: newest.name,
            before: before.checksum,
            after: after.checksum,
            found,
        };
        let rest_or_make = |pos, otherwise| {
            if self.is_at(pos) {
                Step::Rest(pos)
            } else {
                Step::Make {
                    before: pos,
                    otherwise,
                }
            }
        };
        Ok(match undone {
            Undone::HasFile => Step::Apply,
            Undone::TakenBack | Undone::Committed => rest_or_make(after, otherwise),
            Undone::TakenBackWithFile => {
                newest.remove(&**files.disk(), ltx_directory)?;
                rest_or_make(before, otherwise)
            }
            Undone::Nothing if self.is_at(after) => Step::Rest(after),
            Undone::Nothing if self.is_at(before) => Step::Apply,
            // A replica died while it wrote the file's pages.
            Undone::Nothing
                if self.page_size == Some(header.page_size)
                    && newest.completes(&**files.disk(), ltx_directory, &self.checksums)? =>
            {
                Step::Apply
            }
            Undone::Nothing => return Err(otherwise),
        })
    }

    /// Of no pages there are two checksums: of a database that was deleted, and of none yet.
    fn is_at(&self, pos: Pos) -> bool {
        let none_yet = pos.checksum.is_none() && self.checksums.pages() == 0;
        pos.checksum == self.checksum() || none_yet
    }

    /// Makes LTX files of what the log holds behind the newest one, each of one transaction: those that were not durable come out
    /// as they were. Returns the position; nothing if there is nothing in the log.
    fn replay(
        &mut self,
        files: &mut DatabaseFiles,
        ltx_directory: &Path,
        log: LeftLog,
        newest: &Newest,
        origin: Origin,
    ) -> Result<Option<Pos>, RecoverError> {
        let mut place = self.end.unwrap_or_else(|| log.first());
        if place.offset != log.covered_end(Some(newest)) {
            return Ok(None);
        }
        let Some(first) = log.next(files, place)? else {
            return Ok(None);
        };
        files.sync(FileKind::Wal)?;
        let mut pos = newest.decoded.pos;
        if !self.is_at(pos) {
            // Some of its pages were copied into the database before it had a file: what it changed is not known any more.
            *self = Self::read_up_to(files, Some(log), first.end.offset)?;
            let span = log.header.span(place, first.end);
            let pages_before = newest.decoded.header.commit_pages;
            pos = self.make(files, ltx_directory, pos, origin, Some(span), pages_before)?;
            place = first.end;
        }
        let checksums = std::mem::take(&mut self.checksums);
        let mut history = History::new(ltx_directory.to_path_buf(), pos, self.page_size, checksums);
        let disk = Arc::clone(files.disk());
        while let Some(next) = log.next(files, place)? {
            let pages = history.checksums().pages();
            let point = in_log_from(&log.header, place, &next, pages, &self.log);
            let prepared = history.prepare(&*disk, files, &point, origin, Durable::ByItself)?;
            if let Some(prepared) = prepared {
                history.publish(&*disk, prepared)?;
            }
            self.log.extend(next.pages);
            self.log.retain(|pgno, _| pgno.get() <= next.commit_pages);
            place = next.end;
        }
        self.checksums = history.checksums().clone();
        self.page_size = history.page_size();
        Ok(Some(history.pos()))
    }

    /// Makes the LTX file after `before` of what the database holds: all of it, as nobody knows any more what changed; but
    /// for the end of a log that says so.
    ///
    /// * `span`: that end.
    /// * `pages_before`: the pages of the database before it.
    fn make(
        &self,
        files: &mut DatabaseFiles,
        ltx_directory: &Path,
        before: Pos,
        origin: Origin,
        span: Option<WalSpan>,
        pages_before: u32,
    ) -> Result<Pos, RecoverError> {
        let Some(page_size) = self.page_size else {
            return Err(RecoverError::NoDatabase { before });
        };
        if self.has_log {
            files.sync(FileKind::Wal)?;
        }
        let commit_pages = self.checksums.pages();
        let mut header = origin.header(before, page_size, commit_pages)?;
        header.wal = span;
        let mut places: BTreeMap<_, _> = match span {
            // Pages of the log before its end come along where the end has none: they are as they were.
            Some(_) => self
                .log
                .iter()
                .map(|(pgno, offset)| (*pgno, in_log(*offset)))
                .collect(),
            None => BTreeMap::new(),
        };
        let known = span.map_or(0, |_| pages_before);
        for pgno in (known + 1..=commit_pages).filter_map(Pgno::new) {
            places.insert(pgno, self.place(page_size, pgno));
        }
        places.remove(&page_size.lock_page());
        let pages = Pages {
            files: &*files,
            places: &places,
        };
        let disk = &**files.disk();
        let durable = Durable::ByItself;
        let file = write_file(disk, ltx_directory, header, durable, &pages, |_| {
            self.checksums.database()
        })?;
        file.publish(disk, ltx_directory, durable)?;
        Ok(file.pos)
    }

    /// Applies the newest LTX file to a database that is as it was before.
    fn apply(
        &mut self,
        files: &mut DatabaseFiles,
        ltx_directory: &Path,
        newest: Option<&Newest>,
    ) -> Result<Pos, RecoverError> {
        let Some(newest) = newest else {
            return Ok(Pos::ZERO);
        };
        let (header, after) = (&newest.decoded.header, newest.decoded.pos);
        if header.commit_pages > 0 {
            // What the log holds is what the file's pages go on from.
            self.settle(files)?;
        }
        self.log.clear();
        if header.commit_pages == 0 {
            for file in FileKind::ALL {
                files.unlink(file)?;
            }
            self.page_size = None;
            self.checksums = PageChecksums::default();
            self.has_log = false;
            return Ok(after);
        }
        newest.apply(files, ltx_directory)?;
        self.page_size = Some(header.page_size);
        self.checksums = self.sum(files, header.page_size, header.commit_pages)?;
        if self.is_at(after) {
            return Ok(after);
        }
        Err(RecoverError::Diverged {
            file: newest.name,
            before: header.pre_apply,
            after: after.checksum,
            found: self.checksum(),
        })
    }

    fn checksum(&self) -> Checksum {
        self.checksums.database()
    }

    /// Copies the log into the database and removes it, and cuts off what is behind the last page: SQLite does that when a
    /// transaction is committed already.
    fn settle(&self, files: &mut DatabaseFiles) -> Result<(), RecoverError> {
        if let Some(page_size) = self.page_size {
            let mut page = vec![0; page_size.as_usize()];
            for (pgno, offset) in &self.log {
                read_page(files, in_log(*offset), &mut page)?;
                files.write(FileKind::Database, &page, in_database(page_size, *pgno).offset)?;
            }
            let len = u64::from(self.checksums.pages()) * u64::from(page_size.bytes());
            if !self.log.is_empty() || files.len(FileKind::Database)? != len {
                files.set_len(FileKind::Database, len)?;
                files.sync(FileKind::Database)?;
            }
        }
        if self.has_log {
            files.unlink(FileKind::Wal)?;
            files.sync_names()?;
        }
        Ok(())
    }
}
