//! What LiteFS 0.5.14 gets wrong, one test for each of its bugs that capture and recovery can have. The numbers are those under
//! which they were collected; 4, 11 and 20 are among the tests of recovery.

use std::sync::Arc;

use crashsafe::RealDisk;
use litefs_rs::db::{
    Node, Primacy, Role,
    locks::{LockByte, Mode},
};
use ltx::{Flags, NodeId, Pos};
use rusqlite::{Connection, ErrorCode};

use crate::{applied::Applied, file_system::FileSystem, workloads::scratch};

/// A database whose transactions are followed, as a replica does.
struct Followed {
    _root: tempfile::TempDir,
    system: Arc<FileSystem>,
    connection: Connection,
    applied: Applied,
}

impl Followed {
    fn new(setup: &str) -> Self {
        let root = scratch();
        let node = Node {
            disk: Arc::new(RealDisk),
            id: NodeId::new(7),
            flags: Flags::LZ4,
            wall_clock_ms: || 0,
            primacy: Primacy::fixed(Role::Primary),
        };
        let system = FileSystem::new(root.path().to_path_buf(), node);
        let mut followed = Self {
            connection: system.connect("a"),
            applied: Applied::new(&system.directory("a")),
            system,
            _root: root,
        };
        followed.run(setup);
        followed
    }

    /// Runs statements, and finds what SQLite reads then made of transactions alone. Returns how many there were.
    fn run(&mut self, sql: &str) -> usize {
        self.connection.execute_batch(sql).unwrap();
        let before = self.applied.files;
        self.applied.catch_up();
        assert_eq!(self.applied.pos, self.pos("a"));
        let read = self.connection.serialize("main").unwrap();
        assert!(read[..] == self.applied.bytes[..], "after {sql}");
        self.applied.files - before
    }

    fn pos(&self, name: &str) -> Pos {
        self.system.look(name, |database| database.pos()).unwrap()
    }
}

const ROWS: &str = "CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
    INSERT INTO t (v) SELECT randomblob(600) FROM n;";

#[test]
fn b2_another_page_size_is_a_deletion_and_the_whole_database() {
    let mut followed = Followed::new(&format!("PRAGMA journal_mode=DELETE; {ROWS}"));
    assert_eq!(followed.run("PRAGMA page_size=8192; VACUUM"), 2);
    assert_eq!(followed.applied.page_size.unwrap().bytes(), 8192);
    assert_eq!(followed.run("INSERT INTO t (v) VALUES (1)"), 1, "writes go on");
}

#[test]
fn b3_a_switch_from_the_log_to_a_rollback_journal_has_its_page() {
    let mut followed = Followed::new(&format!("PRAGMA journal_mode=WAL; {ROWS}"));
    assert_eq!(followed.run("PRAGMA journal_mode=DELETE"), 1);
    assert_eq!(followed.applied.bytes[18..20], [1, 1]);
    followed.run("INSERT INTO t (v) VALUES (1)");
    assert_eq!(followed.run("PRAGMA journal_mode=WAL"), 1);
    assert_eq!(followed.applied.bytes[18..20], [2, 2]);
}

#[test]
fn b7_a_transaction_over_two_databases_commits_in_both_and_leaves_nothing_else() {
    let mut followed = Followed::new(&format!("PRAGMA journal_mode=DELETE; {ROWS}"));
    followed.run("ATTACH 'b' AS b; CREATE TABLE b.u (k)");
    let before = followed.pos("b").txid;
    followed.run("BEGIN; INSERT INTO t (v) VALUES (1); INSERT INTO b.u VALUES (2); COMMIT");
    assert_eq!(followed.pos("b").txid, before.next().unwrap());
    let rows: u32 = followed
        .connection
        .query_row("SELECT count(*) FROM b.u", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
    let databases = std::fs::read_dir(followed.system.directory("a").parent().unwrap()).unwrap();
    assert_eq!(databases.count(), 2, "no directory of a super-journal");
}

#[test]
fn b26_a_vacuum_in_the_log_that_shrinks_by_hundreds_of_pages_is_a_transaction_like_others() {
    for before in ["", "PRAGMA auto_vacuum=FULL; "] {
        let mut followed = Followed::new(&format!("{before}PRAGMA journal_mode=WAL; {ROWS}"));
        let pages = followed.applied.bytes.len() / 4096;
        followed.run("DELETE FROM t WHERE k > 10");
        followed.run("VACUUM");
        assert!(followed.applied.bytes.len() / 4096 + 256 < pages);
        assert_eq!(followed.run("INSERT INTO t (v) VALUES (1)"), 1);
        let mut other = followed.system.connect("a");
        other.execute_batch("INSERT INTO t (v) VALUES (2)").unwrap();
        followed.applied.catch_up();
        assert!(other.serialize("main").unwrap()[..] == followed.applied.bytes[..]);
    }
}

#[test]
fn a_transaction_whose_journal_is_in_memory_is_there_at_once() {
    for mode in ["MEMORY", "OFF"] {
        let mut followed = Followed::new(&format!("PRAGMA journal_mode={mode}; {ROWS}"));
        assert_eq!(followed.run("INSERT INTO t (v) VALUES (1)"), 1, "{mode}");
        assert_eq!(followed.run("UPDATE t SET v = 2 WHERE k < 100"), 1, "{mode}");
    }
}

#[test]
fn a_log_in_exclusive_locking_mode_is_refused_and_nothing_else_is() {
    let mut followed = Followed::new(&format!("PRAGMA journal_mode=WAL; {ROWS}"));
    let before = followed.pos("a");
    let other = followed.system.connect("a");
    drop(std::mem::replace(&mut followed.connection, other));
    let exclusive = "PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t (v) VALUES (1)";
    let refused = followed.connection.execute_batch(exclusive).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
    assert!(followed.system.refusals()[0].contains("LogWithoutLock"));
    assert_eq!(followed.pos("a"), before);
    let other = followed.system.connect("a");
    drop(std::mem::replace(&mut followed.connection, other));
    let held = followed
        .system
        .look("a", |database| database.locks().state(LockByte::Shared));
    assert_ne!(held, Some(Some(Mode::Exclusive)));
    assert_eq!(followed.run("INSERT INTO t (v) VALUES (2)"), 1);
}

#[test]
fn a_rollback_that_changes_nothing_is_no_transaction() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let mut followed = Followed::new(&format!(
            "PRAGMA journal_mode={mode}; PRAGMA cache_size=5; {ROWS}"
        ));
        assert_eq!(
            followed.run("BEGIN; UPDATE t SET v = randomblob(600); ROLLBACK"),
            0,
            "{mode}"
        );
        assert_eq!(followed.run("BEGIN; SELECT count(*) FROM t; COMMIT"), 0, "{mode}");
    }
}
