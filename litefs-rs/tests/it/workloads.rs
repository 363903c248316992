//! Random workloads of the real SQLite: after every step the transactions that were captured, applied one after the other,
//! give the database that SQLite reads.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crashsafe::RealDisk;
use litefs_rs::db::{
    Node, Primacy, Role,
    capture::read_page,
    files::FileKind,
    locks::{LockByte, Mode},
};
use ltx::{Flags, NodeId, PageSize, Pgno};
use rusqlite::{Connection, ErrorCode};

use crate::{applied::Applied, file_system::FileSystem, rng::Choices};

const DATABASES: [&str; 2] = ["a", "b"];
const MODES: [&str; 5] = ["DELETE", "TRUNCATE", "PERSIST", "WAL", "MEMORY"];
const WORKERS: u32 = 3;
/// The process that only looks.
const READER: u32 = 100;

/// How much of what can happen did.
#[derive(Debug, Default)]
struct Tally {
    transactions: usize,
    compared: usize,
    resized: usize,
    killed: usize,
    by_error: BTreeMap<String, usize>,
}

struct World {
    system: Arc<FileSystem>,
    choices: Choices,
    /// The journal mode that connections begin with.
    mode: &'static str,
    workers: Vec<Connection>,
    applied: BTreeMap<&'static str, Applied>,
    tally: Tally,
}

impl World {
    fn new(root: &Path, seed: u64, mode: &'static str) -> Self {
        let node = Node {
            disk: Arc::new(RealDisk),
            id: NodeId::new(7),
            flags: if seed.is_multiple_of(2) {
                Flags::LZ4
            } else {
                Flags::NONE
            },
            wall_clock_ms: || 1_700_000_000_000,
            primacy: Primacy::fixed(Role::Primary),
        };
        let system = FileSystem::new(root.to_path_buf(), node);
        let applied = DATABASES.map(|name| (name, Applied::new(&system.directory(name))));
        let mut world = Self {
            system,
            choices: Choices::new(seed),
            mode,
            workers: Vec::new(),
            applied: applied.into(),
            tally: Tally::default(),
        };
        for worker in 0..WORKERS {
            let connection = world.connect(worker);
            world.workers.push(connection);
        }
        let page_bytes = world.choices.one_of(&[512, 1024, 4096, 4096, 65_536]);
        let setup = format!(
            "PRAGMA a.page_size={page_bytes}; PRAGMA main.page_size={page_bytes};
             PRAGMA main.journal_mode={mode}; PRAGMA b.journal_mode={mode};"
        );
        let setup = setup.replacen("PRAGMA a.", "PRAGMA b.", 1);
        world.run(0, &setup);
        world.run(0, "CREATE TABLE main.t (k INTEGER PRIMARY KEY, v BLOB)");
        world.run(0, "CREATE TABLE b.u (k INTEGER PRIMARY KEY, v BLOB)");
        world
    }

    fn connect(&self, worker: u32) -> Connection {
        self.system.run_as(worker);
        let connection = self.system.connect("a");
        // Each may find its database locked; then this connection goes without.
        let mode = self.mode;
        for sql in ["ATTACH 'b' AS b", "PRAGMA cache_size=5", "PRAGMA b.cache_size=5"] {
            let _locked = connection.execute_batch(sql);
        }
        if mode != "WAL" {
            let set = format!("PRAGMA main.journal_mode={mode}; PRAGMA b.journal_mode={mode}");
            let _locked = connection.execute_batch(&set);
        }
        connection
    }

    /// Runs statements; what they may not do now they do not do, and nothing else may go wrong.
    fn run(&mut self, worker: u32, sql: &str) {
        self.system.run_as(worker);
        if let Err(error) = self.workers[worker as usize].execute_batch(sql) {
            let code = code_of(&error);
            let expected = [
                ErrorCode::DatabaseBusy,
                ErrorCode::DatabaseLocked,
                ErrorCode::Unknown,
                ErrorCode::ConstraintViolation,
            ];
            let refusals = self.system.refusals();
            assert!(
                code.is_some_and(|code| expected.contains(&code)),
                "{sql}: {error:?} {refusals:?}"
            );
            *self.tally.by_error.entry(error.to_string()).or_default() += 1;
        }
        self.check(sql);
    }

