//! A volume on a block device, as slices of LVM are: here a loop device.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use serde_json::json;

use crate::node::Node;

const MIB: u64 = 1 << 20;
const GROW: &str = "/v1/volumes/vol_block/grow";

/// A loop device over a file.
struct Loop {
    file: PathBuf,
    device: PathBuf,
}

impl Loop {
    fn over(file: PathBuf, bytes: u64) -> Self {
        File::create_new(&file).unwrap().set_len(bytes).unwrap();
        let found = losetup(&["--find", "--show", "--direct-io=on"], &file);
        Self {
            file,
            device: found.trim().into(),
        }
    }

    fn grow(&self, bytes: u64) {
        File::options()
            .write(true)
            .open(&self.file)
            .unwrap()
            .set_len(bytes)
            .unwrap();
        losetup(&["--set-capacity"], &self.device);
    }

    /// Bytes that the file really has.
    fn stored_bytes(&self) -> u64 {
        std::fs::metadata(&self.file).unwrap().blocks() * 512
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Let go of when the guest of a test that failed ends.
        let _gone = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

fn losetup(arguments: &[&str], path: &Path) -> String {
    let output = Command::new("losetup")
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "loop devices need root: {words}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_on_a_block_device_grows_discards_and_never_shrinks() {
    let node = Node::start().await;
    let slice = Loop::over(node.dir.path().join("slice"), 256 * MIB);
    node.volumed.create_on(&slice.device, "vol_block", 256 * MIB);
    let config = json!({
        "init": {"exec": ["/bin/sh", "-c", "while true; do date >> /data/log; sync; sleep 0.1; done"]},
        "mounts": [{"volume": "vol_block", "path": "/data"}],
    });
    let machine = node.run("web", config).await;

    let disk = machine.sh("cd /sys/block; grep -l vol_block */serial").await;
    let disk = disk.trim().trim_end_matches("/serial").to_owned();
    let queue = |name: &str| format!("cat /sys/block/{disk}/queue/{name}");
    assert_eq!(machine.sh(&queue("write_cache")).await.trim(), "write back");
    for name in ["discard_max_bytes", "write_zeroes_max_bytes"] {
        let most: u64 = machine.sh(&queue(name)).await.trim().parse().unwrap();
        assert!(most >= MIB, "{name} is {most}");
    }

    // What is deleted in the guest is given back by the host's device.
    let large = "yes | head -c 1m > /tmp/m; for i in $(seq 64); do cat /tmp/m; done > /data/large; sync";
    machine.sh(large).await;
    let before = slice.stored_bytes();
    assert!(before > 64 * MIB, "{before} bytes are stored");
    machine.sh("rm /data/large; sync; fstrim /data").await;
    let after = slice.stored_bytes();
    assert!(after < before - 60 * MIB, "{after} of {before} bytes are left");

    // The device first, then the guest: more than the device has is refused.
    let grow = |mib: u64| json!({"machine_id": machine.id, "generation": 1, "size_bytes": mib * MIB});
    let early = node.call(Method::POST, GROW, Some(grow(512))).await;
    assert!(!early.status.is_success(), "grown beyond its device: {early:?}");
    slice.grow(512 * MIB);
    node.volumed.extend("vol_block", 512 * MIB);
    let grown = node.ok(Method::POST, GROW, Some(grow(512))).await;
    assert!(grown["fs_bytes"].as_u64().unwrap() > 450 * MIB, "{grown}");
    let smaller = node.call(Method::POST, GROW, Some(grow(256))).await;
    assert_eq!(smaller.status, 422, "{smaller:?}");
    let size = machine.sh(&format!("cat /sys/block/{disk}/size")).await;
    assert_eq!(size.trim(), (512 * MIB / 512).to_string());

    let written = machine.sh("wc -l < /data/log").await;
    assert!(written.trim().parse::<u64>().unwrap() > 3, "{written}");
    machine.destroy().await;
}
