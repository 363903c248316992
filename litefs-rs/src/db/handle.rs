//! A database as a file system serves it: what applications do to its files, in their order.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

use crashsafe::Disk;
use lease::Epoch;
use ltx::{Flags, NodeId, Pgno, Pos};

use super::{
    capture::{Capture, CaptureError, CommitPoint, GiveUp, Input, Output, Trigger},
    commit::{CommitError, Durable, History, Origin, Prepared},
    database_files::DatabaseFiles,
    files::FileKind,
    forward::Forward,
    kept_checksums,
    locks::{Conflict, LockByte, Locks, Owner, Request},
    primacy::Primacy,
    recover::{RecoverError, Recovered, Unsent, recover},
    rollback_journal,
    snapshot::Kept,
};

/// Who makes transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This node.
    Primary,
    /// Another: this one applies them.
    Replica,
}

/// What a database needs of its node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Its number.
    pub id: NodeId,
    /// How its LTX files are written.
    pub flags: Flags,
    /// Milliseconds since 1970.
    pub wall_clock_ms: fn() -> i64,
    /// Whether it makes transactions.
    pub primacy: Primacy,
}

/// One database: its files, its locks, its transactions.
///
/// Calls are made one at a time, in the order in which applications made them. A call that ends a transaction returns when
/// that transaction is durable here: by its LTX file, or on who is primary for good by the log that SQLite wrote.
#[derive(Debug)]
pub struct Database {
    pub(super) node: Node,
    pub(super) directory: PathBuf,
    pub(super) files: DatabaseFiles,
    pub(super) locks: Locks,
    pub(super) capture: Capture,
    pub(super) history: History,
    /// Pages whose checksum is believed, and was not computed by this process.
    pub(super) unverified: Option<Pgno>,
    /// Whether the checkpoint that is under way copies nothing but what LTX files make durable.
    checkpoint_covered: bool,
    /// Who reads the database as it was.
    pub(super) snapshots: Vec<Weak<Mutex<Kept>>>,
    /// The epoch under which applications may make transactions here.
    pub(super) admitted: Option<Epoch>,
    /// Where else they may.
    pub(super) forward: Option<Arc<dyn Forward>>,
}

/// Who lets a transaction count.
#[derive(Debug)]
pub(super) enum Authority {
    /// This node, under an epoch.
    Here(Epoch),
    /// Another.
    There(Arc<dyn Forward>),
}

/// A transaction over several databases, as far as one of them goes: durable, and not counting yet.
#[derive(Debug)]
#[must_use]
pub struct PreparedCommit {
    point: CommitPoint,
    prepared: Option<(Prepared, Authority)>,
}

impl Database {
    /// Recovers the database in `directory`, which exists, and serves it.
    ///
    /// Cost: the whole database is read, unless it was put at rest: then its page checksums are, and
    /// [`verify`](Self::verify) is to be called until all is verified.
    ///
    /// * `role`: see [`recover`].
    /// * `super_journal_exists`: see [`recover`].
    ///
    /// # Errors
    /// It cannot be recovered.
    pub fn open(
        node: Node,
        role: Role,
        directory: &Path,
        super_journal_exists: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Self, RecoverError> {
        let kept = kept_checksums::take(&*node.disk, directory)?;
        let unverified = kept.as_ref().map(|_| Pgno::FIRST);
        let admitted = match role {
            Role::Primary => node.primacy.epoch(),
            Role::Replica => None,
        };
        let (files, history) = match kept {
            Some(history) => {
                let mut files = DatabaseFiles::open(Arc::clone(&node.disk), directory.to_path_buf())?;
                files.unlink(FileKind::Shm)?;
                (files, history)
            }
            None => {
                let unsent = match role {
                    Role::Primary => Unsent::Keep(node.origin()),
                    Role::Replica => Unsent::Drop,
                };
                let disk = Arc::clone(&node.disk);
                let Recovered { files, history, .. } =
                    recover(disk, directory, unsent, super_journal_exists)?;
                (files, history)
            }
        };
        Ok(Self {
            node,
            directory: directory.to_path_buf(),
            capture: Capture::new(history.page_size(), history.checksums().pages()),
            locks: Locks::default(),
            files,
            history,
            unverified,
            checkpoint_covered: false,
            snapshots: Vec::new(),
            admitted,
            forward: None,
        })
    }

    /// Returns the position.
    #[must_use]
    pub fn pos(&self) -> Pos {
        self.history.pos()
    }

    /// Returns the transactions.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Tells whether a transaction of an application's is under way in the database file.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        !self.capture.is_settled() || rollback_journal::is_live(&self.files).unwrap_or(false)
    }

    /// Returns the locks.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Returns where the pages are.
    #[must_use]
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Returns the files, to be read.
    #[must_use]
    pub fn files(&self) -> &DatabaseFiles {
        &self.files
    }

    /// Creates a file, if it does not exist.
    ///
    /// # Errors
    /// As the disk.
    pub fn create(&mut self, file: FileKind) -> Result<(), DatabaseError> {
        self.files.create(file).map_err(disk(file))
    }

