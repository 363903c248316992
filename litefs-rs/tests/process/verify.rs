//! Is everything as it should be.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::{modes::MODES, node::Node, replicas::pair};

fn at_rest(data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_litefs"))
        .args(["verify", "-data", data.to_str().unwrap()])
        .output()
        .unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8(output.stdout.clone()).unwrap(),
    )
}

fn overwrite(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 1;
    #[allow(clippy::disallowed_methods, reason = "damage")]
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_sound_is_said_to_be_so_of_nodes_that_run_were_stopped_or_killed() {
    let (first, mut primary, second, mut replica) = pair();
    for mode in MODES {
        primary.shell(
            mode,
            &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(50000)); DELETE FROM t"),
        );
        replica.catch_up(mode, &primary);
    }
    let open = primary.connect("WAL");
    open.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    replica.catch_up("WAL", &primary);
    for node in [&primary, &replica] {
        let (code, lines) = said(&node.litefs("verify", &[]));
        assert_eq!((code, lines.lines().count()), (Some(0), MODES.len()), "{lines}");
        assert!(lines.lines().all(|line| line.contains(" sound at ")), "{lines}");
    }
    let data = first.path().join("data");
    let (code, lines) = said(&at_rest(&data));
    assert_eq!(code, Some(2), "{lines}");
    assert!(lines.contains("in use"), "{lines}");
    primary.kill();
    drop(open);
    assert_eq!(replica.stop(), Some(0));
    for data in [data, second.path().join("data")] {
        let (code, lines) = said(&at_rest(&data));
        assert_eq!((code, lines.lines().count()), (Some(0), MODES.len()), "{lines}");
    }
}

#[test]
fn damage_of_a_page_of_a_transaction_and_a_hole_are_told_by_name() {
    let root = tempfile::tempdir().unwrap();
    let mut node = Node::start(root.path());
    let fill = "CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(40000)); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)";
    for name in ["hole", "page", "sound", "transaction"] {
        node.shell(name, fill);
    }
    overwrite(&node.directory("page").join("database"), 10_000);
    let (code, lines) = said(&node.litefs("verify", &[]));
    assert_eq!(code, Some(1), "{lines}");
    assert!(lines.contains("page DAMAGED: its pages add up to"), "{lines}");
    assert_eq!(node.stop(), Some(0));
    let ltx = |name: &str, txid: u64| {
        let name = node.directory(name).join("ltx");
        name.join(format!("{txid:016x}-{txid:016x}.ltx"))
    };
    std::fs::remove_file(ltx("hole", 3)).unwrap();
    overwrite(&ltx("transaction", 2), 200);
    let (code, lines) = said(&at_rest(&root.path().join("data")));
    assert_eq!(code, Some(1), "{lines}");
    let lines: Vec<_> = lines.lines().collect();
    assert!(
        lines[0].starts_with("hole DAMAGED: 0000000000000004-0000000000000004.ltx follows upon"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("page DAMAGED: checksum "), "{lines:?}");
    assert!(
        lines[2].starts_with("sound sound at 0000000000000004/"),
        "{lines:?}"
    );
    assert!(
        lines[3].contains("DAMAGED: ") && lines[3].contains("0000000000000002-0000000000000002.ltx: "),
        "{lines:?}"
    );
    assert_eq!(said(&at_rest(&root.path().join("nothing"))).0, Some(2));
    let gone = Command::new(env!("CARGO_BIN_EXE_litefs"))
        .args(["verify", "-url", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(2), "{gone:?}");
}
