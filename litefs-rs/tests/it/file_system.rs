//! What a kernel's file system does for SQLite, on our databases: opens, locks byte by byte as SQLite's own code for Unix
//! does, and shared memory.

use std::{
    collections::BTreeMap,
    ffi::c_int,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use crashsafe::{Disk, DiskFile, OpenOptions};
use litefs_rs::db::{
    Database, DatabaseError, Node, Role,
    files::{FileKind, Files as _},
    locks::{LockByte, Mode, Owner, Request},
};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::{names::Name, sys};

const REGION_WORDS: usize = 32_768 / 8;

/// A node's databases.
pub(crate) struct FileSystem {
    vfs: String,
    node: Node,
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    databases: BTreeMap<String, Open>,
    handles: BTreeMap<u64, Handle>,
    /// Who opened a handle.
    openers: BTreeMap<u64, u32>,
    /// Who opens what is opened now.
    process: u32,
    next: u64,
    told: Told,
}

/// What went wrong.
#[derive(Default)]
struct Told {
    /// What was refused, other than locks.
    refusals: Vec<String>,
    /// The node has stopped: nothing can be done any more.
    stopped: bool,
}

struct Open {
    database: Database,
    /// Addresses of the regions of the index.
    shm: Vec<usize>,
}

enum Handle {
    File {
        database: String,
        file: FileKind,
        level: c_int,
        has_shm: bool,
    },
    SuperJournal(Box<dyn DiskFile>),
}

impl FileSystem {
    /// Makes a file system in `root`, and SQLite know it.
    pub(crate) fn new(root: PathBuf, node: Node) -> Arc<Self> {
        let vfs = format!("litefs-{}", root.display());
        let system = Arc::new(Self {
            vfs,
            node,
            root,
            state: Mutex::default(),
        });
        sys::register(&system.vfs, Arc::clone(&system) as Arc<dyn sys::FileSystem>);
        system
    }

    /// Opens a connection of its own: its locks conflict with those of all others.
    pub(crate) fn connect(&self, name: &str) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Connection::open_with_flags_and_vfs(name, flags, self.vfs.as_str()).unwrap();
        connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        connection.execute_batch("PRAGMA temp_store=MEMORY").unwrap();
        connection
    }

    /// Says whose calls come next.
    pub(crate) fn run_as(&self, process: u32) {
        self.state().process = process;
    }

    /// Takes from a process what it holds, as its death does. Nobody uses its connections again.
    pub(crate) fn kill(&self, process: u32, connections: impl IntoIterator<Item = Connection>) {
        connections.into_iter().for_each(std::mem::forget);
        let mut state = self.state();
        let State {
            databases,
            handles,
            openers,
            ..
        } = &mut *state;
        openers.retain(|handle, opener| {
            let dies = *opener == process;
            if dies && let Some(Handle::File { database, .. }) = handles.remove(handle) {
                let open = databases.get_mut(&database).unwrap();
                for file in [FileKind::Database, FileKind::Shm] {
                    open.database.close(Owner(*handle), file).unwrap();
                }
            }
            !dies
        });
    }

    /// Gives a look at a database.
    pub(crate) fn look<T>(&self, name: &str, look: impl FnOnce(&Database) -> T) -> Option<T> {
        self.state().databases.get(name).map(|open| look(&open.database))
    }

    /// Drops a database, whoever has it open.
    pub(crate) fn drop_database(&self, name: &str) {
        let mut state = self.state();
        let open = state.databases.get_mut(name).unwrap();
        open.database.unlink(FileKind::Database).unwrap();
    }

    /// Tells whether the node has stopped.
    pub(crate) fn stopped(&self) -> bool {
        self.state().told.stopped
    }

    /// Returns what was refused since the last call.
    pub(crate) fn refusals(&self) -> Vec<String> {
        std::mem::take(&mut self.state().told.refusals)
    }

    /// Returns the directory of a database.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.root.join("dbs").join(name)
    }

    fn super_journal(&self, name: &str) -> PathBuf {
        self.root.join("super").join(name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn open_database(&self, name: &str) -> Open {
        let directory = self.directory(name);
        crashsafe::create_dir_durable(&*self.node.disk, "test", &directory).unwrap();
        let exists = |path: &[u8]| {
            let path = self.super_journal(std::str::from_utf8(path).unwrap());
            self.node.disk.stat(&path).unwrap().is_some()
        };
        Open {
            database: Database::open(self.node.clone(), Role::Primary, &directory, &exists).unwrap(),
            shm: Vec::new(),
        }
    }

    fn open_super_journal(&self, name: &str, create: bool) -> Result<Handle, c_int> {
        let path = self.super_journal(name);
        let disk = &self.node.disk;
        let parent = path.parent().unwrap();
        crashsafe::create_dir_durable(disk, "super", parent).map_err(|_| ffi::SQLITE_CANTOPEN)?;
        let options = if create {
            OpenOptions::CREATE
        } else {
            OpenOptions::READ_WRITE
        };
        let file = disk
            .open("super", &path, options)
            .map_err(|_| ffi::SQLITE_CANTOPEN)?;
        disk.sync_dir("super", parent).map_err(|_| ffi::SQLITE_CANTOPEN)?;
        Ok(Handle::SuperJournal(file))
    }

    /// All databases of the transaction commit, or none.
    fn delete_super_journal(&self, state: &mut State, name: &str) -> Result<(), c_int> {
        let path = self.super_journal(name);
        let mut prepared = Vec::new();
        for (database, open) in &mut state.databases {
            match open.database.prepare(name.as_bytes()) {
                Ok(Some(commit)) => prepared.push((database.clone(), commit)),
                Ok(None) => {}
                Err(error) => return Err(state.told.refused(&error)),
            }
        }
        for (database, commit) in prepared {
            let open = state.databases.get_mut(&database).unwrap();
            let published = open.database.publish(commit);
            published.map_err(|error| state.told.refused(&error))?;
        }
        self.node
            .disk
            .remove_file("super", &path)
            .map_err(|_| ffi::SQLITE_IOERR_DELETE_NOENT)?;
        self.node.disk.sync_dir("super", path.parent().unwrap()).unwrap();
        Ok(())
    }

    /// Does something with an open file of a database.
    fn with<T>(
        &self,
        handle: u64,
        call: impl FnOnce(&mut Open, FileKind) -> Result<T, DatabaseError>,
    ) -> Result<T, c_int> {
        let mut state = self.state();
        let State {
            databases,
            handles,
            told,
            ..
        } = &mut *state;
        told.check()?;
        let Handle::File { database, file, .. } = &handles[&handle] else {
            panic!("handle {handle} is of no database");
        };
        call(databases.get_mut(database).unwrap(), *file).map_err(|error| told.refused(&error))
    }

    fn level(&self, handle: u64, set: Option<c_int>) -> c_int {
        match self.state().handles.get_mut(&handle) {
            Some(Handle::File { level, .. }) => {
                *level = set.unwrap_or(*level);
                *level
            }
            _ => panic!("handle {handle} is of no database"),
        }
    }

    fn request(&self, handle: u64, bytes: std::ops::Range<u64>, mode: Option<Mode>) -> Result<(), c_int> {
        self.with(handle, |open, _| {
            open.database.lock(&Request {
                owner: Owner(handle),
                file: FileKind::Database,
                range: bytes,
                mode,
            })
        })
    }
}

impl Told {
    /// What SQLite is told of an error.
    fn refused(&mut self, error: &DatabaseError) -> c_int {
        if matches!(error, DatabaseError::Locked(_)) {
            return ffi::SQLITE_BUSY;
        }
        self.stopped |= error.is_fatal();
        self.refusals.push(format!("{error:?}"));
        ffi::SQLITE_IOERR
    }

    fn check(&self) -> Result<(), c_int> {
        if self.stopped {
            Err(ffi::SQLITE_IOERR)
        } else {
            Ok(())
        }
    }
}

fn bytes_of(lock: LockByte) -> std::ops::Range<u64> {
    let len = if lock == LockByte::Shared { 510 } else { 1 };
    lock.offset()..lock.offset() + len
}

impl sys::FileSystem for FileSystem {
    fn open(&self, name: &str, create: bool) -> Result<u64, c_int> {
        let mut state = self.state();
        let handle = match Name::parse(name) {
            Name::SuperJournal(name) => self.open_super_journal(&name, create)?,
            Name::File { database, file } => {
                if file == FileKind::Database && !state.databases.contains_key(&database) {
                    state
                        .databases
                        .insert(database.clone(), self.open_database(&database));
                }
                let open = state.databases.get_mut(&database).ok_or(ffi::SQLITE_CANTOPEN)?;
                if create {
                    let created = open.database.create(file);
                    created.map_err(|error| state.told.refused(&error))?;
                } else if !open.database.files().exists(file) {
                    return Err(ffi::SQLITE_CANTOPEN);
                }
                Handle::File {
                    database,
                    file,
                    level: ffi::SQLITE_LOCK_NONE,
                    has_shm: false,
                }
            }
        };
        state.next += 1;
        let number = state.next;
        state.handles.insert(number, handle);
        let process = state.process;
        state.openers.insert(number, process);
        Ok(number)
    }

    fn close(&self, handle: u64) -> Result<(), c_int> {
        let is_database = matches!(
            self.state().handles[&handle],
            Handle::File {
                file: FileKind::Database,
                ..
            }
        );
        if is_database {
            self.with(handle, |open, file| open.database.close(Owner(handle), file))?;
        }
        let mut state = self.state();
        state.handles.remove(&handle);
        state.openers.remove(&handle);
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), c_int> {
        let mut state = self.state();
        match Name::parse(name) {
            Name::SuperJournal(name) => self.delete_super_journal(&mut state, &name),
            Name::File { database, file } => {
                let State { databases, told, .. } = &mut *state;
                let open = databases
                    .get_mut(&database)
                    .ok_or(ffi::SQLITE_IOERR_DELETE_NOENT)?;
                if !open.database.files().exists(file) {
                    return Err(ffi::SQLITE_IOERR_DELETE_NOENT);
                }
                open.database.unlink(file).map_err(|error| told.refused(&error))
            }
        }
    }

    fn exists(&self, name: &str) -> bool {
        match Name::parse(name) {
            Name::SuperJournal(name) => self.node.disk.stat(&self.super_journal(&name)).unwrap().is_some(),
            Name::File { database, file } => {
                let len = self.look(&database, |database| database.files().len(file).unwrap());
                len.is_some_and(|len| len > 0)
            }
        }
    }

    fn read(&self, handle: u64, bytes: &mut [u8], offset: u64) -> Result<usize, c_int> {
        if let Handle::SuperJournal(file) = &self.state().handles[&handle] {
            return Ok(file.read_at(bytes, offset).unwrap());
        }
        self.with(handle, |open, file| {
            Ok(open.database.files().read_at(file, bytes, offset).unwrap())
        })
    }

    fn write(&self, handle: u64, bytes: &[u8], offset: u64) -> Result<(), c_int> {
        if let Handle::SuperJournal(file) = &self.state().handles[&handle] {
            return file.write_at(bytes, offset).map_err(|_| ffi::SQLITE_IOERR_WRITE);
        }
        self.with(handle, |open, file| open.database.write(file, bytes, offset))
    }

    fn truncate(&self, handle: u64, len: u64) -> Result<(), c_int> {
        self.with(handle, |open, file| open.database.truncate(file, len))
    }

    fn sync(&self, handle: u64) -> Result<(), c_int> {
        if let Handle::SuperJournal(file) = &self.state().handles[&handle] {
            return file.sync_data().map_err(|_| ffi::SQLITE_IOERR_FSYNC);
        }
        self.with(handle, |open, file| open.database.sync(file))
    }

    fn len(&self, handle: u64) -> Result<u64, c_int> {
        if let Handle::SuperJournal(file) = &self.state().handles[&handle] {
            return Ok(file.len().unwrap());
        }
        self.with(handle, |open, file| Ok(open.database.files().len(file).unwrap()))
    }

    fn lock(&self, handle: u64, level: c_int) -> Result<(), c_int> {
        let (pending, shared) = (bytes_of(LockByte::Pending), bytes_of(LockByte::Shared));
        let now = self.level(handle, None);
        if now >= level {
            return Ok(());
        }
        match level {
            ffi::SQLITE_LOCK_SHARED => {
                self.request(handle, pending.clone(), Some(Mode::Shared))?;
                let locked = self.request(handle, shared, Some(Mode::Shared));
                self.request(handle, pending, None)?;
                locked?;
            }
            ffi::SQLITE_LOCK_RESERVED => {
                self.request(handle, bytes_of(LockByte::Reserved), Some(Mode::Exclusive))?;
            }
            _ => {
                if now == ffi::SQLITE_LOCK_RESERVED {
                    self.request(handle, pending, Some(Mode::Exclusive))?;
                    self.level(handle, Some(ffi::SQLITE_LOCK_PENDING));
                }
                self.request(handle, shared, Some(Mode::Exclusive))?;
            }
        }
        self.level(handle, Some(level));
        Ok(())
    }

    fn unlock(&self, handle: u64, level: c_int) -> Result<(), c_int> {
        let now = self.level(handle, None);
        if now <= level {
            return Ok(());
        }
        if now > ffi::SQLITE_LOCK_SHARED {
            if level == ffi::SQLITE_LOCK_SHARED {
                self.request(handle, bytes_of(LockByte::Shared), Some(Mode::Shared))?;
            }
            let pending = LockByte::Pending.offset();
            self.request(handle, pending..pending + 2, None)?;
        }
        if level == ffi::SQLITE_LOCK_NONE {
            self.request(handle, 0..u64::MAX, None)?;
        }
        self.level(handle, Some(level));
        Ok(())
    }

    fn reserved(&self, handle: u64) -> bool {
        let state = |open: &mut Open, _| Ok(open.database.locks().state(LockByte::Reserved));
        self.with(handle, state).unwrap() == Some(Mode::Exclusive)
    }

    fn shm_region(&self, handle: u64, index: usize, extend: bool) -> Result<Option<usize>, c_int> {
        let attached = match self.state().handles.get_mut(&handle) {
            Some(Handle::File { has_shm, .. }) => std::mem::replace(has_shm, true),
            _ => panic!("handle {handle} is of no database"),
        };
        self.with(handle, |open, _| {
            let ask = |mode| Request {
                owner: Owner(handle),
                file: FileKind::Shm,
                range: bytes_of(LockByte::WalOpen),
                mode: Some(mode),
            };
            if !attached {
                // The first to come empties it.
                if open.database.conflict(&ask(Mode::Exclusive)).is_none() {
                    open.database.lock(&ask(Mode::Exclusive))?;
                    open.shm.clear();
                }
                open.database.lock(&ask(Mode::Shared))?;
            }
            while extend && open.shm.len() <= index {
                let region: &'static mut [u64; REGION_WORDS] = Box::leak(Box::new([0; REGION_WORDS]));
                open.shm.push(region.as_mut_ptr().expose_provenance());
            }
            Ok(open.shm.get(index).copied())
        })
    }

    fn shm_lock(&self, handle: u64, first: u64, count: u64, flags: c_int) -> Result<(), c_int> {
        let start = LockByte::WalWrite.offset() + first;
        let mode = match flags {
            flags if flags & ffi::SQLITE_SHM_UNLOCK != 0 => None,
            flags if flags & ffi::SQLITE_SHM_EXCLUSIVE != 0 => Some(Mode::Exclusive),
            _ => Some(Mode::Shared),
        };
        self.with(handle, |open, _| {
            open.database.lock(&Request {
                owner: Owner(handle),
                file: FileKind::Shm,
                range: start..start + count,
                mode,
            })
        })
    }

    fn shm_unmap(&self, handle: u64, delete: bool) -> Result<(), c_int> {
        let attached = match self.state().handles.get_mut(&handle) {
            Some(Handle::File { has_shm, .. }) => std::mem::replace(has_shm, false),
            _ => panic!("handle {handle} is of no database"),
        };
        if !attached {
            return Ok(());
        }
        self.with(handle, |open, _| {
            open.database.close(Owner(handle), FileKind::Shm)?;
            if delete && open.database.locks().state(LockByte::WalOpen).is_none() {
                open.shm.clear();
            }
            Ok(())
        })
    }
}
