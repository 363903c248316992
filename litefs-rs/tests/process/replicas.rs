//! A primary and a replica, each in a process of its own.

use rusqlite::{Connection, ErrorCode};

use crate::{modes::MODES, node::Node};

/// Numbers that look like chance and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).unwrap()]
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

pub(crate) fn pair() -> (tempfile::TempDir, Node, tempfile::TempDir, Node) {
    let first = tempfile::tempdir().unwrap();
    let primary = Node::start(first.path());
    beside(first, primary)
}

/// Adds a replica.
pub(crate) fn beside(
    first: tempfile::TempDir,
    primary: Node,
) -> (tempfile::TempDir, Node, tempfile::TempDir, Node) {
    let second = tempfile::tempdir().unwrap();
    let replica = Node::follow(second.path(), &primary);
    (first, primary, second, replica)
}

fn step(connection: &Connection, numbers: &mut Numbers) {
    let (key, bytes) = (numbers.below(50), numbers.one_of(&[10, 400, 3000, 30_000]));
    let sql = match numbers.below(12) {
        0..=5 => format!("INSERT OR REPLACE INTO t VALUES ({key}, randomblob({bytes}))"),
        6 | 7 => format!("UPDATE t SET v = randomblob({bytes}) WHERE k % 5 = {key} % 5"),
        8 => format!("DELETE FROM t WHERE k % 3 = {key} % 3"),
        9 => format!("BEGIN; INSERT OR REPLACE INTO t VALUES ({key}, randomblob(100000)); ROLLBACK"),
        10 => "VACUUM".to_owned(),
        _ => "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
    };
    connection.execute_batch(&sql).unwrap();
}

/// How many transactions a run has in all; more by `LITEFS_STEPS`.
fn steps() -> u64 {
    let steps = std::env::var("LITEFS_STEPS");
    steps.ok().and_then(|steps| steps.parse().ok()).unwrap_or(240)
}

#[test]
fn a_replica_is_the_primary_byte_for_byte_after_any_work_kills_and_restarts() {
    let (_first, mut primary, _second, mut replica) = pair();
    let mut numbers = Numbers(7);
    for mode in MODES {
        primary.shell(
            mode,
            &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (k INTEGER PRIMARY KEY, v)"),
        );
    }
    for round in 0..6 {
        for mode in MODES {
            let connection = primary.connect(mode);
            connection
                .execute_batch(&format!("PRAGMA journal_mode={mode}"))
                .unwrap();
            for _ in 0..steps() / 24 {
                step(&connection, &mut numbers);
            }
        }
        match round {
            0 | 3 => {
                replica.kill();
                primary.shell(
                    "DELETE",
                    "INSERT INTO t VALUES (1000 + random() % 1000, 'while nobody listens')",
                );
                replica.start_again();
            }
            1 => {
                primary.kill();
                primary.start_again();
            }
            2 => {
                assert_eq!(replica.stop(), Some(0));
                primary.shell(
                    "WAL",
                    "PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL",
                );
                replica.start_again();
            }
            4 => {
                assert_eq!(primary.stop(), Some(0));
                primary.start_again();
            }
            _ => {}
        }
        for mode in MODES {
            replica.catch_up(mode, &primary);
        }
    }
}

