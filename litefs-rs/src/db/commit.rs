//! A transaction becomes an LTX file, and the position moves on.

mod error;
mod ltx_file;

pub use error::CommitError;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crashsafe::Disk;
use ltx::{Checksum, FileName, Flags, Header, NodeId, PageSize, Pgno, Pos};

use super::{capture::CommitPoint, checksum::PageChecksums, files::Files};
use ltx_file::PreparedFile;
pub(super) use ltx_file::{Durable, Pages, sync as sync_files, write as write_file};

/// Files that wait for the log to go; a log that nobody checkpoints would have ever more of them.
const IN_LOG_MAX: usize = 4096;

/// What an LTX file says of its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Who makes it.
    pub node: NodeId,
    /// When, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Whether its pages are compressed.
    pub flags: Flags,
}

impl Origin {
    /// Returns the header of the transaction that follows upon `before`.
    pub(super) fn header(
        &self,
        before: Pos,
        page_size: PageSize,
        commit_pages: u32,
    ) -> Result<Header, CommitError> {
        let txid = before.txid.next().ok_or(CommitError::LastTxid)?;
        Ok(Header {
            flags: self.flags,
            page_size,
            commit_pages,
            min_txid: txid,
            max_txid: txid,
            timestamp_ms: self.timestamp_ms,
            pre_apply: before.checksum,
            wal: None,
            node: self.node,
        })
    }
}

/// The transactions of one database: where it stands, and what its pages add up to.
#[derive(Debug, Clone)]
pub struct History {
    directory: PathBuf,
    pos: Pos,
    page_size: Option<PageSize>,
    checksums: PageChecksums,
    /// Files of transactions that the log makes durable, the newest last.
    in_log: Vec<FileName>,
}

/// A transaction whose LTX files are written, and durable or not needed to be, but do not count yet.
#[derive(Debug)]
#[must_use]
pub struct Prepared {
    durable: Durable,
    /// In the order of their transactions.
    files: Vec<PreparedFile>,
    pos: Pos,
    page_size: PageSize,
    commit_pages: u32,
    /// Whether all pages before are gone.
    begins_anew: bool,
    changed: BTreeMap<Pgno, Checksum>,
}

impl History {
    /// Begins with what recovery found.
    ///
    /// * `directory`: where the LTX files are.
    pub(super) fn new(
        directory: PathBuf,
        pos: Pos,
        page_size: Option<PageSize>,
        checksums: PageChecksums,
    ) -> Self {
        Self {
            directory,
            pos,
            page_size,
            checksums,
            in_log: Vec::new(),
        }
    }

    /// Returns the position.
    #[must_use]
    pub fn pos(&self) -> Pos {
        self.pos
    }

    /// Returns the size of pages; nothing while there is no database.
    #[must_use]
    pub fn page_size(&self) -> Option<PageSize> {
        self.page_size
    }

    /// Returns the checksums of the pages.
    #[must_use]
    pub fn checksums(&self) -> &PageChecksums {
        &self.checksums
    }

    /// Writes a transaction's LTX file beside its place. Nothing comes of it when no page has changed.
    ///
    /// A transaction that changes the page size becomes two files, since none can say so: the first deletes the database,
    /// the second makes it again.
    ///
    /// # Errors
    /// A page cannot be read, or the file cannot be written. Nothing has changed.
    pub(super) fn prepare<F: Files + ?Sized>(
        &self,
        disk: &dyn Disk,
        files: &F,
        point: &CommitPoint,
        origin: Origin,
        durable: Durable,
    ) -> Result<Option<Prepared>, CommitError> {
        let drops = point.commit_pages == 0;
        let mut prepared = Vec::new();
        let mut before = self.pos;
        if point.resizes_pages || drops {
            let page_size = self.page_size.unwrap_or(point.page_size);
            let header = origin.header(before, page_size, 0)?;
            let none = Pages::none(files);
            let file = write_file(disk, &self.directory, header, durable, &none, |_| {
                Checksum::EMPTY_DATABASE
            })?;
            before = file.pos;
            prepared.push(file);
        }
        let begins_anew = !prepared.is_empty();
        let empty = PageChecksums::new(point.page_size);
        let checksums = if begins_anew || self.page_size.is_none() {
            &empty
        } else {
            &self.checksums
        };
        let mut changed = BTreeMap::new();
        if !drops {
            let mut header = origin.header(before, point.page_size, point.commit_pages)?;
            header.wal = point.wal;
            let pages = Pages {
                files,
                places: &point.pages,
            };
            let file = write_file(disk, &self.directory, header, durable, &pages, |pages| {
                let after = checksums.after(point.commit_pages, &pages);
                changed = pages;
                after
            })?;
            before = file.pos;
            prepared.push(file);
            let same = |(pgno, checksum): (&Pgno, &Checksum)| checksums.page(*pgno) == *checksum;
            if !begins_anew && point.commit_pages == checksums.pages() && changed.iter().all(same) {
                return self.remove(disk, &prepared).map(|()| None);
            }
        }
        Ok(Some(Prepared {
            durable,
            files: prepared,
            pos: before,
            page_size: point.page_size,
            commit_pages: point.commit_pages,
            begins_anew,
            changed,
        }))
    }

