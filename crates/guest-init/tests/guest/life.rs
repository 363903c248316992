//! A machine's life from its configuration to its power-off.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use guest_init::proto::message::{ErrorKind, Phase};
use guest_init::proto::{Event, Incoming, Reply, Request};
use tokio::time::Instant;

use super::machine::{Machine, sparse};
use super::qemu::{Board, Disk, Spec};
use super::run;

const SIGTERM: i32 = 15;

fn clean(volume: &Path) {
    let fsck = Command::new("/sbin/e2fsck")
        .arg("-fn")
        .arg(volume)
        .output()
        .expect("e2fsck starts");
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
}

#[test]
fn a_blank_volume_is_formatted_once_and_keeps_its_files() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let volume = sparse(dir.path(), "volume", 256);
        let script = "echo kept > /data/file; echo out; echo err >&2; exit 7";
        let mount = r#""path":"/data","format_allowed":true"#;
        let machine = Machine::start(Spec::new(script).volume("vol_1", &volume, mount)).await;
        let (events, log) = machine.off().await;
        assert!(
            matches!(&events[0], Event::Formatted { serial, .. } if serial == "vol_1"),
            "{events:?}"
        );
        assert!(
            matches!(&events[1], Event::Mounted { fs_bytes, .. } if *fs_bytes > 200 << 20),
            "{events:?}"
        );
        assert!(matches!(&events[2], Event::Started { .. }), "{events:?}");
        let exited = Event::Exited {
            code: Some(7),
            signal: None,
            oom_killed: false,
            requested_stop: false,
        };
        assert_eq!(events[3..], [exited, Event::PoweringOff { busy: Vec::new() }]);
        assert!(log.contains("out\n") && log.contains("err\n"), "{log:?}");
        clean(&volume);

        // Deeper than it was, and still allowed to be formatted: it is not.
        let spec = Spec::new("cat /srv/deep/er/file").volume(
            "vol_1",
            &volume,
            r#""path":"/srv/deep/er","format_allowed":true"#,
        );
        let (events, log) = Machine::start(spec).await.off().await;
        assert!(matches!(&events[0], Event::Mounted { .. }), "{events:?}");
        assert_eq!(log, "kept\n");
    });
}

#[test]
fn a_workload_finds_the_world_it_was_promised() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let volume = sparse(dir.path(), "volume", 64);
        let script = "id; hostname; echo $GREETING; echo $HOME; pwd; cat /etc/secret; stat -c %a /etc/secret; \
                      cat /etc/hosts; cat /etc/resolv.conf; touch /data/mine && stat -c %U /data; ulimit -n; \
                      free | grep Swap; grep oom /proc/self/status; cat /proc/self/oom_score_adj; echo to the log > /dev/stderr; date +%s";
        let mut spec = Spec::new(script).volume("vol_1", &volume, r#""path":"/data","format_allowed":true"#);
        spec.config.env.insert("GREETING".into(), "hello world".into());
        spec.config.user = Some("web".into());
        spec.config.cwd = Some("/srv/web/made".into());
        spec.config.swap = Some("swap".into());
        spec.config.files =
            serde_json::from_str(r#"[{"guest_path":"/etc/secret","content":"aHVzaAo=","mode":292}]"#)
                .unwrap();
        spec.config.hosts = serde_json::from_str(r#"[{"address":"10.9.8.7","names":["db"]}]"#).unwrap();
        spec.config.wall_clock_unix_ms = Some(4_000_000_000_000);
        spec.config.entropy = Some("00ff".repeat(16));
        spec.disks.push(Disk {
            serial: "swap",
            path: sparse(dir.path(), "swap", 64),
            read_only: false,
        });
        let (events, log) = Machine::start(spec).await.off().await;
        for line in [
            "uid=1000(web) gid=1001(web) groups=44(logs),1001(web)",
            "h1",
            "hello world",
            "/srv/web",
            "/srv/web/made",
            "hush",
            "444",
            "10.9.8.7\tdb",
            "nameserver fdaa::3",
            "web",
            "10240",
            "to the log",
            "0",
        ] {
            assert!(
                log.lines().any(|found| found == line),
                "{line:?} in {log}\n{events:?}"
            );
        }
        let swap = log
            .lines()
            .find(|line| line.starts_with("Swap"))
            .unwrap_or_default();
        assert_eq!(swap.split_whitespace().nth(1), Some("65532"), "{log}");
        let clock: u64 = log
            .lines()
            .last()
            .and_then(|line| line.parse().ok())
            .expect("the date is last");
        assert!((4_000_000_000..4_000_000_060).contains(&clock), "{clock}");
    });
}

#[test]
fn a_volume_that_is_not_ours_to_format_is_left_alone_and_told() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let strange = sparse(dir.path(), "strange", 64);
        let content = |bytes: &[u8]| {
            let file = std::fs::File::options().write(true).open(&strange).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, bytes, (64 << 20) - 9).unwrap();
        };
        content(b"precious");
        let before = std::fs::read(&strange).unwrap();
        let spec = Spec::new("echo ran").volume("vol_s", &strange, r#""path":"/data","format_allowed":true"#);
        let (events, log) = Machine::start(spec).await.off().await;
        assert!(
            matches!(&events[0], Event::VolumeError { serial, .. } if serial == "vol_s"),
            "{events:?}"
        );
        assert!(
            matches!(&events[1], Event::Failed { code: 125, .. }),
            "{events:?}"
        );
        assert_eq!(log, "", "the workload must not run");
        assert!(
            std::fs::read(&strange).unwrap() == before,
            "the volume was written to"
        );

        content(&[0; 8]);
        let spec =
            Spec::new("echo ran").volume("vol_s", &strange, r#""path":"/data","format_allowed":false"#);
        let (events, log) = Machine::start(spec).await.off().await;
        assert!(
            matches!(&events[0], Event::VolumeError { message, .. } if message.contains("not allow")),
            "{events:?}"
        );
        assert_eq!(log, "");
    });
}