#[test]
fn a_reader_that_stays_on_one_database_of_a_replica_holds_up_no_other() {
    let (_first, primary, _second, replica) = pair();
    for name in ["a", "b"] {
        primary.shell(name, "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
        replica.catch_up(name, &primary);
    }
    let reader = replica.connect("a");
    reader.execute_batch("BEGIN").unwrap();
    let count = |connection: &Connection| -> i64 {
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(&reader), 1);
    let before = replica.pos("a");
    primary.shell("a", "INSERT INTO t VALUES (2); INSERT INTO t VALUES (3)");
    for value in 0..10 {
        primary.shell("b", &format!("INSERT INTO t VALUES ({value})"));
        replica.catch_up("b", &primary);
    }
    assert_eq!(
        (count(&reader), replica.pos("a")),
        (1, before),
        "the reader sees what it saw"
    );
    reader.execute_batch("COMMIT").unwrap();
    replica.catch_up("a", &primary);
    assert_eq!(count(&reader), 3);
}

#[test]
fn a_reader_that_stays_on_a_database_with_a_log_sees_what_it_saw_and_holds_up_nobody() {
    let (_first, primary, _second, mut replica) = pair();
    primary.shell(
        "a",
        "PRAGMA journal_mode=WAL; PRAGMA page_size=512; CREATE TABLE t (v); INSERT INTO t VALUES (1)",
    );
    replica.catch_up("a", &primary);
    let reader = replica.connect("a");
    let count = |connection: &Connection| -> i64 {
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    };
    for round in 0..3 {
        reader.execute_batch("BEGIN").unwrap();
        let before = count(&reader);
        for value in 0..8 {
            primary.shell(
                "a",
                &format!("INSERT INTO t VALUES ({value}), (randomblob(20000))"),
            );
            // Others read what is new, in this process and in another, while the first reads what it saw.
            replica.catch_up("a", &primary);
            let others = replica.shell("a", "PRAGMA integrity_check; SELECT count(*) FROM t");
            let expected = before + 2 * (value + 1);
            assert_eq!(others, format!("ok\n{expected}"));
            assert_eq!(count(&reader), before);
        }
        if round == 1 {
            // With a log that is not in the database yet.
            replica.kill();
            replica.start_again();
            replica.catch_up("a", &primary);
            break;
        }
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(count(&reader), before + 16);
    }
    primary.shell("a", "DELETE FROM t; VACUUM");
    replica.catch_up("a", &primary);
}

#[test]
fn a_replica_is_read_only_and_says_so() {
    let (_first, primary, _second, replica) = pair();
    for mode in ["DELETE", "WAL"] {
        primary.shell(mode, &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v)"));
        replica.catch_up(mode, &primary);
        let connection = replica.connect(mode);
        let refused = connection.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
        let expected = if mode == "WAL" {
            ErrorCode::SystemIoFailure
        } else {
            ErrorCode::ReadOnly
        };
        assert_eq!(refused.sqlite_error_code(), Some(expected), "{mode}: {refused}");
        drop(connection);
        assert!(std::fs::remove_file(replica.path(mode)).is_err());
        primary.shell(mode, "INSERT INTO t VALUES (2)");
        replica.catch_up(mode, &primary);
    }
    assert_eq!(
        std::fs::read_to_string(replica.path(".primary")).unwrap(),
        "primary\n"
    );
    assert!(!primary.path(".primary").exists());
}

#[test]
fn a_log_that_is_switched_off_and_databases_that_are_dropped_leave_the_replica_alive_and_equal() {
    let (_first, primary, _second, replica) = pair();
    primary.shell(
        "a",
        "PRAGMA journal_mode=WAL; CREATE TABLE t (v); INSERT INTO t VALUES (1)",
    );
    replica.catch_up("a", &primary);
    // A reader that has the log open stays, and sees what comes after it.
    let reader = replica.connect("a");
    let rows = || -> i64 {
        reader
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(rows(), 1);
    primary.shell("a", "PRAGMA journal_mode=DELETE; INSERT INTO t VALUES (2)");
    replica.catch_up("a", &primary);
    assert_eq!(rows(), 2);
    drop(reader);
    std::fs::remove_file(primary.path("a")).unwrap();
    primary.shell("a", "CREATE TABLE u (v)");
    replica.catch_up("a", &primary);
    assert_eq!(replica.shell("a", "SELECT name FROM sqlite_schema"), "u");
}

#[test]
fn a_damaged_database_of_a_replica_is_fetched_anew_and_the_others_are_served_meanwhile() {
    let (_first, primary, _second, mut replica) = pair();
    let fill = "CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(40000)); CREATE TABLE u (v)";
    for name in ["a", "b"] {
        primary.shell(name, fill);
        replica.catch_up(name, &primary);
    }
    replica.kill();
    let file = replica.directory("a").join("database");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10_000] ^= 1;
    #[allow(clippy::disallowed_methods, reason = "damage")]
    std::fs::write(&file, bytes).unwrap();
    replica.start_again();
    replica.catch_up("b", &primary);
    replica.catch_up("a", &primary);
    primary.shell("a", "INSERT INTO u VALUES (1)");
    replica.catch_up("a", &primary);
}

#[test]
fn a_replica_of_another_cluster_is_not_fed() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let primary = Node::start(first.path());
    primary.shell("a", "CREATE TABLE t (v)");
    let mut other = Node::start(second.path());
    other.shell("a", "CREATE TABLE mine (v)");
    let before = other.pos("a");
    other.stop();
    let replica = Node::follow(second.path(), &primary);
    let said = replica.wait_for("different cluster id");
    assert!(said.contains("LFSC"), "{said}");
    assert_eq!(replica.pos("a"), before);
}
