//! A database as it is at one moment, read while it goes on.
//!
//! Nothing is locked: whoever is about to overwrite a page of the database file first keeps a copy of it for those who have not
//! read it yet. Pages of the log are copied when the snapshot begins; logs are short.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ltx::{Checksum, EncodeError, Encoder, Flags, Header, NodeId, PageSize, Pgno, Pos, Txid};

use super::{
    capture::{in_database, read_page},
    files::FileKind,
    handle::{Database, DatabaseError, disk},
};

/// Copies of pages that were overwritten since.
#[derive(Debug)]
pub(super) struct Kept {
    page_size: PageSize,
    pages: u32,
    /// Everything before was read.
    next: u32,
    spool: File,
    places: BTreeMap<Pgno, u64>,
}

impl Kept {
    fn keep(&mut self, pgno: Pgno, page: &[u8]) -> io::Result<()> {
        let at = self.places.len() as u64 * u64::from(self.page_size.bytes());
        self.spool.write_all_at(page, at)?;
        self.places.insert(pgno, at);
        Ok(())
    }

    /// Keeps what stands in a part of the database file that is about to be overwritten.
    fn keep_before(
        &mut self,
        from: u64,
        to: u64,
        read: &dyn Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let page_bytes = u64::from(self.page_size.bytes());
        let first = u32::try_from(from / page_bytes + 1).unwrap_or(u32::MAX);
        let last = u32::try_from(to.div_ceil(page_bytes)).unwrap_or(u32::MAX);
        let mut page = vec![0; self.page_size.as_usize()];
        for number in first.max(self.next)..=last.min(self.pages) {
            let Some(pgno) = Pgno::new(number).filter(|pgno| !self.places.contains_key(pgno)) else {
                continue;
            };
            read(in_database(self.page_size, pgno).offset, &mut page)?;
            self.keep(pgno, &page)?;
        }
        Ok(())
    }
}

/// A database as it was when the snapshot began.
#[derive(Debug)]
pub struct Snapshot {
    pos: Pos,
    page_size: Option<PageSize>,
    pages: u32,
    file: Option<File>,
    kept: Arc<Mutex<Kept>>,
}

impl Snapshot {
    /// Returns its position.
    #[must_use]
    pub fn pos(&self) -> Pos {
        self.pos
    }

    /// Returns its pages; 0 of a database that was dropped.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Returns the bytes of a page; nothing of a database without pages.
    #[must_use]
    pub fn page_size(&self) -> Option<PageSize> {
        self.page_size
    }

    /// Reads a page. Pages are read in order, each once.
    ///
    /// # Errors
    /// As the disk.
    pub fn read(&mut self, pgno: Pgno, page: &mut [u8]) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match (kept.places.remove(&pgno), &self.file) {
            (Some(at), _) => kept.spool.read_exact_at(page, at)?,
            // Whoever wants to overwrite it waits for us here.
            (None, Some(file)) => {
                let offset = in_database(kept.page_size, pgno).offset;
                let mut read = 0;
                while read < page.len() {
                    match file.read_at(&mut page[read..], offset + read as u64)? {
                        0 => break,
                        more => read += more,
                    }
                }
                page[read..].fill(0);
            }
            (None, None) => page.fill(0),
        }
        kept.next = pgno.get() + 1;
        Ok(())
    }

    /// Writes the LTX file that makes the database of nothing.
    ///
    /// # Errors
    /// It cannot be read or written, or is not what its position says.
    pub fn write_ltx(
        mut self,
        out: impl io::Write,
        node: NodeId,
        timestamp_ms: i64,
        flags: Flags,
    ) -> Result<(), SnapshotError> {
        let page_size = self.page_size.unwrap_or(PageSize::MIN);
        let header = Header {
            flags,
            page_size,
            commit_pages: self.pages,
            min_txid: Txid::FIRST,
            max_txid: self.pos.txid,
            timestamp_ms,
            pre_apply: Checksum::NONE,
            wal: None,
            node,
        };
        let mut encoder = Encoder::new(out, header)?;
        let mut page = vec![0; page_size.as_usize()];
        for pgno in (1..=self.pages).filter_map(Pgno::new) {
            if pgno != page_size.lock_page() {
                self.read(pgno, &mut page).map_err(SnapshotError::Read)?;
                encoder.page(pgno, &page)?;
            }
        }
        encoder
            .finish(self.pos.checksum)?
            .output
            .flush()
            .map_err(SnapshotError::Read)
    }

    /// Writes the database as SQLite has it.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn write_database(mut self, mut out: impl io::Write) -> io::Result<()> {
        let Some(page_size) = self.page_size else {
            return Ok(());
        };
        let mut page = vec![0; page_size.as_usize()];
        for pgno in (1..=self.pages).filter_map(Pgno::new) {
            self.read(pgno, &mut page)?;
            out.write_all(&page)?;
        }
        out.flush()
    }
}

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The database cannot be read.
    #[error("read a snapshot")]
    Read(#[source] io::Error),
    /// It cannot be written, or is not what its position says.
    #[error("write a snapshot")]
    Write(#[from] EncodeError),
}

impl Database {
    /// Begins a snapshot; nothing while a transaction is under way in the database file.
    ///
    /// # Errors
    /// As the disk.
    pub fn snapshot(&mut self) -> Result<Option<Snapshot>, DatabaseError> {
        if !self.capture.is_settled() {
            return Ok(None);
        }
        let page_size = self.history.page_size();
        let pages = self.history.checksums().pages();
        let spool = spool(&self.directory).map_err(disk(FileKind::Database))?;
        let mut kept = Kept {
            page_size: page_size.unwrap_or(PageSize::MIN),
            pages,
            next: 1,
            spool,
            places: BTreeMap::new(),
        };
        if let Some(page_size) = page_size {
            let mut page = vec![0; page_size.as_usize()];
            for (pgno, place) in self.capture.in_log().filter(|(pgno, _)| pgno.get() <= pages) {
                read_page(&self.files, place, &mut page).map_err(disk(FileKind::Wal))?;
                kept.keep(pgno, &page).map_err(disk(FileKind::Wal))?;
            }
        }
        let path = self
            .directory
            .join(super::DatabaseFiles::name(FileKind::Database));
        let file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(disk(FileKind::Database)(error)),
        };
        let kept = Arc::new(Mutex::new(kept));
        self.snapshots.retain(|snapshot| snapshot.strong_count() > 0);
        self.snapshots.push(Arc::downgrade(&kept));
        Ok(Some(Snapshot {
            pos: self.history.pos(),
            page_size,
            pages,
            file,
            kept,
        }))
    }

    /// Keeps what snapshots have not read yet of a part of the database file that is about to change.
    pub(super) fn keep_for_snapshots(&mut self, from: u64, to: u64) -> io::Result<()> {
        use super::files::Files as _;
        if self.snapshots.is_empty() {
            return Ok(());
        }
        let read = |offset: u64, page: &mut [u8]| {
            let read = self.files.read_at(FileKind::Database, page, offset)?;
            page[read..].fill(0);
            Ok(())
        };
        for snapshot in self.snapshots.iter().filter_map(Weak::upgrade) {
            let mut kept = snapshot.lock().unwrap_or_else(PoisonError::into_inner);
            kept.keep_before(from, to, &read)?;
        }
        self.snapshots.retain(|snapshot| snapshot.strong_count() > 0);
        Ok(())
    }
}

/// A file without a name.
fn spool(directory: &std::path::Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
}