#[test]
fn a_shortage_of_memory_is_told_as_such() {
    run(async {
        let mut spec = Spec::new("echo begun; tail /dev/zero");
        spec.memory_mb = 128;
        let (events, log) = Machine::start(spec).await.off().await;
        let exited = Event::Exited {
            code: None,
            signal: Some(9),
            oom_killed: true,
            requested_stop: false,
        };
        assert!(events.contains(&exited), "{events:?}");
        assert_eq!(log, "begun\n");
    });
}

#[test]
fn a_stop_asks_first_and_kills_when_the_time_is_up() {
    run(async {
        let script = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 1000 & wait; done";
        let mut machine = Machine::start(Spec::new(script)).await;
        machine.started().await;
        machine.said("ready").await;
        let begun = Instant::now();
        let again = machine
            .call(Request::Config(Box::new(Spec::new("true").config)))
            .await;
        assert!(
            matches!(
                again,
                Reply::Error {
                    kind: ErrorKind::WrongPhase,
                    ..
                }
            ),
            "{again:?}"
        );
        assert_eq!(
            machine
                .call(Request::Stop {
                    signal: SIGTERM,
                    timeout_ms: 60_000
                })
                .await,
            Reply::Done
        );
        machine.event(|event| matches!(event, Event::Exited { .. })).await;
        let elapsed = begun.elapsed();
        let (events, log) = machine.off().await;
        let exited = Event::Exited {
            code: Some(3),
            signal: None,
            oom_killed: false,
            requested_stop: true,
        };
        assert!(events.contains(&exited), "{events:?}");
        assert!(log.ends_with("asked\n"), "{log:?}");
        assert!(
            elapsed < Duration::from_secs(5),
            "a willing workload took {elapsed:?} to stop"
        );

        let mut machine = Machine::start(Spec::new(
            "trap '' TERM; echo ready; while :; do sleep 1000; done",
        ))
        .await;
        machine.said("ready").await;
        assert_eq!(
            machine.call(Request::Signal { signal: SIGTERM }).await,
            Reply::Done
        );
        machine
            .call(Request::Stop {
                signal: SIGTERM,
                timeout_ms: 300,
            })
            .await;
        let (events, _) = machine.off().await;
        let exited = Event::Exited {
            code: None,
            signal: Some(9),
            oom_killed: false,
            requested_stop: true,
        };
        assert!(events.contains(&exited), "{events:?}");
    });
}

#[test]
fn a_program_that_is_not_there_is_named_with_the_code_of_a_shell_on_a_pc_too() {
    run(async {
        let mut spec = Spec::new("");
        spec.config.argv = vec!["no-such-program".into()];
        spec.board = Board::Q35;
        let mut machine = Machine::start(spec).await;
        let failed = machine.event(|event| matches!(event, Event::Failed { .. })).await;
        assert!(
            matches!(&failed, Event::Failed { code: 127, message } if message.contains("no-such-program")),
            "{failed:?}"
        );
        machine.off().await;
    });
}

#[test]
fn a_host_that_comes_back_hears_what_it_missed_and_kills_what_it_left() {
    run(async {
        let mut machine =
            Machine::start(Spec::new("while ! [ -e /tmp/go ]; do sleep 0.1; done; echo bye")).await;
        machine.started().await;
        let sleep = super::machine::sh("echo started; sleep 1000");
        machine.agent.session.request(&Request::Exec(sleep)).unwrap();
        while !matches!(machine.next().await, Some(Incoming::Data { .. })) {}
        let phase = machine.reconnect("agent session 2").await;
        assert_eq!(phase, Phase::Running);
        machine
            .sh("while ps -o args | grep -q '^sleep 1000'; do :; done")
            .await;
        machine.forget_events();
        machine.reconnect("agent session 3").await;
        machine.sh("touch /tmp/go").await;
        let (events, log) = machine.off().await;
        assert!(
            matches!(
                &events[..],
                [Event::Exited { code: Some(0), .. }, Event::PoweringOff { .. }]
            ),
            "{events:?}"
        );
        assert_eq!(log, "bye\n");
    });
}

#[test]
fn a_workload_that_nobody_listens_to_goes_on_and_its_last_words_are_kept() {
    run(async {
        let script = "while ! [ -e /tmp/go ]; do sleep 0.1; done; tty; yes | head -c 800000; echo; echo last; \
                      touch /tmp/done; while :; do sleep 1000; done";
        let mut spec = Spec::new(script);
        spec.config.tty = true;
        let mut machine = Machine::start(spec).await;
        machine.started().await;
        machine.stop_listening().await;
        machine
            .sh("touch /tmp/go; while ! [ -e /tmp/done ]; do sleep 0.1; done")
            .await;
        machine.listen_again().await;
        machine.said("last").await;
        let lost = machine
            .event(|event| matches!(event, Event::LogLost { .. }))
            .await;
        let kept = machine.log().len() as u64;
        // A terminal writes every line's end as two bytes.
        assert!(
            matches!(lost, Event::LogLost { bytes } if bytes + kept > 1_200_000),
            "{lost:?}, {kept} kept"
        );
        assert!(kept <= 256 * 1024, "{kept} kept");
        machine
            .call(Request::Stop {
                signal: 9,
                timeout_ms: 100,
            })
            .await;
        machine.off().await;
    });
}