    fn step(&mut self) {
        let worker = self.choices.below(WORKERS);
        let table = self.choices.one_of(&["main.t", "b.u"]);
        let database = &table[..table.len() - 2];
        let key = self.choices.below(200);
        let len = self.choices.one_of(&[0, 10, 400, 3000, 20_000]);
        let count = self.choices.one_of(&[1, 1, 2, 30]);
        let action = self.choices.below(32);
        if action >= 23 && self.choices.below(2) == 0 {
            // What needs the database for itself does not get it while others are in the midst of something.
            for worker in 0..WORKERS {
                self.run(worker, "COMMIT");
            }
        }
        let sql = match action {
            0..=7 => format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{count})
                 INSERT OR REPLACE INTO {table} SELECT {key}+i, randomblob({len}) FROM n"
            ),
            8..=10 => format!("UPDATE {table} SET v = randomblob({len}) WHERE k % 7 = {key} % 7"),
            11 | 12 => format!("DELETE FROM {table} WHERE k % 3 = {key} % 3"),
            13 => format!("DELETE FROM {table}"),
            14..=16 => "BEGIN".to_owned(),
            17 => "BEGIN IMMEDIATE".to_owned(),
            18 | 19 => "COMMIT".to_owned(),
            20 => "ROLLBACK".to_owned(),
            21 => self
                .choices
                .one_of(&["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"])
                .to_owned(),
            22 => format!(
                "BEGIN; INSERT OR REPLACE INTO main.t VALUES ({key}, randomblob({len}));
                 INSERT OR REPLACE INTO b.u VALUES ({key}, randomblob({len})); COMMIT"
            ),
            23 => format!("VACUUM {database}"),
            24 => format!("PRAGMA {database}.journal_mode={}", self.choices.one_of(&MODES)),
            25 => format!(
                "PRAGMA {database}.wal_checkpoint({})",
                self.choices.one_of(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
            ),
            26 => format!(
                "PRAGMA {database}.synchronous={}; PRAGMA {database}.journal_size_limit={}",
                self.choices.one_of(&["OFF", "NORMAL", "FULL", "EXTRA"]),
                self.choices.one_of(&[-1, 0, 5000])
            ),
            27 => format!(
                "CREATE INDEX IF NOT EXISTS {database}.i ON {} (v); DROP INDEX IF EXISTS {database}.j",
                &table[table.len() - 1..]
            ),
            28..=30 => return self.resize_or_die(worker, database),
            _ => {
                let fresh = self.connect(worker);
                let old = std::mem::replace(&mut self.workers[worker as usize], fresh);
                drop(old);
                "SELECT 1".to_owned()
            }
        };
        self.run(worker, &sql);
    }

    fn resize_or_die(&mut self, worker: u32, database: &str) {
        let page_bytes = self.choices.one_of(&[512, 1024, 4096, 8192]);
        match self.choices.below(3) {
            0 => {
                let sql = format!(
                    "PRAGMA {database}.auto_vacuum={}; PRAGMA {database}.page_size={page_bytes}; VACUUM {database}",
                    self.choices.below(3)
                );
                self.run(worker, &sql);
            }
            1 => self.run(
                worker,
                &format!("PRAGMA {database}.incremental_vacuum({})", page_bytes / 512),
            ),
            // A writer that dies with its journal in memory leaves a broken database, as SQLite says.
            _ if !self.may_die(worker) => {}
            _ => {
                self.tally.killed += 1;
                self.system.run_as(worker);
                let dead = self.workers.remove(worker as usize);
                self.system.kill(worker, [dead]);
                let connection = self.connect(worker);
                self.workers.insert(worker as usize, connection);
                self.check("the death of a process");
            }
        }
    }

    fn may_die(&self, worker: u32) -> bool {
        self.system.run_as(worker);
        let connection = &self.workers[worker as usize];
        let in_memory = |database: &str| {
            let mode = connection.query_row(&format!("PRAGMA {database}.journal_mode"), [], |row| {
                row.get::<_, String>(0)
            });
            mode.is_ok_and(|mode| mode == "memory")
        };
        connection.is_autocommit() || !in_memory("main") && !in_memory("b")
    }

    /// Compares all databases, unless a writer keeps everyone out.
    fn check(&mut self, after: &str) {
        self.system.run_as(READER);
        for (name, applied) in &mut self.applied {
            let before = applied.page_size;
            applied.catch_up();
            self.tally.resized += usize::from(before.is_some_and(|before| applied.page_size != Some(before)));
            let pos = self.system.look(name, |database| database.pos()).unwrap();
            assert_eq!(applied.pos, pos, "{name} after {after}");
            let mut reader = self.system.connect(name);
            match reader.serialize("main") {
                // Of an empty file SQLite reads a page that is not there.
                Ok(_) if applied.bytes.is_empty() => {}
                Ok(read) => {
                    let same = read[..] == applied.bytes[..];
                    assert!(
                        same,
                        "{name} after {after}: SQLite reads {} bytes and we have {}",
                        read.len(),
                        applied.bytes.len()
                    );
                    self.tally.compared += 1;
                }
                // Nobody can read while a writer holds the lock alone.
                Err(error) => {
                    let held = |lock| {
                        self.system
                            .look(name, |database| database.locks().state(lock))
                            .flatten()
                    };
                    let kept_out = [LockByte::Pending, LockByte::Shared]
                        .map(held)
                        .contains(&Some(Mode::Exclusive));
                    assert!(kept_out, "{error:?} after {after}");
                }
            }
            drop(reader);
            if let Some(page_size) = applied.page_size {
                compare_places(&self.system, name, page_size, &applied.bytes, after);
            }
        }
        self.tally.transactions = self.applied.values().map(|applied| applied.files).sum();
    }
}

