//! Collecting ended processes: PID 1 inherits every orphan of the guest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended; exactly one of the two is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// The signal that killed it.
    pub(crate) signal: Option<i32>,
}

/// Collects ended processes and tells those who wait for one.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: RefCell<BTreeMap<i32, oneshot::Sender<Ended>>>,
}

impl Reaper {
    /// Returns what will hold the end of `pid`. To be called right after it was started: the reaper runs on
    /// the same thread, so it cannot have collected it yet.
    pub(crate) fn expect(&self, pid: i32) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Starts listening for ended children; [`run`](Self::run) takes the result.
    pub(crate) fn listen() -> io::Result<Signal> {
        signal(SignalKind::child())
    }

    /// Collects for ever.
    pub(crate) async fn run(&self, mut children: Signal) {
        loop {
            self.collect();
            children.recv().await;
        }
    }

    fn collect(&self) {
        // One signal may stand for several children; an error means that there are none.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some(waiter) = self.waiting.borrow_mut().remove(&pid) {
                // A waiter that went away does not care.
                let _ = waiter.send(Ended {
                    code: status.exit_status(),
                    signal: status.terminating_signal(),
                });
            }
        }
    }
}
