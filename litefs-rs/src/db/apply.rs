//! A transaction of the primary's becomes this node's.

mod log;

use std::{
    collections::BTreeMap,
    io::{self, BufReader},
    ops::Range,
    path::{Path, PathBuf},
};

use crashsafe::{Disk, OpenOptions};
use ltx::{Checksum, DecodeError, Decoded, Decoder, FileName, Header, Pgno, Pos, Version};

use super::{
    capture::{Capture, in_database},
    checksum::PageChecksums,
    database_files::FromStart,
    files::{FileKind, Files as _},
    handle::{Database, DatabaseError, disk},
    locks::{Conflict, Owner},
    page::{DatabaseHeader, JournalMode},
    shm::{self, WalIndexHeader},
    wal::{ByteOrder, WalChecksum},
};

const LABEL: &str = "apply";
const BUFFER_BYTES: usize = 1 << 16;

/// A transaction that came whole: sound, durable, under a name that does not count yet.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    decoded: Decoded,
    changed: BTreeMap<Pgno, Checksum>,
    /// How the database makes transactions afterwards; nothing if that stays as it is.
    journal_mode: Option<JournalMode>,
}

impl Incoming {
    /// Reads a file to its end.
    ///
    /// * `path`: where it lies, in the directory of its database's transactions.
    ///
    /// # Errors
    /// It is not sound.
    pub fn read(disk: &dyn Disk, path: PathBuf) -> Result<Self, DecodeError> {
        let mut decoder = open(disk, &path)?;
        let (mut page, mut changed, mut journal_mode) = (Vec::new(), BTreeMap::new(), None);
        while let Some(pgno) = decoder.next_page(&mut page)? {
            changed.insert(pgno, Checksum::of_page(pgno, &page));
            if pgno == Pgno::FIRST {
                let header = page.first_chunk().map(DatabaseHeader::decode);
                // What is no header is no log's either.
                journal_mode =
                    header.map(|header| header.map_or(JournalMode::Rollback, |header| header.journal_mode));
            }
        }
        let decoded = decoder.finish()?;
        Ok(Self {
            path,
            decoded,
            changed,
            journal_mode,
        })
    }

    /// Returns its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.decoded.header
    }

    /// Returns the position after it.
    #[must_use]
    pub fn pos(&self) -> Pos {
        self.decoded.pos
    }

    /// Removes the file: it is not wanted.
    ///
    /// # Errors
    /// As the disk.
    pub fn discard(self, disk: &dyn Disk) -> io::Result<()> {
        disk.remove_file(LABEL, &self.path)
    }
}

/// What an applied transaction changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Bytes that are to be read again. An empty range: only the file's length is.
    pub ranges: Vec<(FileKind, Range<u64>)>,
    /// Whether its files are gone.
    pub dropped: bool,
}

impl Database {
    /// Takes all locks that keep everybody else from reading and writing, for one of our own.
    ///
    /// # Errors
    /// Somebody reads or writes; then nothing has changed.
    pub fn lock_whole(&mut self, owner: Owner) -> Result<(), Conflict> {
        let wal = DatabaseHeader::read(&self.files)
            .ok()
            .flatten()
            .is_some_and(|header| header.journal_mode == JournalMode::Wal);
        self.locks.request_whole(owner, wal)
    }

    /// Gives them up.
    pub fn unlock_whole(&mut self, owner: Owner) {
        self.locks.release_whole(owner);
    }

