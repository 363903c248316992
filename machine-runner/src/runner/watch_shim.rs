//! Follows a shim's status and tells the machine's actor.

use std::time::Duration;

use tokio::sync::mpsc;

use super::actor::Command;
use crate::shim::client::ShimClient;
use crate::shim::facts::{ProcessRef, RunPhase, Status};

const RETRY: Duration = Duration::from_millis(50);
/// Time in which a new shim must have written its first status.
const FIRST_STATUS: Duration = Duration::from_secs(20);

/// Runs until the run is over, or its shim is gone. `spawned` is false for a run that is adopted.
pub(super) async fn watch(
    shim: ShimClient,
    boot_id: String,
    commands: mpsc::WeakSender<Command>,
    spawned: bool,
) {
    let begun = tokio::time::Instant::now();
    let mut seen = None;
    loop {
        let status = shim.status(seen).await.ok().or_else(|| shim.last_status());
        let status = status.filter(|status| status.boot_id == boot_id);
        let Some(status) = status else {
            // Not there yet, or never will be.
            if spawned && begun.elapsed() < FIRST_STATUS {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            tell(&commands, Command::Lost { boot_id, qemu: None }).await;
            return;
        };
        let fresh = seen.is_none_or(|seen| status.seq > seen);
        seen = Some(status.seq);
        let over = matches!(status.phase, RunPhase::Ended | RunPhase::Suspended);
        let (shim_process, qemu) = (status.shim, status.qemu);
        if fresh && !tell(&commands, Command::Report(Box::new(status))).await {
            return;
        }
        if over {
            return;
        }
        if !fresh {
            if !shim_process.is_alive() && is_unchanged(&shim, seen) {
                tell(&commands, Command::Lost { boot_id, qemu }).await;
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// A shim may write its last status and end between our two looks.
fn is_unchanged(shim: &ShimClient, seen: Option<u64>) -> bool {
    shim.last_status()
        .is_none_or(|status: Status| Some(status.seq) == seen)
}

async fn tell(commands: &mpsc::WeakSender<Command>, command: Command) -> bool {
    match commands.upgrade() {
        Some(commands) => commands.send(command).await.is_ok(),
        None => false,
    }
}

/// Ends a QEMU whose shim is gone: nobody could talk to it any more.
pub(super) fn end_orphan(qemu: Option<ProcessRef>) {
    if let Some(qemu) = qemu.filter(|qemu| qemu.is_alive()) {
        crate::network::terminate(qemu, rustix::process::Signal::KILL);
    }
}
