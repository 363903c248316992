//! A disk that fails once, at any of its calls: SQLite is told and goes on, or the node stops and the next start has everything
//! that SQLite acknowledged.

use std::{
    io::{Error, Result},
    ops::Range,
    os::fd::RawFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crashsafe::{Disk, DiskFile, Entry, OpenOptions, RealDisk, Space, Stat};
use litefs_rs::db::{
    Node, Primacy, Role,
    commit::Origin,
    files::{FileKind, Files as _},
    recover::{Unsent, recover},
};
use ltx::{Flags, NodeId};
use rusqlite::Connection;

use crate::{
    applied::{Applied, checksum},
    file_system::FileSystem,
    workloads::scratch,
};

/// Counts the calls that change something, and fails one of them.
#[derive(Debug, Default)]
struct Faults {
    calls: AtomicU64,
    fails_at: AtomicU64,
}

impl Faults {
    fn call(&self) -> Result<()> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.fails_at.load(Ordering::Relaxed) {
            return Err(Error::other("the disk fails here"));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl Disk for FaultyDisk {
    fn open(&self, label: &'static str, path: &Path, options: OpenOptions) -> Result<Box<dyn DiskFile>> {
        if options.create || options.create_new || options.truncate {
            self.0.call()?;
        }
        let file = RealDisk.open(label, path, options)?;
        let faults = Arc::clone(&self.0);
        Ok(Box::new(FaultyFile { file, faults }))
    }
    fn create_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        RealDisk.create_dir_all(label, path)
    }
    fn remove_file(&self, label: &'static str, path: &Path) -> Result<()> {
        self.0.call()?;
        RealDisk.remove_file(label, path)
    }
    fn remove_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        RealDisk.remove_dir_all(label, path)
    }
    fn rename(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        self.0.call()?;
        RealDisk.rename(label, from, to)
    }
    fn sync_dir(&self, label: &'static str, path: &Path) -> Result<()> {
        self.0.call()?;
        RealDisk.sync_dir(label, path)
    }
    fn reflink(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        RealDisk.reflink(label, from, to)
    }
    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        RealDisk.list(path)
    }
    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        RealDisk.stat(path)
    }
    fn space(&self, path: &Path) -> Result<Space> {
        RealDisk.space(path)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(bytes, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.faults.call()?;
        self.file.write_at(bytes, offset)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.faults.call()?;
        self.file.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.file.allocate(offset, len)
    }
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.file.punch_hole(offset, len)
    }
    fn sync_data(&self) -> Result<()> {
        self.faults.call()?;
        self.file.sync_data()
    }
    fn sync_all(&self) -> Result<()> {
        self.faults.call()?;
        self.file.sync_all()
    }
    fn len(&self) -> Result<u64> {
        self.file.len()
    }
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.file.next_data(offset)
    }
    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// What a run came to.
struct Run {
    calls: u64,
    /// Rows that SQLite acknowledged.
    acked: Vec<u32>,
    stopped: bool,
}

/// Runs a few transactions, of which one call to the disk fails: the `fails_at`th, or none if that is 0.
fn run(mode: &str, root: &Path, fails_at: u64) -> Run {
    let disk = FaultyDisk::default();
    let faults = Arc::clone(&disk.0);
    let node = Node {
        disk: Arc::new(disk),
        id: NodeId::new(7),
        flags: Flags::LZ4,
        wall_clock_ms: || 0,
        primacy: Primacy::fixed(Role::Primary),
    };
    let system = FileSystem::new(root.to_path_buf(), node);
    let connection = system.connect("a");
    connection
        .execute_batch(&format!(
            "PRAGMA page_size=1024; PRAGMA journal_mode={mode}; PRAGMA cache_size=3; PRAGMA wal_autocheckpoint=6;
             CREATE TABLE acked (k INTEGER PRIMARY KEY, v BLOB)"
        ))
        .unwrap();
    faults.calls.store(0, Ordering::Relaxed);
    faults.fails_at.store(fails_at, Ordering::Relaxed);
    let mut acked = Vec::new();
    for number in 1..=4 {
        let insert = format!("BEGIN; INSERT INTO acked VALUES ({number}, randomblob(4000)); COMMIT");
        match connection.execute_batch(&insert) {
            Ok(()) => acked.push(number),
            Err(_) if connection.is_autocommit() => {}
            // As an application does that is told of an error.
            Err(_) => drop(connection.execute_batch("ROLLBACK")),
        }
    }
    let (calls, stopped) = (faults.calls.load(Ordering::Relaxed), system.stopped());
    // The process ends here, whether the node has stopped or not.
    std::mem::forget(connection);
    Run {
        calls,
        acked,
        stopped,
    }
}

/// Recovers what a run left, and tells which rows are there.
fn rows_left(root: &Path) -> Vec<u32> {
    let directory = root.join("dbs/a");
    let origin = Origin {
        node: NodeId::new(8),
        timestamp_ms: 1,
        flags: Flags::NONE,
    };
    let recovered = recover(Arc::new(RealDisk), &directory, Unsent::Keep(origin), &|_| true).unwrap();
    let len = usize::try_from(recovered.files.len(FileKind::Database).unwrap()).unwrap();
    let mut bytes = vec![0; len];
    recovered
        .files
        .read_at(FileKind::Database, &mut bytes, 0)
        .unwrap();
    let (pos, page_size) = (recovered.history.pos(), recovered.history.page_size().unwrap());
    assert_eq!(checksum(&bytes, page_size), pos.checksum);
    let mut applied = Applied::new(&directory);
    applied.catch_up();
    assert!(applied.pos == pos && applied.bytes == bytes);
    let connection = Connection::open(directory.join("database")).unwrap();
    let ok: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(ok, "ok");
    let mut rows = connection.prepare("SELECT k FROM acked ORDER BY k").unwrap();
    rows.query_map([], |row| row.get(0))
        .unwrap()
        .map(|row| row.unwrap())
        .collect()
}

#[test]
fn a_disk_that_fails_at_any_call_costs_no_acknowledged_transaction() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let root = scratch();
        let sound = run(mode, root.path(), 0);
        assert_eq!(sound.acked, [1, 2, 3, 4]);
        assert!(!sound.stopped && rows_left(root.path()) == sound.acked);
        let (mut stopped, mut told) = (0, 0);
        for fails_at in 1..=sound.calls {
            let root = scratch();
            let found = run(mode, root.path(), fails_at);
            let left = rows_left(root.path());
            let kept = found.acked.iter().all(|row| left.contains(row));
            assert!(
                kept,
                "{mode} call {fails_at}: {:?} acknowledged, {left:?} left",
                found.acked
            );
            stopped += usize::from(found.stopped);
            told += usize::from(!found.stopped && found.acked.len() < 4);
        }
        assert!(
            stopped > 3 && told > 10,
            "{mode}: {stopped} stops and {told} errors of {}",
            sound.calls
        );
    }
}
