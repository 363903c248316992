//! The databases of a node, and what stands beside them in its data directory.
//!
//! ```text
//! <data>/dbs/<name>/      one database: see [`crate::db::DatabaseFiles`]
//! <data>/super/<name>     a super-journal, while a transaction over several databases is under way
//! <data>/incoming/<n>    a transaction on its way here
//! <data>/clusterid        which cluster the node belongs to
//! <data>/epoch            under which primary it last had everything: see [`KeptEpoch`]
//! ```

mod admission;
mod cluster_id;
mod kept_epoch;
pub mod lane;
mod slot;

pub use admission::TakeOver;
pub use cluster_id::{ClusterId, ClusterIdError};
pub use kept_epoch::KeptEpoch;
pub use slot::{Refusal, Slot, State};

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use ltx::Pos;
use tokio::sync::{broadcast, watch};

use crate::{
    db::{Database, Node, PreparedCommit, Rest, Role},
    name::DatabaseName,
};

const LABEL: &str = "store";
const INCOMING: &str = "incoming";
/// Changes that a listener may be behind before it is told that it missed some.
const CHANGES: usize = 1024;
/// Pages that are verified in one go: a database is kept from its users for that long.
const VERIFIED_AT_ONCE: u32 = 256;

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// It is.
    Yes,
    /// The node was asked to stop.
    Closed,
    /// What was promised cannot be kept: the next start finds it.
    Failed,
}

/// A database came to another position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub database: DatabaseName,
    /// Where it is now.
    pub pos: Pos,
}

/// What the store needs to tell the kernel, which remembers what files hold and are called.
pub trait Kernel: Send + Sync + std::fmt::Debug {
    /// Bytes of files are to be read again. Returns when that is so.
    fn changed(&self, slot: &Slot, changed: &crate::db::Changed);
    /// Whether the index of a log, as applications have it, is our own file's.
    fn shares_index(&self) -> bool;
    /// Files came or went.
    fn names_changed(&self, database: &DatabaseName);
}

/// The databases of a node.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    node: Node,
    databases: RwLock<BTreeMap<DatabaseName, Arc<Slot>>>,
    /// Whoever creates a database holds it.
    creating: Mutex<()>,
    changes: broadcast::Sender<Change>,
    stopped: watch::Sender<Running>,
    kernel: OnceLock<Arc<dyn Kernel>>,
    next_incoming: AtomicU64,
}

