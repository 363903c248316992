use std::{path::Path, sync::Arc};

use crashsafe::RealDisk;
use ltx::{Flags, NodeId, Pos};

use crate::db::{Database, Node, Primacy, Rest, Role, files::FileKind};

const NAME: &str = "checksums";

fn open(directory: &Path) -> Database {
    let node = Node {
        disk: Arc::new(RealDisk),
        id: NodeId::new(7),
        flags: Flags::LZ4,
        wall_clock_ms: || 1_700_000_000_000,
        primacy: Primacy::fixed(Role::Primary),
    };
    Database::open(node, Role::Primary, directory, &|_| false).expect("a database")
}

/// Makes a database of SQLite's with 20 pages ours, and puts it at rest.
fn at_rest(directory: &Path) -> Pos {
    let connection = rusqlite::Connection::open(directory.join("database")).expect("sqlite");
    connection
        .execute_batch("CREATE TABLE t (v); INSERT INTO t VALUES (zeroblob(80000))")
        .expect("a table");
    drop(connection);
    let mut database = open(directory);
    assert_eq!(database.settle().expect("settled"), Rest::Settled);
    assert!(directory.join(NAME).exists());
    database.pos()
}

fn verified(database: &mut Database) -> bool {
    loop {
        match database.verify(3).expect("readable pages") {
            Some(Ok(())) => {}
            Some(Err(_)) => return false,
            None => return true,
        }
    }
}

#[test]
fn what_a_database_at_rest_adds_up_to_is_believed_once_and_verified_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let pos = at_rest(directory.path());
    let mut database = open(directory.path());
    assert_eq!(database.pos(), pos);
    assert!(!directory.path().join(NAME).exists());
    assert_eq!(database.unverified, Some(ltx::Pgno::FIRST));
    // A stop before that is done makes the next start as quick.
    assert_eq!(database.settle().expect("settled"), Rest::Settled);
    let mut database = open(directory.path());
    assert_eq!(
        (database.unverified, database.pos()),
        (Some(ltx::Pgno::FIRST), pos)
    );
    assert!(verified(&mut database));
    assert_eq!(database.unverified, None);
}

#[test]
fn a_page_that_changed_at_rest_is_found_behind_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    at_rest(directory.path());
    let path = directory.path().join("database");
    let mut bytes = std::fs::read(&path).expect("bytes");
    bytes[5000] ^= 1;
    #[allow(clippy::disallowed_methods, reason = "damage")]
    std::fs::write(&path, bytes).expect("damaged");
    assert!(!verified(&mut open(directory.path())));
}

#[test]
fn what_was_kept_is_not_believed_of_a_database_that_went_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let pos = at_rest(directory.path());
    let kept = std::fs::read(directory.path().join(NAME)).expect("bytes");
    let mut database = open(directory.path());
    database.create(FileKind::Database).expect("a file");
    drop(database);
    for (what, bytes) in [
        ("another checksum", {
            let mut bytes = kept.clone();
            bytes[40] ^= 1;
            bytes
        }),
        ("another transaction", {
            let mut bytes = kept.clone();
            bytes[15] ^= 1;
            bytes
        }),
        ("cut", kept[..kept.len() - 8].to_vec()),
        ("nothing", Vec::new()),
    ] {
        #[allow(clippy::disallowed_methods, reason = "damage")]
        std::fs::write(directory.path().join(NAME), bytes).expect("damaged");
        let database = open(directory.path());
        assert_eq!((database.unverified, database.pos()), (None, pos), "{what}");
    }
}
