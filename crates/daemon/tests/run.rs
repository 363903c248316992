//! A daemon's life from outside: one test, because signals reach the whole process.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn check(code: ExitCode, expected: ExitCode) {
    assert_eq!(format!("{code:?}"), format!("{expected:?}"));
}

fn raise() {
    let pid = rustix::process::getpid();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a process may signal itself");
}

#[test]
fn a_daemon_stops_by_signal_awaits_its_tasks_and_maps_its_end_to_an_exit_code() {
    let flushed = Arc::new(AtomicBool::new(false));
    let in_task = Arc::clone(&flushed);
    let code = daemon::run("orderly", async |context: daemon::Context| {
        let shutdown = context.shutdown.clone();
        drop(daemon::spawn("flusher", async move {
            shutdown.cancelled().await;
            tokio::task::yield_now().await;
            in_task.store(true, Ordering::SeqCst);
        }));
        raise();
        context.shutdown.cancelled().await;
        Ok::<(), std::io::Error>(())
    });
    check(code, ExitCode::SUCCESS);
    assert!(
        flushed.load(Ordering::SeqCst),
        "run returned before its task had ended"
    );

    check(
        daemon::run("failing", async |_| Err(std::io::Error::other("no pool"))),
        ExitCode::FAILURE,
    );

    let code = daemon::run("stubborn", async |context: daemon::Context| {
        raise();
        context.shutdown.cancelled().await;
        raise();
        std::future::pending::<Result<(), std::io::Error>>().await
    });
    check(code, ExitCode::from(3));
}
