//! Volumes that grow under a writer.

use guest_init::proto::message::VolumeUsage;
use guest_init::proto::{Reply, Request};

use super::machine::{Machine, sparse};
use super::qemu::Spec;
use super::run;

const MIB: u64 = 1 << 20;

async fn usage(machine: &mut Machine, serial: &str) -> VolumeUsage {
    let Reply::Usage(usages) = machine.call(Request::Usage).await else {
        panic!("no usage")
    };
    usages
        .into_iter()
        .find(|usage| usage.serial == serial)
        .expect("the volume is mounted")
}

async fn grow(machine: &mut Machine, serial: &str, bytes: u64) -> u64 {
    machine
        .qmp(
            "block_resize",
            &format!(r#"{{"node-name":"{serial}","size":{bytes}}}"#),
        )
        .await;
    let reply = machine
        .call(Request::Grow {
            serial: serial.into(),
            min_bytes: bytes,
        })
        .await;
    let Reply::Grown {
        fs_bytes,
        device_bytes,
    } = reply
    else {
        panic!("{serial}: {reply:?}")
    };
    assert_eq!(device_bytes, bytes);
    fs_bytes
}

#[test]
fn ext4_and_xfs_grow_online_under_a_writer() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (ext4, xfs) = (sparse(dir.path(), "ext4", 256), sparse(dir.path(), "xfs", 320));
        let script = "trap 'exit 0' TERM; n=0; while :; do n=$((n + 1)); for d in /e /x; do \
            dd if=/dev/urandom of=$d/f$((n % 8)) bs=64k count=4 conv=fsync 2>/dev/null || exit 9; done; echo $n; done";
        let spec = Spec::new(script)
            .volume("vol_e", &ext4, r#""path":"/e","format_allowed":true"#)
            .volume(
                "vol_x",
                &xfs,
                r#""path":"/x","fstype":"xfs","format_allowed":true"#,
            );
        let mut machine = Machine::start(spec).await;
        machine.started().await;
        for (serial, from) in [("vol_e", 256), ("vol_x", 320)] {
            let before = usage(&mut machine, serial).await;
            assert_eq!(before.device_bytes, from * MIB);
            for to in [512, 1024] {
                let fs_bytes = grow(&mut machine, serial, to * MIB).await;
                let after = usage(&mut machine, serial).await;
                assert_eq!(after.blocks * after.block_size, fs_bytes);
                assert!(
                    fs_bytes > to * MIB * 8 / 10 && fs_bytes <= to * MIB,
                    "{serial}: {fs_bytes} of {to} MiB"
                );
            }
            // Asked for again, as after a crash between the steps: nothing to do.
            let again = machine
                .call(Request::Grow {
                    serial: serial.into(),
                    min_bytes: 1024 * MIB,
                })
                .await;
            assert!(matches!(again, Reply::Grown { .. }), "{again:?}");
        }
        let lines = machine.log().lines().count();
        machine.said(&(lines + 3).to_string()).await;
        assert_eq!(
            machine
                .sh("df -k /e /x | grep -c '1[0-9][0-9][0-9][0-9][0-9][0-9]\\|9[0-9][0-9][0-9][0-9][0-9]'")
                .await,
            "2"
        );
        machine
            .call(Request::Stop {
                signal: 15,
                timeout_ms: 30_000,
            })
            .await;
        let (events, _) = machine.off().await;
        let clean = events
            .iter()
            .any(|event| matches!(event, guest_init::proto::Event::Exited { code: Some(0), .. }));
        assert!(clean, "the writer saw an error: {events:?}");
        let fsck = std::process::Command::new("/sbin/e2fsck")
            .arg("-fn")
            .arg(&ext4)
            .output()
            .unwrap();
        assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
        let repair = std::process::Command::new("/sbin/xfs_repair")
            .args(["-n", "-f"])
            .arg(&xfs)
            .output()
            .unwrap();
        assert!(
            repair.status.success(),
            "{}",
            String::from_utf8_lossy(&repair.stderr)
        );

        // Grown while it was off: the mount makes up for it.
        std::fs::File::options()
            .write(true)
            .open(&ext4)
            .unwrap()
            .set_len(1536 * MIB)
            .unwrap();
        let spec = Spec::new("df -k /e").volume("vol_e", &ext4, r#""path":"/e""#);
        let (events, log) = Machine::start(spec).await.off().await;
        let grown = events.iter().any(|event| {
            matches!(event, guest_init::proto::Event::Mounted { fs_bytes, .. } if *fs_bytes > 1400 * MIB)
        });
        assert!(grown, "{events:?} {log}");
    });
}
