//! One database of a node.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use lease::Epoch;
use ltx::Pos;

use super::lane::Lane;
use crate::{
    db::{Damaged, Database, DatabaseError, Forward, files::FileKind, recover::RecoverError},
    halt::Grants,
    name::DatabaseName,
};

/// Whether a database is served.
#[derive(Debug)]
pub enum State {
    /// It is.
    Serving(Box<Database>),
    /// It could not be opened: nothing is done to it, and the next start tries again.
    Broken(RecoverError),
    /// It turned out to be another than it should be.
    Damaged(Damaged),
}

impl State {
    /// Returns the position; that before the first transaction if it is not known.
    pub fn pos(&self) -> Pos {
        match self {
            Self::Serving(database) => database.pos(),
            Self::Broken(_) | Self::Damaged(_) => Pos::ZERO,
        }
    }
}

/// One database of a node.
#[derive(Debug)]
pub struct Slot {
    name: DatabaseName,
    directory: PathBuf,
    lane: Arc<Lane<State>>,
    noted: Mutex<Noted>,
    /// The epoch under which applications may write; that of the database, to be read without waiting for it.
    admitted: Mutex<Option<Epoch>>,
    /// Where the transactions of applications count first, if that is another node.
    forward: Mutex<Option<Arc<dyn Forward>>>,
    /// Whose transactions count here that are made elsewhere.
    grants: Mutex<Grants>,
    /// This node changes the index of the log: what the kernel still has of it does not count.
    renewing: AtomicBool,
}

/// Where a database is, to be read without waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Its position.
    pub pos: Pos,
    /// When it got there, in milliseconds since 1970; nothing if it was there at start.
    pub since_ms: Option<i64>,
}

impl Slot {
    pub(super) fn new(name: DatabaseName, directory: PathBuf, state: State) -> Self {
        let pos = state.pos();
        let admitted = match &state {
            State::Serving(database) => database.admitted(),
            State::Broken(_) | State::Damaged(_) => None,
        };
        Self {
            admitted: Mutex::new(admitted),
            name,
            directory,
            lane: Arc::new(Lane::new(state)),
            noted: Mutex::new(Noted { pos, since_ms: None }),
            forward: Mutex::new(None),
            grants: Mutex::default(),
            renewing: AtomicBool::new(false),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// Returns its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns where one of its files lies, if it exists.
    pub fn path(&self, file: FileKind) -> PathBuf {
        self.directory.join(crate::db::DatabaseFiles::name(file))
    }

    /// Returns where the LTX file of one transaction lies, if it exists.
    pub fn ltx_file(&self, txid: ltx::Txid) -> PathBuf {
        let name = ltx::FileName { min: txid, max: txid };
        self.directory.join("ltx").join(name.to_string())
    }

    /// Returns what to take before anything is done to it.
    pub fn lane(&self) -> &Arc<Lane<State>> {
        &self.lane
    }

    /// Returns where it is, without waiting.
    pub fn noted(&self) -> Noted {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the epoch under which applications may write.
    pub fn admitted(&self) -> Option<Epoch> {
        *self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_admitted(&self, epoch: Option<Epoch>) {
        *self.admitted.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    /// Returns where the transactions of applications count first, if that is another node.
    pub fn forward(&self) -> Option<Arc<dyn Forward>> {
        self.forward
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets transactions count elsewhere first, or nowhere else any more. The database is told, too.
    pub fn set_forward(&self, forward: Option<Arc<dyn Forward>>) {
        *self.forward.lock().unwrap_or_else(PoisonError::into_inner) = forward;
    }

    /// Returns whose transactions count here that are made elsewhere.
    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets it be nowhere: what it holds does not count, and it is fetched anew.
    pub fn forget_position(&self) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).pos = Pos::ZERO;
    }

    /// Says whether this node changes the index of the log, where the kernel has a copy of that.
    pub fn set_renewing(&self, renewing: bool) {
        self.renewing.store(renewing, Ordering::Release);
    }

    /// Tells whether what the kernel writes back of the index is to be dropped.
    pub fn is_renewing(&self) -> bool {
        self.renewing.load(Ordering::Acquire)
    }

    /// Takes down where it is, and tells whether that is news.
    pub(super) fn note(&self, pos: Pos, now_ms: i64) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let news = noted.pos != pos;
        if news {
            *noted = Noted {
                pos,
                since_ms: Some(now_ms),
            };
        }
        news
    }
}

/// Why something was not done to a database.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The database says why.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The disk fails.
    #[error("the disk of the databases")]
    Io(#[source] io::Error),
    /// The database is not served.
    #[error("the database is not served, see the log of the start")]
    Broken,
    /// Another node makes transactions.
    #[error("read only replica")]
    ReadOnly,
    /// A replica holds the write lock.
    #[error("a replica writes to the database")]
    Halted,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}