fn code_of(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        error => error.sqlite_error_code(),
    }
}

/// The pages that the capture has in the log are as they were committed. Of those in the database file nothing can be said
/// while a writer's own may be there.
fn compare_places(system: &FileSystem, name: &str, page_size: PageSize, bytes: &[u8], after: &str) {
    let mut page = vec![0; page_size.as_usize()];
    system.look(name, |database| {
        for (number, expected) in (1..).zip(bytes.chunks(page_size.as_usize())) {
            let pgno = Pgno::new(number).unwrap();
            let place = database.capture().place(pgno).unwrap();
            if place.file == FileKind::Wal {
                read_page(database.files(), place, &mut page).unwrap();
                assert!(page == expected, "{name} after {after}: page {pgno} in {place:?}");
            }
        }
    });
}

fn run_mode(mode: &'static str, seeds: std::ops::Range<u64>, steps: u32) {
    let mut total = Tally::default();
    for seed in seeds {
        let directory = scratch();
        let mut world = World::new(directory.path(), seed, mode);
        let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..steps {
                world.step();
            }
        }));
        assert!(stepped.is_ok(), "{mode} seed {seed}: {:?}", world.tally);
        let Tally {
            transactions,
            compared,
            resized,
            killed,
            by_error,
        } = std::mem::take(&mut world.tally);
        total.transactions += transactions;
        total.compared += compared;
        total.resized += resized;
        total.killed += killed;
        for (error, count) in by_error {
            *total.by_error.entry(error).or_default() += count;
        }
    }
    let enough = total.transactions > 100 && total.compared > 500 && total.killed > 5;
    assert!(
        enough && (total.resized > 3 || mode == "WAL"),
        "{mode}: {total:#?}"
    );
}

/// A directory in memory, where there is one: nothing here is about what a disk does.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// How many seeds a run takes; more for a soak.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("LITEFS_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    0..count.unwrap_or(6)
}

const STEPS: u32 = 120;

#[test]
fn transactions_that_begin_with_deleted_journals_are_captured_whole() {
    run_mode("DELETE", seeds(), STEPS);
}

#[test]
fn transactions_that_begin_with_truncated_journals_are_captured_whole() {
    run_mode("TRUNCATE", seeds(), STEPS);
}

#[test]
fn transactions_that_begin_with_persistent_journals_are_captured_whole() {
    run_mode("PERSIST", seeds(), STEPS);
}

#[test]
fn transactions_that_begin_with_a_log_are_captured_whole() {
    run_mode("WAL", seeds(), STEPS);
}

#[test]
fn transactions_that_begin_with_journals_in_memory_are_captured_whole() {
    run_mode("MEMORY", seeds(), STEPS);
}
