//! A volume behind an NBD server that is killed and started again, here QEMU's own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::node::{Machine, Node};

const MIB: u64 = 1 << 20;
const GROW: &str = "/v1/volumes/vol_nbd/grow";
/// Numbers, one a line; each is synced before the next.
const WRITER: &str = "n=0; while true; do n=$((n+1)); echo $n >> /data/numbers; sync; done";

struct Server {
    file: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl Server {
    fn start(node: &Node, bytes: u64) -> Self {
        let (file, socket) = (node.dir.path().join("disk"), node.dir.path().join("n.sock"));
        File::create_new(&file).unwrap().set_len(bytes).unwrap();
        let child = Self::spawn(&file, &socket);
        Self { file, socket, child }
    }

    fn spawn(file: &PathBuf, socket: &PathBuf) -> Child {
        Command::new("qemu-nbd")
            .args(["--persistent", "--shared=0", "--format=raw", "--discard=unmap"])
            .args(["--export-name=vol_nbd", "--socket"])
            .arg(socket)
            .arg(file)
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-nbd is in Debian's qemu-utils")
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::fs::remove_file(&self.socket).unwrap();
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(&self.file, &self.socket);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn numbers(machine: &Machine<'_>) -> u64 {
    let told = machine.sh("cat /data/numbers 2>/dev/null | wc -l").await;
    told.trim().parse().unwrap()
}

async fn goes_on(machine: &Machine<'_>) {
    let before = numbers(machine).await;
    let more = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while numbers(machine).await <= before {
            ticks.tick().await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, more)
        .await
        .expect("the writer goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_behind_a_server_that_dies_waits_for_it_and_grows_live() {
    let node = Node::start().await;
    let mut server = Server::start(&node, 256 * MIB);
    node.volumed.create_at(&server.socket, "vol_nbd", 256 * MIB);
    let config = json!({
        "init": {"exec": ["/bin/sh", "-c", WRITER]},
        "mounts": [{"volume": "vol_nbd", "path": "/data"}],
    });
    let machine = node.run("web", config).await;
    goes_on(&machine).await;
    for _ in 0..3 {
        server.kill();
        server.start_again();
        goes_on(&machine).await;
    }

    let grow = json!({"machine_id": machine.id, "generation": 1, "size_bytes": 512 * MIB});
    let early = node.call(Method::POST, GROW, Some(grow.clone())).await;
    assert!(!early.status.is_success(), "grown beyond its export: {early:?}");
    goes_on(&machine).await;
    server.kill();
    File::options()
        .write(true)
        .open(&server.file)
        .unwrap()
        .set_len(512 * MIB)
        .unwrap();
    server.start_again();
    for _ in 0..2 {
        let grown = node.ok(Method::POST, GROW, Some(grow.clone())).await;
        assert!(grown["fs_bytes"].as_u64().unwrap() > 450 * MIB, "{grown}");
    }
    server.kill();
    server.start_again();
    goes_on(&machine).await;

    // No number is missing, and the kernel saw no error.
    let wrong = machine
        .sh("n=0; while read m; do n=$((n+1)); [ $m = $n ] || echo $m; done < /data/numbers; dmesg | grep -i 'I/O error' || true")
        .await;
    assert_eq!(wrong.trim(), "");
    machine.destroy().await;
}
