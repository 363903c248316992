//! SQLite through the kernel, in every journal mode.

use std::process::{Command, Stdio};

use crate::node::Node;

pub(crate) const MODES: [&str; 4] = ["DELETE", "TRUNCATE", "PERSIST", "WAL"];

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_database_in_every_journal_mode_is_what_its_position_says_and_outlives_a_stop() {
    let root = scratch();
    let mut node = Node::start(root.path());
    for mode in MODES.into_iter().chain(["MEMORY", "OFF"]) {
        let connection = node.connect(mode);
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode={mode}; CREATE TABLE t (k INTEGER PRIMARY KEY, v); BEGIN; INSERT INTO t VALUES (1, 'a');
                 INSERT INTO t VALUES (2, randomblob(50000)); COMMIT; UPDATE t SET v = 'b' WHERE k = 1; DELETE FROM t WHERE k = 2"
            ))
            .unwrap();
        drop(connection);
        assert_eq!(node.shell(mode, "SELECT v FROM t"), "b", "{mode}");
        node.check(mode);
    }
    let positions: Vec<_> = MODES.iter().map(|mode| node.pos(mode)).collect();
    assert_eq!(node.stop(), Some(0));
    for mode in MODES {
        let left: Vec<_> = std::fs::read_dir(node.directory(mode))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            !left
                .iter()
                .any(|name| ["wal", "shm", "journal"].contains(&name.as_str())),
            "{left:?}"
        );
        assert!(left.iter().any(|name| name == "checksums"), "{left:?}");
    }
    node.start_again();
    for (mode, pos) in MODES.iter().zip(positions) {
        assert_eq!(node.pos(mode), pos, "{mode}");
        node.check(mode)
            .execute("INSERT INTO t VALUES (3, 'c')", [])
            .unwrap();
        node.check(mode);
    }
}

#[test]
fn writers_and_readers_in_several_processes_lose_nothing() {
    const WRITERS: i64 = 4;
    const ROWS: usize = 40;
    let root = scratch();
    let node = Node::start(root.path());
    for mode in MODES {
        let setup = format!("PRAGMA journal_mode={mode}; CREATE TABLE t (w, i)");
        node.shell(mode, &setup);
        let mut writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let inserts = format!("INSERT INTO t VALUES ({writer}, 0);").repeat(ROWS);
                Command::new("sqlite3")
                    .args(["-bail", "-cmd", ".timeout 60000"])
                    .arg(node.path(mode))
                    .arg(format!("PRAGMA journal_mode={mode}; {inserts}"))
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let reader = node.connect(mode);
        let mut before = 0;
        while writers
            .iter_mut()
            .any(|writer| writer.try_wait().unwrap().is_none())
        {
            let now: i64 = reader
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .unwrap();
            assert!(now >= before, "{mode}: {now} after {before}");
            before = now;
        }
        assert!(
            writers.iter_mut().all(|writer| writer.wait().unwrap().success()),
            "{mode}"
        );
        let rows: i64 = reader
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, WRITERS * ROWS as i64, "{mode}");
        drop(reader);
        node.check(mode);
    }
}

#[test]
fn modes_sizes_and_pages_change_under_a_database() {
    let root = scratch();
    let node = Node::start(root.path());
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO t SELECT randomblob(700) FROM n";
    node.shell("a", &format!("CREATE TABLE t (v); {fill}"));
    for mode in ["WAL", "DELETE", "WAL", "TRUNCATE", "PERSIST", "WAL", "MEMORY"] {
        node.shell(
            "a",
            &format!("PRAGMA journal_mode={mode}; {fill}; DELETE FROM t WHERE rowid % 3 = 0; VACUUM"),
        );
        node.check("a");
    }
    for page_size in [512, 8192, 65536, 4096] {
        let sql =
            format!("PRAGMA journal_mode=DELETE; PRAGMA page_size={page_size}; VACUUM; PRAGMA page_size");
        let said = node.shell("a", &sql);
        assert!(said.ends_with(&page_size.to_string()), "{said}");
        node.check("a");
        node.shell("a", fill);
        node.check("a");
    }
}

#[test]
fn memory_maps_of_a_database_show_what_was_committed() {
    let root = scratch();
    let node = Node::start(root.path());
    for mode in ["WAL", "DELETE"] {
        let writer = node.connect(mode);
        writer
            .execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v)"))
            .unwrap();
        let reader = node.connect(mode);
        reader.execute_batch("PRAGMA mmap_size=268435456").unwrap();
        for rows in 1..=50_i64 {
            writer
                .execute("INSERT INTO t VALUES (randomblob(3000))", [])
                .unwrap();
            if rows % 10 == 0 {
                writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            }
            let seen: (i64, i64) = reader
                .query_row("SELECT count(*), sum(length(v)) FROM t", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .unwrap();
            assert_eq!(seen, (rows, rows * 3000), "{mode}");
        }
        node.check(mode);
    }
}

#[test]
fn a_transaction_over_attached_databases_is_one_and_leaves_nothing_behind() {
    let root = scratch();
    let node = Node::start(root.path());
    let connection = node.connect("a");
    connection
        .execute("ATTACH ?1 AS b", [node.path("b").to_str().unwrap()])
        .unwrap();
    connection
        .execute_batch("CREATE TABLE main.t (v); CREATE TABLE b.t (v)")
        .unwrap();
    let before = (node.pos("a"), node.pos("b"));
    connection
        .execute_batch("BEGIN; INSERT INTO main.t VALUES (1); INSERT INTO b.t VALUES (2); COMMIT")
        .unwrap();
    assert_eq!(node.pos("a").txid, before.0.txid.next().unwrap());
    assert_eq!(node.pos("b").txid, before.1.txid.next().unwrap());
    drop(connection);
    node.check("a");
    node.check("b");
    let mut names: Vec<_> = std::fs::read_dir(node.mount())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".lag", "a", "a-pos", "b", "b-pos"]);
}

#[test]
fn a_dropped_database_is_gone_and_its_transactions_go_on() {
    let root = scratch();
    let mut node = Node::start(root.path());
    node.shell("a", "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
    std::fs::remove_file(node.path("a")).unwrap();
    assert!(!node.path("a").exists());
    node.shell("a", "CREATE TABLE u (v)");
    assert_eq!(node.pos("a").txid.get(), 4);
    node.check("a");
    node.stop();
    node.start_again();
    assert_eq!(node.shell("a", "SELECT name FROM sqlite_schema"), "u");
}
