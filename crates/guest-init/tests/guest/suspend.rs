//! Machines that are suspended to a file and go on later.

use guest_init::proto::{Event, Reply, Request};

use super::machine::{Machine, sparse};
use super::qemu::Spec;
use super::run;

const MIB: u64 = 1 << 20;

#[test]
fn a_resumed_machine_goes_on_with_the_right_time_and_a_volume_that_grew_meanwhile() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let volume = sparse(dir.path(), "volume", 128);
        let script = "n=0; while :; do n=$((n + 1)); echo $n; echo $n > /data/n || exit 9; sleep 0.05; done";
        let spec = Spec::new(script).volume("vol_1", &volume, r#""path":"/data","format_allowed":true"#);
        let mut machine = Machine::start(spec).await;
        machine.said("5").await;
        // Under way while the machine is saved: void afterwards, and gone.
        machine
            .agent
            .session
            .request(&Request::Exec(super::machine::sh("sleep 1000")))
            .unwrap();
        machine.suspend().await;
        let reached: u64 = machine
            .log()
            .lines()
            .last()
            .and_then(|line| line.parse().ok())
            .unwrap();
        std::fs::File::options()
            .write(true)
            .open(&volume)
            .unwrap()
            .set_len(384 * MIB)
            .unwrap();

        machine.resume(3_000_000_000_000).await;
        machine.said(&(reached + 5).to_string()).await;
        let clock: u64 = machine.sh("date +%s").await.parse().unwrap();
        assert!((3_000_000_000..3_000_000_060).contains(&clock), "{clock}");
        assert_eq!(
            machine.sh("ps -o args | grep -c '^sleep 1000' || true").await,
            "0"
        );
        machine
            .qmp(
                "block_resize",
                &format!(r#"{{"node-name":"vol_1","size":{}}}"#, 384 * MIB),
            )
            .await;
        let grown = machine
            .call(Request::Grow {
                serial: "vol_1".into(),
                min_bytes: 384 * MIB,
            })
            .await;
        assert!(
            matches!(grown, Reply::Grown { fs_bytes, .. } if fs_bytes > 350 * MIB),
            "{grown:?}"
        );
        machine
            .call(Request::Stop {
                signal: 9,
                timeout_ms: 100,
            })
            .await;
        let (events, _) = machine.off().await;
        let started = events
            .iter()
            .filter(|event| matches!(event, Event::Started { .. }))
            .count();
        assert_eq!(started, 1, "{events:?}");
        assert!(
            matches!(events.last(), Some(Event::PoweringOff { busy }) if busy.is_empty()),
            "{events:?}"
        );
    });
}
