//! What a commit costs: how often the disk is asked to make something durable.

use std::sync::Arc;

use crashsafe::{Disk, RealDisk, Recorder};
use litefs_rs::db::{Node, Primacy, Role};
use ltx::{Flags, NodeId};

use crate::{file_system::FileSystem, workloads::scratch};

/// Syncs of files and of directories for a commit of one page.
fn syncs(mode: &str, synchronous: &str) -> (usize, usize) {
    let root = scratch();
    let recorder = Arc::new(Recorder::new(RealDisk, root.path()).unwrap());
    let node = Node {
        disk: Arc::clone(&recorder) as Arc<dyn Disk>,
        id: NodeId::new(7),
        flags: Flags::LZ4,
        wall_clock_ms: || 0,
        primacy: Primacy::fixed(Role::Primary),
    };
    let system = FileSystem::new(root.path().to_path_buf(), node);
    let connection = system.connect("a");
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode={mode}; PRAGMA synchronous={synchronous};
             CREATE TABLE t (k INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1)"
        ))
        .unwrap();
    let before = recorder.events().len();
    connection.execute_batch("UPDATE t SET v = 2").unwrap();
    let events = recorder.events().split_off(before);
    let count = |call: &str| events.iter().filter(|event| event.ends_with(call)).count();
    (count(":sync_data"), count(":sync_dir"))
}

/// LiteFS needs four with a log, and seven with a journal that is deleted.
#[test]
fn a_commit_syncs_what_must_be_durable_and_nothing_twice() {
    // SQLite's own: the journal twice and its name, the database, the journal's end unless it is deleted; or the log, at FULL.
    // Ours: the LTX file and its name; with a log the log itself at NORMAL, of which an LTX file is made again.
    assert_eq!(syncs("WAL", "FULL"), (1, 0));
    assert_eq!(syncs("WAL", "NORMAL"), (1, 0));
    assert_eq!(syncs("DELETE", "FULL"), (4, 2));
    assert_eq!(syncs("DELETE", "NORMAL"), (3, 2));
    assert_eq!(syncs("TRUNCATE", "FULL"), (5, 1));
    assert_eq!(syncs("PERSIST", "FULL"), (5, 1));
}
