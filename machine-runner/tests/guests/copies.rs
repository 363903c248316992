//! Copies of a volume whose callers die.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::unix_http::Client;
use http::Method;
use serde_json::{Value, json};

use crate::node::Node;

const MIB: u64 = 1 << 20;
const VOLUME: &str = "/v1/volumes/vol_copy/copy";

fn target(node: &Node, name: &str) -> PathBuf {
    let path = node.dir.path().join(name);
    let file = std::fs::File::create_new(&path).unwrap();
    file.set_len(512 * MIB).unwrap();
    path
}

fn copy_call(machine_id: &str, name: &str, target: &Path) -> Value {
    json!({"machine_id": machine_id, "generation": 1, "copy_id": name, "target_path": target})
}

/// Until the first bytes of a copy are in its file.
async fn begun(target: &Path) {
    let limit = Duration::from_secs(60);
    let written = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        while std::fs::metadata(target).unwrap().blocks() == 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(limit, written).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_caller_died_does_not_stand_in_the_way_of_the_next() {
    let mut node = Node::start().await;
    node.volumed.create("vol_copy", 512 * MIB);
    let config = json!({"init": {"exec": ["/bin/sleep", "9999"]}, "mounts": [{"volume": "vol_copy", "path": "/data"}]});
    let id = {
        let machine = node.run("web", config).await;
        let large = "yes | head -c 1m > /tmp/m; for i in $(seq 128); do cat /tmp/m; done > /data/large; sync";
        machine.sh(large).await;
        machine.id.clone()
    };
    let client = Client::new(node.dir.path().join("api.sock")).with_timeout(Duration::from_secs(60));

    // The caller of machine-runner dies, then machine-runner itself.
    let first = target(&node, "first");
    let call = copy_call(&id, "first", &first);
    tokio::select! {
        ended = client.post::<Value>(VOLUME, &call) => panic!("the copy ended too soon for this test: {ended:?}"),
        () = begun(&first) => {}
    }
    let second = target(&node, "second");
    let call = copy_call(&id, "second", &second);
    tokio::select! {
        ended = client.post::<Value>(VOLUME, &call) => panic!("the second copy did not go on: {ended:?}"),
        () = begun(&second) => node.kill().await,
    }
    node.serve().await;

    let machine = crate::node::Machine {
        node: &node,
        path: format!("/v1/apps/web/machines/{id}"),
        id: id.clone(),
    };
    machine.sh("echo newer > /data/newer; sync").await;
    let third = target(&node, "third");
    let call = copy_call(&id, "third", &third);
    node.ok(Method::POST, VOLUME, Some(call.clone())).await;
    let read = std::process::Command::new("/sbin/debugfs")
        .args(["-R", "cat /newer"])
        .arg(&third)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "newer\n", "{read:?}");

    // Repeated, it is the same copy: nothing is written again.
    std::fs::File::options()
        .write(true)
        .open(&third)
        .unwrap()
        .set_len(0)
        .unwrap();
    node.ok(Method::POST, VOLUME, Some(call)).await;
    assert_eq!(std::fs::metadata(&third).unwrap().len(), 0);
}