    /// Writes to a file that exists.
    ///
    /// # Errors
    /// The bytes may not be written, or end a transaction that cannot be committed; or as the disk.
    pub fn write(&mut self, file: FileKind, data: &[u8], offset: u64) -> Result<(), DatabaseError> {
        match file {
            FileKind::Database => self.make_durable_before_checkpoint()?,
            FileKind::Wal if offset == 0 => self.make_durable()?,
            FileKind::Wal | FileKind::RollbackJournal | FileKind::Shm => {}
        }
        self.tell(Input::Write { file, offset, data })?;
        if file == FileKind::Database {
            let to = offset.saturating_add(data.len() as u64);
            self.keep_for_snapshots(offset, to).map_err(disk(file))?;
        }
        self.files.write(file, data, offset).map_err(disk(file))
    }

    /// Cuts or grows a file that exists.
    ///
    /// # Errors
    /// The file may not be cut, or that ends a transaction that cannot be committed; or as the disk.
    pub fn truncate(&mut self, file: FileKind, len: u64) -> Result<(), DatabaseError> {
        if matches!(file, FileKind::Database | FileKind::Wal) {
            self.make_durable()?;
        }
        self.tell(Input::Truncate { file, len })?;
        if file == FileKind::Database {
            self.keep_for_snapshots(len, u64::MAX).map_err(disk(file))?;
        }
        self.files.set_len(file, len).map_err(disk(file))
    }

    /// Removes a file's name; with the database's, everything but its transactions.
    ///
    /// # Errors
    /// That ends a transaction that cannot be committed; or as the disk.
    pub fn unlink(&mut self, file: FileKind) -> Result<(), DatabaseError> {
        if matches!(file, FileKind::Database | FileKind::Wal) {
            self.make_durable()?;
        }
        self.tell(Input::Unlink { file })?;
        if file != FileKind::Database {
            return self.files.unlink(file).map_err(disk(file));
        }
        for file in FileKind::ALL {
            self.files.unlink(file).map_err(disk(file))?;
        }
        Ok(())
    }

    /// Makes a file durable, with its name.
    ///
    /// # Errors
    /// As the disk.
    pub fn sync(&mut self, file: FileKind) -> Result<(), DatabaseError> {
        self.files.sync(file).map_err(disk(file))?;
        self.tell(Input::Synced { file })
    }

    /// Tells what stands against a request.
    #[must_use]
    pub fn conflict(&self, request: &Request) -> Option<Conflict> {
        self.locks.conflict(request)
    }

    /// Grants a request for locks; what a lock guarded that is given up is committed first.
    ///
    /// # Errors
    /// Another holds one of them; or a transaction cannot be committed.
    pub fn lock(&mut self, request: &Request) -> Result<(), DatabaseError> {
        if let Some(conflict) = self.locks.conflict(request) {
            return Err(DatabaseError::Locked(conflict));
        }
        for lock in self.locks.given_up(request) {
            self.checkpoint_covered &= lock != LockByte::WalCheckpoint;
            let by = GiveUp::Request;
            // Applications do not hear of it: SQLite has told them that they succeeded.
            self.tell(Input::GiveUp { lock, by })
                .map_err(|error| DatabaseError::Promised(Box::new(error)))?;
        }
        self.locks.request(request).map_err(DatabaseError::Locked)
    }

    /// Gives up what an owner holds in a file, as closing it does.
    ///
    /// # Errors
    /// A transaction cannot be committed. The locks are given up all the same: their holder may be dead.
    pub fn close(&mut self, owner: Owner, file: FileKind) -> Result<(), DatabaseError> {
        let request = Request::close(owner, file);
        let mut told = Ok(());
        for lock in self.locks.given_up(&request) {
            self.checkpoint_covered &= lock != LockByte::WalCheckpoint;
            let by = GiveUp::Close;
            told = told.and(self.tell(Input::GiveUp { lock, by }));
        }
        self.locks.request(&request).map_err(DatabaseError::Locked)?;
        told
    }

    /// Prepares the transaction that ends with a super-journal, if this database is part of it.
    ///
    /// # Errors
    /// It cannot be committed, and can still be rolled back.
    pub fn prepare(&mut self, super_journal: &[u8]) -> Result<Option<PreparedCommit>, DatabaseError> {
        let name = super_journal;
        let mut outputs = Vec::new();
        let input = Input::UnlinkSuperJournal { name };
        self.capture
            .handle(input, &self.locks, &self.files, &mut outputs)?;
        let mut commit = None;
        for output in outputs {
            match output {
                Output::Sync(file) => self.sync(file)?,
                Output::Commit(point) => {
                    let prepared = self.prepare_point(&point).map_err(DatabaseError::Commit)?;
                    commit = Some(PreparedCommit { point, prepared });
                }
            }
        }
        Ok(commit)
    }

