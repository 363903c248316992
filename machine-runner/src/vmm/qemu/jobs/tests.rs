//! QEMU's own block layer, without a machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{JOB, TARGET, backup};
use crate::vmm::qmp::Qmp;

const DISK_BYTES: usize = 8 << 20;

struct Qemu {
    dir: tempfile::TempDir,
    child: Child,
    qmp: Qmp,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    #[allow(clippy::disallowed_methods)] // a test's input is not durable
    /// One disk: whole as node `disk`, and as node `slow` with so little throughput that no copy of it ends during a test.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (socket, disk) = (dir.path().join("q.sock"), dir.path().join("disk"));
        let bytes: Vec<u8> = (1..=251).cycle().take(DISK_BYTES).collect();
        std::fs::write(&disk, bytes).unwrap();
        let child = Command::new("qemu-system-x86_64")
            .args(["-M", "none", "-nodefaults", "-display", "none", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .args(["-object", "throttle-group,id=few,x-bps-total=1024"])
            .arg("-blockdev")
            .arg(format!("file,node-name=disk,filename={}", disk.display()))
            .args([
                "-blockdev",
                "throttle,node-name=slow,throttle-group=few,file=disk",
            ])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let listening = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                if let Ok(qmp) = Qmp::connect(&socket).await {
                    return qmp;
                }
                ticks.tick().await;
            }
        };
        let qmp = tokio::time::timeout(Duration::from_secs(60), listening)
            .await
            .unwrap();
        Self { dir, child, qmp }
    }

    fn target(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(DISK_BYTES as u64).unwrap();
        path
    }

    fn is_whole(&self, copy: &Path) -> bool {
        std::fs::read(copy).unwrap() == std::fs::read(self.dir.path().join("disk")).unwrap()
    }
}

#[tokio::test]
async fn what_an_earlier_copy_left_behind_is_cleared_away() {
    let qemu = Qemu::start().await;
    let node = json!({"driver": "file", "node-name": TARGET, "filename": qemu.target("left")});
    qemu.qmp.execute("blockdev-add", node).await.unwrap();
    let job =
        json!({"job-id": JOB, "device": "slow", "target": TARGET, "sync": "full", "auto-dismiss": false});
    qemu.qmp.execute("blockdev-backup", job).await.unwrap();

    let (first, second) = (qemu.target("first"), qemu.target("second"));
    for copy in [&first, &second] {
        backup(&qemu.qmp, "disk", copy, &CancellationToken::new())
            .await
            .unwrap();
        assert!(qemu.is_whole(copy));
    }
}

#[tokio::test]
async fn a_copy_that_was_given_up_is_none() {
    let qemu = Qemu::start().await;
    let (given_up, broken) = (CancellationToken::new(), qemu.target("broken"));
    given_up.cancel();
    backup(&qemu.qmp, "slow", &broken, &given_up).await.unwrap_err();

    let whole = qemu.target("whole");
    backup(&qemu.qmp, "disk", &whole, &CancellationToken::new())
        .await
        .unwrap();
    assert!(qemu.is_whole(&whole));
}