    /// Applies a transaction that follows upon the last one, or replaces everything. The caller holds the
    /// [whole](Self::lock_whole) database, has the kernel forget what changed, gives the locks up, and then makes the
    /// database durable with [`sync`](Self::sync): a crash before is made good from the transaction's file.
    ///
    /// # Errors
    /// It does not follow, and nothing has changed; or the disk fails, and the database is to be opened anew.
    pub fn apply(&mut self, incoming: Incoming) -> Result<Changed, ApplyError> {
        let (header, pos) = (incoming.decoded.header, incoming.decoded.pos);
        let dropped = header.commit_pages == 0;
        self.check_follows(&incoming)?;
        self.make_durable().map_err(ApplyError::Log)?;
        // What the log holds is in the database before its pages are overwritten, and the log is begun anew.
        let emptied = if self.capture.in_log().next().is_some() {
            self.put_log_away()?
        } else {
            Vec::new()
        };
        self.publish_incoming(&incoming.path, &header)?;
        let mut changed = if dropped {
            self.drop_files()?
        } else {
            self.write_pages(&header)?
        };
        changed.ranges.extend(emptied);
        let whole = header.is_snapshot() || dropped;
        self.history.applied(
            pos,
            header.page_size,
            header.commit_pages,
            whole,
            &incoming.changed,
        );
        self.capture = Capture::new(self.history.page_size(), self.history.checksums().pages());
        if !dropped && self.renew_index()? {
            changed.ranges.push((FileKind::Shm, 0..shm::BLOCK_BYTES as u64));
        }
        Ok(changed)
    }

    /// Copies the log into the database and cuts it to nothing.
    pub(super) fn put_log_away(&mut self) -> Result<Vec<(FileKind, Range<u64>)>, ApplyError> {
        let mut emptied = Vec::new();
        if let Some(page_size) = self.history.page_size() {
            let page_bytes = u64::from(page_size.bytes());
            let offsets = self
                .capture
                .in_log()
                .map(|(pgno, _)| in_database(page_size, pgno).offset);
            emptied.extend(offsets.map(|offset| (FileKind::Database, offset..offset + page_bytes)));
        }
        emptied.push((FileKind::Wal, 0..u64::MAX));
        self.empty_log()
            .and_then(|()| self.files.set_len(FileKind::Wal, 0).map_err(disk(FileKind::Wal)))
            .map_err(ApplyError::Log)?;
        Ok(emptied)
    }

    /// Checks that a transaction follows and makes what it says.
    fn check_follows(&self, incoming: &Incoming) -> Result<(), ApplyError> {
        let (header, pos) = (incoming.header(), incoming.pos());
        let before = header.pre_apply_pos();
        if !header.is_snapshot() && before != self.history.pos() {
            return Err(ApplyError::Mismatch {
                ours: self.history.pos(),
                theirs: before,
            });
        }
        let empty = PageChecksums::new(header.page_size);
        let checksums = match self.history.page_size() {
            Some(page_size) if page_size == header.page_size && !header.is_snapshot() => {
                self.history.checksums()
            }
            Some(_) | None => &empty,
        };
        let after = checksums.after(header.commit_pages, &incoming.changed);
        if after != pos.checksum {
            return Err(ApplyError::Checksum {
                file: header.file_name(),
                expected: pos.checksum,
                found: after,
            });
        }
        Ok(())
    }

    /// Puts the file in its place, durably; a snapshot takes the place of all others.
    fn publish_incoming(&self, path: &Path, header: &Header) -> Result<(), ApplyError> {
        let (disk, directory) = (&*self.node.disk, self.history.directory());
        let name = header.file_name();
        disk.rename(LABEL, path, &directory.join(name.to_string()))?;
        disk.sync_dir(LABEL, directory)?;
        if header.is_snapshot() {
            for entry in disk.list(directory)? {
                if entry.name.parse::<FileName>().is_ok_and(|other| other != name) {
                    disk.remove_file(LABEL, &directory.join(entry.name))?;
                }
            }
        }
        Ok(())
    }

    fn drop_files(&mut self) -> Result<Changed, ApplyError> {
        for file in FileKind::ALL {
            self.files.unlink(file)?;
        }
        self.files.sync_names()?;
        Ok(Changed {
            ranges: vec![(FileKind::Database, 0..u64::MAX)],
            dropped: true,
        })
    }

