//! Databases that are brought in and taken out.

use rusqlite::Connection;

use crate::node::Node;

fn plain(path: &std::path::Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_database_is_imported_over_another_and_who_has_it_open_reads_the_new_one() {
    let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start(root.path());
    let file = scratch.path().join("file");
    plain(&file, "CREATE TABLE one (v); INSERT INTO one VALUES (1)");
    let import = |name: &str| {
        let done = node.litefs("import", &["-name", name, file.to_str().unwrap()]);
        String::from_utf8(done.stderr).unwrap()
    };
    let first = import("a");
    assert!(first.starts_with("Import of database"), "{first}");
    node.check("a");
    for mode in ["DELETE", "WAL"] {
        node.shell(
            "a",
            &format!("PRAGMA journal_mode={mode}; INSERT INTO one VALUES (5)"),
        );
        let open = node.connect("a");
        let rows: i64 = open
            .query_row("SELECT count(*) FROM one", [], |row| row.get(0))
            .unwrap();
        assert!(rows > 1, "{mode}");
        plain(
            &file,
            &format!("DROP TABLE IF EXISTS t{mode}; CREATE TABLE t{mode} (v); INSERT INTO one VALUES (2)"),
        );
        for _again in 0..2 {
            let said = import("a");
            assert!(said.starts_with("Import of database"), "{mode}: {said}");
            let tables: i64 = open
                .query_row(&format!("SELECT count(*) FROM t{mode}"), [], |row| row.get(0))
                .unwrap();
            assert_eq!(tables, 0, "{mode}");
        }
        drop(open);
        node.check("a");
    }
}

#[test]
fn what_is_no_database_or_has_other_pages_is_not_imported_and_harms_nothing() {
    let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start(root.path());
    node.shell("a", "CREATE TABLE t (v)");
    let pos = node.pos("a");
    let file = scratch.path().join("file");
    #[allow(clippy::disallowed_methods, reason = "a test's file")]
    std::fs::write(&file, b"nothing of sqlite").unwrap();
    let import = |name: &str| {
        let done = node.litefs("import", &["-name", name, file.to_str().unwrap()]);
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    assert!(import("a").contains("not a sqlite database"));
    std::fs::remove_file(&file).unwrap();
    plain(&file, "PRAGMA page_size=8192; CREATE TABLE u (v)");
    assert!(import("a").contains("pages of 8192 bytes"));
    assert!(import("x-wal").contains("no database's name"));
    assert_eq!(node.pos("a"), pos);
    node.check("a");
}

#[test]
fn an_export_is_the_database_with_its_log_while_others_write() {
    let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start(root.path());
    for mode in ["DELETE", "WAL"] {
        let writer = node.connect(mode);
        writer
            .execute_batch(&format!(
                "PRAGMA journal_mode={mode}; CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(500000))"
            ))
            .unwrap();
        let file = scratch.path().join(mode);
        let done = node.litefs("export", &["-name", mode, file.to_str().unwrap()]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        writer.execute("INSERT INTO t VALUES (1)", []).unwrap();
        let copy = Connection::open(&file).unwrap();
        let (said, rows): (String, i64) = copy
            .query_row(
                "SELECT (SELECT * FROM pragma_integrity_check), (SELECT count(*) FROM t)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!((said.as_str(), rows), ("ok", 1), "{mode}");
    }
    let missing = node.litefs(
        "export",
        &["-name", "nothing", scratch.path().join("n").to_str().unwrap()],
    );
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("database not found")
    );
}
