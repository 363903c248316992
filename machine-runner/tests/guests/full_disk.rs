//! A guest on a host whose disk is full.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::node::{Machine, Node};

const MIB: u64 = 1 << 20;
/// Writes a file every fifth of a second.
const WRITER: &str =
    "n=0; while true; do n=$((n+1)); yes | head -c 1m > /data/$n; sync; echo $n > /n; sleep 0.2; done";

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path) -> Self {
        std::fs::create_dir(dir).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=192m", "none"])
            .arg(dir)
            .status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        Self(dir.to_owned())
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Busy while the guest of a test that failed runs on.
        let _gone = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Until the machine has `count` events of a kind.
async fn told(machine: &Machine<'_>, kind: &str, count: usize) {
    let telling = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let events = machine.get("/events?limit=50").await;
            let events = events.as_array().unwrap();
            if events.iter().filter(|event| event["type"] == kind).count() >= count {
                return;
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(90), telling).await;
    assert!(
        told.is_ok(),
        "never {kind}: {:#}",
        machine.get("/events?limit=50").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_on_a_full_disk_stands_still_says_so_goes_on_with_room_and_can_be_stopped() {
    let node = Node::start().await;
    let small = Small::mount(&node.dir.path().join("small"));
    node.volumed.create_in(&small.0, "vol_full", 2048 * MIB);
    let config = json!({
        "init": {"exec": ["/bin/sh", "-c", WRITER]},
        "mounts": [{"volume": "vol_full", "path": "/data"}],
        "restart": {"policy": "no"},
    });
    let machine = node.run("web", config).await;
    small.fill();
    told(&machine, "disk_full", 1).await;
    let logs = node
        .call(http::Method::GET, &format!("{}/logs", machine.path), None)
        .await;
    let logs = String::from_utf8_lossy(&logs.body).into_owned();
    assert_eq!(logs.matches("this host's disk is full").count(), 1, "{logs}");

    small.make_room();
    told(&machine, "disk_full_over", 1).await;
    let (before, after) = (machine.sh("cat /n").await, machine.sh("sleep 1; cat /n").await);
    assert_ne!(before, after, "the guest goes on");
    machine.sh("dmesg > /dmesg; ! grep -i 'i/o error' /dmesg").await;

    small.fill();
    told(&machine, "disk_full", 2).await;
    machine.post("/stop", json!({"timeout": "1s"})).await;
    machine.wait("stopped").await;
    let exit = machine.last_exit().await;
    assert_eq!(exit["requested_stop"], true, "{exit}");
    machine.destroy().await;
}
