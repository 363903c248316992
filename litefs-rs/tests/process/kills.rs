//! A node that is killed while SQLite commits.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rusqlite::Connection;

use crate::{modes::MODES, node::Node};

/// How often a node is killed per journal mode and level of synchronization; more by `LITEFS_KILLS`.
const KILLS: u64 = 2;

fn kills() -> u64 {
    let kills = std::env::var("LITEFS_KILLS");
    kills.ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

/// Inserts rows one by one until that fails, and counts those that SQLite acknowledged.
///
/// * `reached`: told when so many are.
fn insert(
    path: &Path,
    mode: &str,
    level: &str,
    acknowledged: &AtomicU64,
    (after, reached): (u64, mpsc::Sender<()>),
) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(&format!("PRAGMA journal_mode={mode}; PRAGMA synchronous={level}"))?;
    loop {
        connection.execute("INSERT INTO t (v) VALUES (randomblob(300))", [])?;
        if acknowledged.fetch_add(1, Ordering::SeqCst) + 1 == after {
            let _somebody_waits = reached.send(());
        }
    }
}

fn kill_in_the_midst(mode: &str, level: &str) {
    let root = tempfile::tempdir().unwrap();
    let mut node = Node::start(root.path());
    node.shell(
        "a",
        &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (k INTEGER PRIMARY KEY, v)"),
    );
    let mut before = 0;
    for kill in 0..kills() {
        let acknowledged = Arc::new(AtomicU64::new(0));
        // Every kill comes after another number of commits.
        let after = 3 + kill * 7 % 41;
        let (reached, wait) = mpsc::channel();
        let writer = {
            let (path, acknowledged): (PathBuf, _) = (node.path("a"), Arc::clone(&acknowledged));
            let (mode, level) = (mode.to_owned(), level.to_owned());
            thread::spawn(move || insert(&path, &mode, &level, &acknowledged, (after, reached)))
        };
        // A writer that fails lets go of its end.
        let _failed_before = wait.recv();
        node.kill();
        let error = writer.join().unwrap();
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        assert!(
            acknowledged >= after,
            "{mode} {level}: {acknowledged} rows, then {error:?}"
        );
        node.start_again();
        let connection = node.check("a");
        let rows: i64 = connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        let rows = rows.cast_unsigned();
        assert!(
            rows >= before + acknowledged,
            "{mode} {level} kill {kill}: {rows} rows, {before} before and {acknowledged} acknowledged"
        );
        before = rows;
    }
}

#[test]
fn rows_acknowledged_with_deleted_journals_outlive_the_node() {
    kill_in_the_midst(MODES[0], "FULL");
    kill_in_the_midst(MODES[0], "NORMAL");
}

#[test]
fn rows_acknowledged_with_truncated_journals_outlive_the_node() {
    kill_in_the_midst(MODES[1], "FULL");
    kill_in_the_midst(MODES[1], "NORMAL");
}

#[test]
fn rows_acknowledged_with_persistent_journals_outlive_the_node() {
    kill_in_the_midst(MODES[2], "FULL");
    kill_in_the_midst(MODES[2], "NORMAL");
}

#[test]
fn rows_acknowledged_with_a_log_outlive_the_node() {
    kill_in_the_midst(MODES[3], "FULL");
    kill_in_the_midst(MODES[3], "NORMAL");
}