    /// Lets a prepared transaction count.
    ///
    /// # Errors
    /// The disk fails; the node must stop.
    pub fn publish(&mut self, commit: PreparedCommit) -> Result<(), DatabaseError> {
        let PreparedCommit { point, prepared } = commit;
        if let Some((prepared, authority)) = prepared {
            if let Err(error) = self.may_count(&point, &prepared, &authority) {
                let discarded = self.history.discard(&*self.node.disk, prepared);
                return Err(DatabaseError::Commit(discarded.err().unwrap_or(error)));
            }
            // A journal or a log that came back after a power cut would be an older transaction's.
            let synced = self.files.sync_names();
            synced.map_err(disk(FileKind::RollbackJournal))?;
            let published = self.history.publish(&*self.node.disk, prepared);
            published.map_err(DatabaseError::Undecided)?;
            if let Authority::Here(epoch) = authority
                && !self.node.primacy.lasts(epoch)
            {
                // Others may go on without it: it is not acknowledged.
                return Err(DatabaseError::Undecided(CommitError::NotPrimary));
            }
        }
        self.tell(Input::Committed(&point))
    }

    /// Tells the capture what is about to happen and does what it asks for first.
    pub(super) fn tell(&mut self, input: Input<'_>) -> Result<(), DatabaseError> {
        let mut outputs = Vec::new();
        self.capture
            .handle(input, &self.locks, &self.files, &mut outputs)?;
        for output in outputs {
            match output {
                Output::Sync(file) => self.sync(file)?,
                Output::Commit(point) => {
                    let prepared = self.prepare_point(&point).map_err(DatabaseError::Commit)?;
                    self.publish(PreparedCommit { point, prepared })?;
                }
            }
        }
        Ok(())
    }

    /// Asks for the last time whether a transaction may count, and has it count first where that is another node.
    fn may_count(
        &self,
        point: &CommitPoint,
        prepared: &Prepared,
        authority: &Authority,
    ) -> Result<(), CommitError> {
        match authority {
            Authority::Here(epoch) if self.node.primacy.lasts(*epoch) => Ok(()),
            Authority::Here(_) => Err(CommitError::NotPrimary),
            Authority::There(forward) => {
                let file = self.history.file_of(prepared).ok_or(CommitError::Resized)?;
                let promised = point.trigger == Trigger::Unlock;
                forward.forward(&file, promised).map_err(CommitError::Forward)
            }
        }
    }

    /// Makes all transactions durable by their own LTX files: what SQLite has synced of its log is not needed for that any more.
    ///
    /// # Errors
    /// The disk fails; the node must stop.
    pub fn make_durable(&mut self) -> Result<(), DatabaseError> {
        let made = self.history.make_durable(&*self.node.disk);
        made.map_err(DatabaseError::Undecided)
    }

    /// The log alone tells how the database was before a transaction only while pages of the transaction are not copied over it.
    /// SQLite decides what it copies while it holds the lock of checkpoints, before its first page.
    fn make_durable_before_checkpoint(&mut self) -> Result<(), DatabaseError> {
        if !self.checkpoint_covered {
            self.make_durable()?;
            self.checkpoint_covered = self.locks.state(LockByte::WalCheckpoint).is_some();
        }
        Ok(())
    }

    fn prepare_point(&self, point: &CommitPoint) -> Result<Option<(Prepared, Authority)>, CommitError> {
        let disk = &*self.node.disk;
        let durable = match point.wal {
            Some(_) if self.node.primacy.is_for_good() => Durable::ByLog,
            // Another may be primary when this node starts again: then nobody asks the log.
            Some(_) | None => Durable::ByItself,
        };
        let origin = self.node.origin();
        let prepared = self.history.prepare(disk, &self.files, point, origin, durable)?;
        let Some(prepared) = prepared else {
            // A rollback ends the same way, and is nobody's matter.
            return Ok(None);
        };
        match self.authority(point.trigger) {
            Some(authority) => Ok(Some((prepared, authority))),
            None => {
                self.history.discard(disk, prepared)?;
                Err(CommitError::NotPrimary)
            }
        }
    }
}

impl Node {
    pub(super) fn origin(&self) -> Origin {
        Origin {
            node: self.id,
            timestamp_ms: (self.wall_clock_ms)(),
            flags: self.flags,
        }
    }
}

pub(super) fn disk(file: FileKind) -> impl Fn(io::Error) -> DatabaseError {
    move |source| DatabaseError::Disk { file, source }
}

/// Why something cannot be done to a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Another holds a lock.
    #[error("lock a database")]
    Locked(#[source] Conflict),
    /// The application may not do this.
    #[error("take up what an application does to a database")]
    Capture(#[from] CaptureError),
    /// A transaction cannot be committed; the application is told so and rolls it back.
    #[error("commit a transaction")]
    Commit(#[source] CommitError),
    /// A transaction may be committed or not. The node must stop: the next start sees how it is.
    #[error("commit a transaction for good")]
    Undecided(#[source] CommitError),
    /// SQLite has promised a transaction, and it cannot be committed. The node must stop: the next start takes it up from what
    /// SQLite has written.
    #[error("commit a transaction that was promised")]
    Promised(#[source] Box<Self>),
    /// The disk fails.
    #[error("{file}")]
    Disk {
        /// Which file.
        file: FileKind,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DatabaseError {
    /// Tells whether the node must stop at once.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Undecided(_) | Self::Promised(_))
    }
}