    /// Lets a transaction count: its files get their names, the position moves on.
    ///
    /// # Errors
    /// The disk fails. Whether the transaction counts is then for the next start to see: the node must stop.
    pub(super) fn publish(&mut self, disk: &dyn Disk, prepared: Prepared) -> Result<Pos, CommitError> {
        match prepared.durable {
            // Nothing stands upon what could be lost.
            Durable::ByItself => self.make_durable(disk)?,
            Durable::ByLog => self.in_log.extend(prepared.files.iter().map(|file| file.name)),
        }
        let many = self.in_log.len() >= IN_LOG_MAX;
        // The last file first: alone it is a database as good as both, and the first alone would be none.
        for file in prepared.files.iter().rev() {
            file.publish(disk, &self.directory, prepared.durable)?;
        }
        if prepared.begins_anew || self.page_size.is_none() {
            self.checksums = PageChecksums::new(prepared.page_size);
        }
        self.checksums.apply(prepared.commit_pages, &prepared.changed);
        self.page_size = (prepared.commit_pages > 0).then_some(prepared.page_size);
        self.pos = prepared.pos;
        if many {
            self.make_durable(disk)?;
        }
        assert!(
            self.checksums.database() == self.pos.checksum,
            "checksum {} at {}",
            self.checksums.database(),
            self.pos
        );
        Ok(self.pos)
    }

    /// Makes all transactions durable by their own files: the log that has them goes.
    ///
    /// # Errors
    /// The disk fails. The log must stay, and the node must stop.
    pub(super) fn make_durable(&mut self, disk: &dyn Disk) -> Result<(), CommitError> {
        sync_files(disk, &self.directory, self.in_log.iter().copied())?;
        self.in_log.clear();
        Ok(())
    }

    /// Takes over a transaction that another node made and whose file is in its place. Its pages may still be on their way
    /// into the database.
    ///
    /// * `changed`: the checksums of its pages, for which [`checksums_after`](Self::checksums_after) gives `pos`.
    pub(super) fn applied(
        &mut self,
        pos: Pos,
        page_size: PageSize,
        commit_pages: u32,
        whole: bool,
        changed: &BTreeMap<Pgno, Checksum>,
    ) {
        if whole || self.page_size.is_none() {
            self.checksums = PageChecksums::new(page_size);
        }
        self.checksums.apply(commit_pages, changed);
        self.page_size = (commit_pages > 0).then_some(page_size);
        self.pos = pos;
    }

    /// Returns where the LTX file of a transaction lies until it counts; nothing if it has several.
    pub(super) fn file_of(&self, prepared: &Prepared) -> Option<PathBuf> {
        match &prepared.files[..] {
            [file] => Some(file.path(&self.directory)),
            _ => None,
        }
    }

    /// Returns where the LTX files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes the files of a transaction that is not to count.
    ///
    /// # Errors
    /// As the disk.
    pub(super) fn discard(&self, disk: &dyn Disk, prepared: Prepared) -> Result<(), CommitError> {
        self.remove(disk, &prepared.files)
    }

    fn remove(&self, disk: &dyn Disk, files: &[PreparedFile]) -> Result<(), CommitError> {
        files
            .iter()
            .try_for_each(|file| file.discard(disk, &self.directory))
    }
}
