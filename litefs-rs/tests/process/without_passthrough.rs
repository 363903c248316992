//! A mount where the kernel takes no file of ours for its own: the same, with copies in the kernel's cache.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use crashsafe::RealDisk;
use litefs_rs::{
    db::{Node, Primacy, Role},
    fuse::{Mounted, Options, mount},
    name::DatabaseName,
    replication::{
        applier::{Drain, apply},
        sender::take_snapshot,
        status::Status,
    },
    store::Store,
};
use ltx::{Flags, NodeId};

struct Here {
    store: Arc<Store>,
    mounted: Option<Mounted>,
    path: std::path::PathBuf,
}

impl Here {
    fn new(root: &Path, role: Role) -> Self {
        let node = Node {
            disk: Arc::new(RealDisk),
            id: NodeId::new(5),
            flags: Flags::LZ4,
            wall_clock_ms: || 1_700_000_000_000,
            primacy: Primacy::fixed(role),
        };
        let store = Store::open(root.join("data"), node).unwrap();
        let options = Options {
            directory: root.join("mnt"),
            allow_other: false,
            passthrough: false,
            unmount_first: false,
        };
        let status = Arc::new(Status::new(store.node().primacy.clone(), || 1_700_000_000_000));
        let mounted = mount(Arc::clone(&store), status, None, &options).unwrap();
        Self {
            store,
            mounted: Some(mounted),
            path: options.directory,
        }
    }

    /// Only other processes use the mount: this one serves it.
    fn shell(&self, sql: &str) -> String {
        let output = std::process::Command::new("sqlite3")
            .args(["-bail", "-cmd", ".timeout 30000"])
            .arg(self.path.join("a"))
            .arg(sql)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{sql}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount();
        }
        self.store.settle();
    }
}

#[test]
fn without_passthrough_processes_share_the_index_of_a_log_through_the_kernel() {
    let root = tempfile::tempdir().unwrap();
    let here = Here::new(root.path(), Role::Primary);
    here.shell("PRAGMA journal_mode=WAL; CREATE TABLE t (v)");
    let inserts = "INSERT INTO t VALUES (randomblob(500));".repeat(50);
    let mut writers: Vec<_> = (0..3)
        .map(|_| {
            std::process::Command::new("sqlite3")
                .args(["-bail", "-cmd", ".timeout 60000"])
                .arg(here.path.join("a"))
                .arg(&inserts)
                .spawn()
                .unwrap()
        })
        .collect();
    assert!(writers.iter_mut().all(|writer| writer.wait().unwrap().success()));
    assert_eq!(
        here.shell("PRAGMA integrity_check; SELECT count(*) FROM t"),
        "ok\n150"
    );
}

#[test]
fn without_passthrough_readers_of_a_replica_s_log_see_what_is_applied() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let primary = Here::new(first.path(), Role::Primary);
    let replica = Here::new(second.path(), Role::Replica);
    let name: DatabaseName = "a".parse().unwrap();
    let bring = || {
        let slot = primary.store.get(&name).unwrap();
        let snapshot = take_snapshot(&slot, &|| false).unwrap().unwrap();
        let path = replica.store.incoming();
        let file = std::fs::File::create_new(&path).unwrap();
        snapshot.write_ltx(&file, NodeId::new(9), 0, Flags::NONE).unwrap();
        let incoming = litefs_rs::db::Incoming::read(&RealDisk, path).unwrap();
        let slot = replica.store.get_or_create(&name).unwrap();
        apply(
            &replica.store,
            &slot,
            &AtomicBool::new(false),
            incoming,
            &mut Drain::default(),
        )
        .unwrap();
    };
    primary.shell("PRAGMA journal_mode=WAL; CREATE TABLE t (v)");
    bring();
    // One that has the log open all the time, and is asked again and again.
    let mut reader = std::process::Command::new("sqlite3")
        .arg(replica.path.join("a"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ask = reader.stdin.take().unwrap();
    let mut answers = std::io::BufReader::new(reader.stdout.take().unwrap());
    for rows in 0..10 {
        use std::io::{BufRead as _, Write as _};
        let mut answer = String::new();
        writeln!(ask, "SELECT count(*) FROM t;").unwrap();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), rows.to_string());
        primary.shell("INSERT INTO t VALUES (randomblob(9000))");
        bring();
    }
    drop(ask);
    assert!(reader.wait().unwrap().success());
}