    fn write_pages(&mut self, header: &Header) -> Result<Changed, ApplyError> {
        let path = self.history.directory().join(header.file_name().to_string());
        let page_bytes = u64::from(header.page_size.bytes());
        let len_before = self.files.len(FileKind::Database)?;
        let len = u64::from(header.commit_pages) * page_bytes;
        self.files.create(FileKind::Database)?;
        let mut decoder = open(&*self.node.disk, &path)?;
        let (mut page, mut ranges) = (Vec::new(), Vec::<(FileKind, Range<u64>)>::new());
        while let Some(pgno) = decoder.next_page(&mut page)? {
            let offset = in_database(header.page_size, pgno).offset;
            self.keep_for_snapshots(offset, offset + page_bytes)?;
            self.files.write(FileKind::Database, &page, offset)?;
            match ranges.last_mut() {
                Some((_, last)) if last.end == offset => last.end += page_bytes,
                Some(_) | None => ranges.push((FileKind::Database, offset..offset + page_bytes)),
            }
        }
        if len_before > len {
            self.keep_for_snapshots(len, len_before)?;
            ranges.push((FileKind::Database, len..len_before));
        }
        self.files.set_len(FileKind::Database, len)?;
        Ok(Changed {
            ranges,
            dropped: false,
        })
    }

    /// Tells readers of the log that there is something new, in the database itself; and says whether there is an index.
    pub(super) fn renew_index(&mut self) -> Result<bool, ApplyError> {
        let Some(page_size) = self
            .history
            .page_size()
            .filter(|_| self.files.exists(FileKind::Shm))
        else {
            return Ok(false);
        };
        let mut block = Box::new([0; shm::BLOCK_BYTES]);
        let read = self.files.read_at(FileKind::Shm, &mut block[..], 0)?;
        if read == 0 {
            // Nobody has begun with it.
            return Ok(false);
        }
        let found = WalIndexHeader::decode_of(&block[..], Some(page_size));
        let header = WalIndexHeader {
            change: found.map_or(0, |found| found.change).wrapping_add(1),
            order: ByteOrder::Little,
            page_size,
            last_frame: 0,
            pages: self.history.checksums().pages(),
            frame_checksum: WalChecksum::default(),
            salts: found.map_or((0, 0), |found| found.salts),
        };
        header.write(&mut block);
        self.files.write(FileKind::Shm, &block[..], 0)?;
        Ok(true)
    }
}

fn open(disk: &dyn Disk, path: &Path) -> Result<Decoder<BufReader<FromStart>>, DecodeError> {
    let file = disk
        .open(LABEL, path, OpenOptions::READ)
        .map_err(|source| DecodeError::Read {
            part: ltx::Part::Header,
            offset: 0,
            source,
        })?;
    let input = BufReader::with_capacity(BUFFER_BYTES, FromStart::new(file));
    Decoder::new(input, Version::V1)
}

/// Why a transaction could not be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It does not follow upon what is here.
    #[error("a transaction upon {theirs}, the database is at {ours}")]
    Mismatch {
        /// Where the database is.
        ours: Pos,
        /// Where it should be.
        theirs: Pos,
    },
    /// What it would make is not what it says.
    #[error("{file} would make a database with the checksum {found}, and says {expected}")]
    Checksum {
        /// The file.
        file: FileName,
        /// What it says.
        expected: Checksum,
        /// What would come of it.
        found: Checksum,
    },
    /// Somebody reads what has to change, or it is not wanted any more.
    #[error("somebody reads what has to change")]
    GivenUp,
    /// The database is not served, and this transaction does not make it whole.
    #[error("a transaction of a database that is not served")]
    NotServed,
    /// Its file cannot be read.
    #[error("read a transaction")]
    Ltx(#[from] DecodeError),
    /// The log cannot be emptied.
    #[error("empty the log before a transaction")]
    Log(#[source] DatabaseError),
    /// The disk fails. The database is neither here nor there, and is to be opened anew.
    #[error("apply a transaction")]
    Disk(#[from] io::Error),
}
