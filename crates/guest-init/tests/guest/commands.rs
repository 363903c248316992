//! Commands beside the workload, and what else a host asks of a running machine.

use std::time::Duration;

use guest_init::proto::message::{ErrorKind, Exec, ExecExit, TtySize};
use guest_init::proto::{Reply, Request};
use tokio::time::Instant;

use super::machine::{Done, Machine, sh};
use super::qemu::Spec;
use super::run;

fn exited(done: &Done) -> ExecExit {
    done.exit.unwrap_or_else(|| panic!("{done:?}"))
}

#[test]
fn commands_run_beside_the_workload_with_everything_a_shell_would_give_them() {
    run(async {
        let mut spec = Spec::new("while :; do sleep 1000; done");
        spec.config
            .env
            .insert("SHARED".into(), "from the workload".into());
        let mut machine = Machine::start(spec).await;
        machine.started().await;

        let done = machine
            .exec(sh("echo out; echo err >&2; echo $SHARED; exit 5"), b"")
            .await;
        assert_eq!(
            exited(&done),
            ExecExit {
                code: Some(5),
                signal: None,
                timed_out: false
            }
        );
        assert_eq!(done.stdout, b"out\nfrom the workload\n");
        assert_eq!(
            (&done.stderr[..], done.ends),
            (&b"err\n"[..], 2),
            "both streams end before the exit"
        );

        input_of_many_windows_comes_back_unchanged(&mut machine).await;
        identity_and_place_are_the_commands_own(&mut machine).await;
        a_deadline_kills_all_that_was_started(&mut machine).await;
        failures_are_of_their_kinds(&mut machine).await;
        a_terminal_is_one(&mut machine).await;
        what_is_left_behind_holds_nothing_up(&mut machine).await;
        machine
            .call(Request::Stop {
                signal: 9,
                timeout_ms: 1000,
            })
            .await;
        machine.off().await;
    });
}

async fn input_of_many_windows_comes_back_unchanged(machine: &mut Machine) {
    // Every byte value, and the mark that starts a session, again and again.
    let mut input: Vec<u8> = (0..=255).cycle().take(900_000).collect();
    for at in (0..input.len() - 64).step_by(1000) {
        input[at..at + 16].copy_from_slice(&guest_init::proto::frame::SYNC);
    }
    let cat = Exec {
        command: vec!["cat".into()],
        stdin: true,
        ..Exec::default()
    };
    let done = machine.exec(cat, &input).await;
    assert_eq!(exited(&done).code, Some(0));
    assert!(
        done.stdout == input,
        "{} bytes came back of {}",
        done.stdout.len(),
        input.len()
    );
}

async fn identity_and_place_are_the_commands_own(machine: &mut Machine) {
    let exec = Exec {
        command: ["sh", "-c", "id -un; pwd; echo $EXTRA $HOME"]
            .map(str::to_owned)
            .to_vec(),
        env: vec![("EXTRA".into(), "more".into())],
        user: Some("web".into()),
        cwd: Some("/tmp".into()),
        ..Exec::default()
    };
    let done = machine.exec(exec, b"").await;
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "web\n/tmp\nmore /srv/web\n"
    );
}

async fn a_deadline_kills_all_that_was_started(machine: &mut Machine) {
    let mut exec = sh("sleep 777 & sh -c 'sleep 777' & sleep 777");
    exec.timeout_ms = Some(300);
    let begun = Instant::now();
    let done = machine.exec(exec, b"").await;
    assert_eq!(
        exited(&done),
        ExecExit {
            code: None,
            signal: Some(9),
            timed_out: true
        }
    );
    assert!(
        begun.elapsed() < Duration::from_secs(500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(machine.sh("ps -o args | grep -c '^sleep 777' || true").await, "0");
}

async fn failures_are_of_their_kinds(machine: &mut Machine) {
    let command = |words: &[&str]| Exec {
        command: words.iter().map(|word| (*word).into()).collect(),
        ..Exec::default()
    };
    let user = Exec {
        user: Some("nobody-here".into()),
        ..command(&["true"])
    };
    for (exec, expected) in [
        (command(&["nothing-here"]), ErrorKind::NotFound),
        (command(&["/etc/passwd"]), ErrorKind::NotExecutable),
        (command(&[]), ErrorKind::Invalid),
        (user, ErrorKind::NotFound),
    ] {
        let shown = format!("{exec:?}");
        let done = machine.exec(exec, b"").await;
        assert_eq!(
            done.error.as_ref().map(|(kind, _)| *kind),
            Some(expected),
            "{shown}: {done:?}"
        );
    }
    let killed = machine.exec(sh("kill -11 $$"), b"").await;
    assert_eq!(
        exited(&killed),
        ExecExit {
            code: None,
            signal: Some(11),
            timed_out: false
        }
    );
    let reply = machine.call(Request::Signal { signal: 12345 }).await;
    assert!(
        matches!(
            reply,
            Reply::Error {
                kind: ErrorKind::Invalid,
                ..
            }
        ),
        "{reply:?}"
    );
    let reply = machine
        .call(Request::Grow {
            serial: "vol_x".into(),
            min_bytes: 1,
        })
        .await;
    assert!(
        matches!(
            reply,
            Reply::Error {
                kind: ErrorKind::NotFound,
                ..
            }
        ),
        "{reply:?}"
    );
}

async fn a_terminal_is_one(machine: &mut Machine) {
    let mut exec = sh("tty; stty size; cat");
    exec.tty = Some(TtySize {
        rows: 11,
        columns: 44,
    });
    exec.stdin = true;
    let done = machine.exec(exec, b"typed\n").await;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(exited(&done).code, Some(0), "{text}");
    assert!(
        text.contains("/dev/pts/") && text.contains("11 44") && text.contains("typed"),
        "{text:?}"
    );
}

async fn what_is_left_behind_holds_nothing_up(machine: &mut Machine) {
    let begun = Instant::now();
    let done = machine.exec(sh("sleep 555 & echo left"), b"").await;
    assert_eq!((exited(&done).code, &done.stdout[..]), (Some(0), &b"left\n"[..]));
    assert!(
        begun.elapsed() < Duration::from_secs(500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(machine.sh("ps -o args | grep -c '^sleep 555'").await, "1");
    // Its parent is gone: PID 1 is the one to collect it.
    machine
        .sh("kill $(ps -o pid,args | grep ' sleep 555' | grep -v grep | cut -c1-6)")
        .await;
    assert_eq!(machine.sh("ps -o stat | grep -c Z || true").await, "0");
}