impl Store {
    /// Opens the databases below `root`. One that cannot be opened is kept, and refuses everything; the others are served.
    ///
    /// # Errors
    /// The directory cannot be read or made.
    pub fn open(root: PathBuf, node: Node) -> io::Result<Arc<Self>> {
        for directory in [databases(&root), super_journals(&root), root.join(INCOMING)] {
            crashsafe::create_dir_durable(&*node.disk, LABEL, &directory)?;
        }
        let store = Self {
            root,
            node,
            databases: RwLock::default(),
            creating: Mutex::new(()),
            changes: broadcast::Sender::new(CHANGES),
            stopped: watch::Sender::new(Running::Yes),
            kernel: OnceLock::new(),
            next_incoming: AtomicU64::new(0),
        };
        let entries = store.node.disk.list(&databases(&store.root))?;
        let names: Vec<DatabaseName> = entries
            .into_iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| entry.name.parse().ok())
            .collect();
        let opened = store.open_all(&names);
        *store.databases.write().unwrap_or_else(PoisonError::into_inner) = opened;
        // What super-journals decided is in the databases now, and what was on its way is sent again.
        for directory in [super_journals(&store.root), store.root.join(INCOMING)] {
            for entry in store.node.disk.list(&directory)? {
                store.node.disk.remove_file(LABEL, &directory.join(entry.name))?;
            }
        }
        Ok(Arc::new(store))
    }

    fn open_all(&self, names: &[DatabaseName]) -> BTreeMap<DatabaseName, Arc<Slot>> {
        let threads = thread::available_parallelism().map_or(1, Into::into);
        let opened = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for part in names.chunks(names.len().div_ceil(threads).max(1)) {
                let opened = &opened;
                scope.spawn(move || {
                    for name in part {
                        let slot = self.open_slot(name);
                        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
                        opened.insert(name.clone(), slot);
                    }
                });
            }
        });
        opened.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_slot(&self, name: &DatabaseName) -> Arc<Slot> {
        let directory = self.directory(name);
        let state = match self.open_database(&directory) {
            Ok(database) => State::Serving(Box::new(database)),
            Err(error) => {
                tracing::error!(db = %name, error = %chain(&error), "database is not served");
                State::Broken(error)
            }
        };
        Arc::new(Slot::new(name.clone(), directory, state))
    }

    fn open_database(&self, directory: &Path) -> Result<Database, crate::db::recover::RecoverError> {
        let exists = |path: &[u8]| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            let name = std::str::from_utf8(name).unwrap_or("");
            let path = super_journals(&self.root).join(name);
            !name.is_empty() && !matches!(self.node.disk.stat(&path), Ok(None))
        };
        Database::open(self.node.clone(), self.role(), directory, &exists)
    }

    /// Opens a database anew that could not be served, from what its directory holds now.
    pub fn reopen(&self, slot: &Slot, state: &mut State) {
        let opened = match self.open_database(slot.directory()) {
            Ok(database) => State::Serving(Box::new(database)),
            Err(error) => {
                tracing::error!(db = %slot.name(), error = %chain(&error), "database is not served");
                State::Broken(error)
            }
        };
        let before = std::mem::replace(state, opened);
        if let (State::Serving(now), State::Serving(before)) = (&mut *state, before) {
            now.inherit(*before);
        }
        self.noted(slot, state);
    }

    /// Returns what the databases need of their node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Returns who makes transactions.
    pub fn role(&self) -> Role {
        self.node.primacy.role()
    }

    /// Returns the data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a database.
    pub fn get(&self, name: &DatabaseName) -> Option<Arc<Slot>> {
        let databases = self.databases.read().unwrap_or_else(PoisonError::into_inner);
        databases.get(name).cloned()
    }

    /// Returns all databases, by name.
    pub fn all(&self) -> Vec<Arc<Slot>> {
        let databases = self.databases.read().unwrap_or_else(PoisonError::into_inner);
        databases.values().cloned().collect()
    }

    /// Returns a database, and makes it if there is none of that name.
    ///
    /// # Errors
    /// As the disk.
    pub fn get_or_create(&self, name: &DatabaseName) -> io::Result<Arc<Slot>> {
        let _alone = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.get(name) {
            return Ok(slot);
        }
        crashsafe::create_dir_durable(&*self.node.disk, LABEL, &self.directory(name))?;
        let slot = self.open_slot(name);
        let mut databases = self.databases.write().unwrap_or_else(PoisonError::into_inner);
        databases.insert(name.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    /// Returns where a super-journal lies.
    pub fn super_journal(&self, name: &str) -> PathBuf {
        super_journals(&self.root).join(name)
    }

    /// Returns a place for a transaction on its way here that nothing else has.
    pub fn incoming(&self) -> PathBuf {
        let number = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        self.root.join(INCOMING).join(number.to_string())
    }

    /// Ends a transaction over several databases: in all of them, or in none. Waits for each.
    ///
    /// # Errors
    /// One of them cannot commit, and the transaction can be rolled back; or the node has stopped.
    pub fn unlink_super_journal(&self, name: &str) -> Result<(), Refusal> {
        let slots = self.all();
        let mut prepared: Vec<(_, PreparedCommit)> = Vec::new();
        for slot in &slots {
            let mut state = slot.lane().take();
            let State::Serving(database) = &mut *state else {
                continue;
            };
            match database.prepare(name.as_bytes()) {
                // Held until all have published: nobody else gets in between.
                Ok(Some(commit)) => prepared.push(((slot, state), commit)),
                Ok(None) => {}
                Err(error) => return Err(self.refused(slot, error)),
            }
        }
        for ((slot, mut state), commit) in prepared {
            self.with(slot, &mut state, |database| database.publish(commit))?;
        }
        let path = self.super_journal(name);
        let removed = self.node.disk.remove_file(LABEL, &path);
        let synced = removed.and_then(|()| self.node.disk.sync_dir(LABEL, &super_journals(&self.root)));
        synced.map_err(Refusal::Io)
    }

    /// Does something to a database whose lane is taken, and tells everybody where it is afterwards.
    ///
    /// # Errors
    /// It is refused, or the node has stopped.
    pub fn with<R>(
        &self,
        slot: &Slot,
        state: &mut State,
        call: impl FnOnce(&mut Database) -> Result<R, crate::db::DatabaseError>,
    ) -> Result<R, Refusal> {
        if self.is_stopped() {
            return Err(Refusal::Stopped);
        }
        let State::Serving(database) = state else {
            return Err(Refusal::Broken);
        };
        let result = call(database);
        self.noted(slot, state);
        result.map_err(|error| self.refused(slot, error))
    }

    /// Tells everybody where a database is, if that has changed.
    pub fn noted(&self, slot: &Slot, state: &State) {
        let pos = state.pos();
        if slot.note(pos, (self.node.wall_clock_ms)()) {
            let change = Change {
                database: slot.name().clone(),
                pos,
            };
            // Nobody listening is fine.
            let _listeners = self.changes.send(change);
        }
    }

    fn refused(&self, slot: &Slot, error: crate::db::DatabaseError) -> Refusal {
        if error.is_fatal() {
            tracing::error!(db = %slot.name(), error = %chain(&error), "node stops: a promised transaction cannot be kept");
            self.stopped.send_replace(Running::Failed);
        }
        Refusal::Database(error)
    }

    /// Listens for changes.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells whether nothing is done any more.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow() != Running::Yes
    }

    /// Returns what tells when the node must stop.
    pub fn running(&self) -> watch::Receiver<Running> {
        self.stopped.subscribe()
    }

    /// Says who the kernel is. Once.
    pub fn set_kernel(&self, kernel: Arc<dyn Kernel>) {
        let _first_one_counts = self.kernel.set(kernel);
    }

    /// Returns the kernel, once something is mounted.
    pub fn kernel(&self) -> Option<&Arc<dyn Kernel>> {
        self.kernel.get()
    }

    /// Puts all databases at rest, for good: whoever still has one open gets errors.
    pub fn settle(&self) {
        if self.is_stopped() {
            return;
        }
        self.stopped.send_replace(Running::Closed);
        for slot in self.all() {
            let mut state = slot.lane().take();
            let State::Serving(database) = &mut *state else {
                continue;
            };
            match database.settle() {
                Ok(Rest::Settled) => {}
                Ok(Rest::Interrupted) => tracing::warn!(db = %slot.name(), "stopped within a transaction"),
                Err(error) => {
                    tracing::error!(db = %slot.name(), error = %chain(&error), "database was not put at rest");
                }
            }
        }
    }

    /// Compares every page of every database that was put at rest with its checksum. Takes its time.
    pub fn verify(&self, give_up: &dyn Fn() -> bool) {
        for slot in self.all() {
            while !give_up() {
                let mut state = slot.lane().take();
                let verified = self.with(&slot, &mut state, |database| database.verify(VERIFIED_AT_ONCE));
                match verified {
                    Ok(Some(Ok(()))) => {}
                    Ok(None) | Err(_) => break,
                    Ok(Some(Err(damaged))) => {
                        tracing::error!(db = %slot.name(), error = %damaged, "database is damaged and not served any more");
                        *state = State::Damaged(damaged);
                        break;
                    }
                }
                drop(state);
                thread::yield_now();
            }
        }
    }

    fn directory(&self, name: &DatabaseName) -> PathBuf {
        databases(&self.root).join(name.as_str())
    }
}

fn databases(root: &Path) -> PathBuf {
    root.join("dbs")
}

fn super_journals(root: &Path) -> PathBuf {
    root.join("super")
}

/// What a primary sends its replicas from.
impl crate::replication::catch_up::Store for Store {
    fn pos(&self, database: &DatabaseName) -> Option<Pos> {
        let pos = self.get(database)?.noted().pos;
        Some(pos)
    }

    fn pre_apply(&self, database: &DatabaseName, txid: ltx::Txid) -> Option<ltx::Checksum> {
        let path = self.get(database)?.ltx_file(txid);
        let file = std::fs::File::open(path).ok()?;
        // One that is damaged is as good as none: the replica gets all.
        let decoded = ltx::verify(io::BufReader::new(file), ltx::Version::V1).ok()?;
        Some(decoded.header.pre_apply)
    }

    fn high_water_mark(&self, _: &DatabaseName) -> ltx::Txid {
        ltx::Txid::ZERO
    }
}

/// Joins an error and its sources by `: `, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
