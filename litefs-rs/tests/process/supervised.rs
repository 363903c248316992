//! The program as a whole: its command, its configuration, what it keeps.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::node::Node;

/// Runs the program with a configuration to its end.
fn mount(root: &Path, more: &str, command: &[&str]) -> Output {
    let config = format!(
        "fuse: {{ dir: \"{root}/mnt\" }}\ndata: {{ dir: \"{root}/data\", retention: 1ms, retention-monitor-interval: 10ms }}\n\
         http: {{ addr: \"127.0.0.1:0\" }}\nlease: {{ type: \"static\" }}\n{more}",
        root = root.display()
    );
    let file = root.join("litefs.yml");
    #[allow(clippy::disallowed_methods, reason = "a test's file")]
    std::fs::write(&file, config).unwrap();
    let mut litefs = Command::new(env!("CARGO_BIN_EXE_litefs"));
    litefs.arg("mount").arg("-config").arg(file);
    if !command.is_empty() {
        litefs.arg("--").args(command);
    }
    litefs.output().unwrap()
}

#[test]
fn a_node_ends_as_its_command_ends_and_leaves_no_mount() {
    let root = tempfile::tempdir().unwrap();
    let database = root.path().join("mnt/a");
    let write = format!("sqlite3 {} 'CREATE TABLE t (v)'", database.display());
    for code in [0, 7] {
        let ended = mount(root.path(), "", &["sh", "-c", &format!("\"exit {code}\"")]);
        assert_eq!(
            ended.status.code(),
            Some(code),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
    }
    let listed = format!(
        "exec:\n  - cmd: \"{write}\"\n  - cmd: \"test -s {}\"\n",
        database.display()
    );
    let ended = mount(root.path(), &listed, &[]);
    assert_eq!(
        ended.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(!database.exists() && root.path().join("data/dbs/a/checksums").exists());
    let failing = "exec:\n  - cmd: \"false\"\n  - cmd: \"true\"\n";
    assert_eq!(mount(root.path(), failing, &[]).status.code(), Some(1));
}

#[test]
fn a_configuration_that_cannot_be_used_is_misuse_and_named() {
    let root = tempfile::tempdir().unwrap();
    let ended = mount(root.path(), "fuze: 1\n", &[]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("fuze") && said.contains("litefs.yml"), "{said}");
}

#[test]
fn old_transactions_go_and_the_newest_stays() {
    let root = tempfile::tempdir().unwrap();
    let wait = format!(
        "\"for i in 1 2 3 4; do sqlite3 {root}/mnt/a 'CREATE TABLE t'$i' (v)'; done; \
         while test $(ls {root}/data/dbs/a/ltx | wc -l) -gt 1; do :; done; ls {root}/data/dbs/a/ltx\"",
        root = root.path().display()
    );
    let ended = mount(root.path(), "", &["timeout", "60", "sh", "-c", &wait]);
    let said = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(said.trim(), "0000000000000004-0000000000000004.ltx");
    // What is left is enough to begin with.
    let node = Node::start(root.path());
    assert_eq!(node.pos("a").txid.get(), 4);
    node.check("a");
}
