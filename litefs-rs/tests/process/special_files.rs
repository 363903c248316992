//! What applications read of a node, and what they may not do in its directory.

use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt as _};

use crate::node::Node;

#[test]
fn the_directory_lists_databases_with_their_side_files_and_positions() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path());
    node.shell("p", "PRAGMA journal_mode=PERSIST; CREATE TABLE t (v)");
    let connection = node.connect("w");
    connection
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (v)")
        .unwrap();
    let mut names: Vec<_> = fs::read_dir(node.mount())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [".lag", "p", "p-journal", "p-pos", "w", "w-pos", "w-shm", "w-wal"]
    );
    assert_eq!(fs::read_to_string(node.path(".lag")).unwrap(), "+000000000\n");
    assert_eq!(fs::metadata(node.path(".lag")).unwrap().len(), 11);
    assert_eq!(fs::metadata(node.path("p-pos")).unwrap().len(), 34);
    assert_eq!(fs::metadata(node.path("p")).unwrap().mode() & 0o777, 0o666);
    assert_eq!(fs::metadata(node.mount()).unwrap().mode() & 0o777, 0o777);
    assert_eq!(
        fs::read_to_string(node.path(".primary")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let pos = fs::read_to_string(node.path("p-pos")).unwrap();
    assert!(pos.starts_with("0000000000000001/") && pos.len() == 34, "{pos}");
}

#[test]
fn names_that_are_not_to_be_made_are_refused_and_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path());
    for name in ["a-pos", "a-lock", ".lag", ".primary"] {
        let made = fs::File::create_new(node.path(name));
        let kind = made.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::PermissionDenied | ErrorKind::AlreadyExists),
            "{name}: {kind:?}"
        );
    }
    let orphan = fs::File::create_new(node.path("nothing-journal"));
    assert_eq!(orphan.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        fs::create_dir(node.path("d")).unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
    // What was refused does not keep the kernel from asking again.
    node.shell("a", "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
    node.check("a");
}

#[test]
fn a_log_in_exclusive_locking_mode_is_refused_and_harms_nothing() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path());
    node.shell("a", "PRAGMA journal_mode=WAL; CREATE TABLE t (v)");
    let pos = node.pos("a");
    let connection = node.connect("a");
    connection.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
    assert!(connection.execute("INSERT INTO t VALUES (1)", []).is_err());
    drop(connection);
    assert_eq!(node.pos("a"), pos);
    node.shell("a", "INSERT INTO t VALUES (2)");
    node.check("a");
}
