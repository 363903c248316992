//! A guest that stands still because the host has no room.
//!
//! QEMU stops a guest whose write finds no room, keeps the write, and repeats it when the guest is to go on: the guest
//! notices nothing but the pause. Nobody tells when there is room again; so it is tried every few seconds.

use std::sync::Arc;
use std::time::Duration;

use super::run::{Shim, chain};
use crate::vmm::qmp::QmpEvent;
use crate::vmm::spec::VolumeDisk;
use crate::vmm::{VmStatus, Vmm as _};

/// Time between two tries to go on.
const RETRY: Duration = Duration::from_secs(3);

/// What a guest could not write to when this event stopped it for want of room. Pure.
pub(super) fn no_room(event: &QmpEvent, volumes: &[VolumeDisk]) -> Option<String> {
    let stopped =
        event.event == "BLOCK_IO_ERROR" && event.data["nospace"] == true && event.data["action"] == "stop";
    let node = event.data["node-name"].as_str().unwrap_or_default();
    let index = node
        .strip_prefix('v')
        .and_then(|index| index.parse::<usize>().ok());
    let volume = index.and_then(|index| volumes.get(index));
    stopped.then(|| match volume {
        Some(volume) => format!("volume {}", volume.serial),
        None => format!("its {node} disk"),
    })
}

impl Shim {
    /// Takes note that the guest stands still for want of room, and sees to it that it goes on.
    pub(super) fn stalled(self: &Arc<Self>, what: &str) {
        let mut fresh = false;
        self.publish(|status| {
            fresh = status.stalled.is_none();
            status.stalled.get_or_insert_with(|| {
                format!("this host's disk is full: the guest stands still, at a write to {what}, and goes on when there is room")
            });
        });
        if fresh {
            tracing::error!(what, "the guest stands still: no room on this host");
            self.task("outlast_stall", Arc::clone(self).outlast_stall());
        }
    }

    async fn outlast_stall(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RETRY).await;
            if self.stands_still().await {
                self.try_to_go_on().await;
                continue;
            }
            self.publish(|status| status.stalled = None);
            // It may have been stopped again before that was written, when nobody took note of it.
            if self.stands_still().await {
                self.stalled("a disk");
            }
            return;
        }
    }

    /// Whether the guest's processors are stopped.
    pub(super) async fn stands_still(&self) -> bool {
        match self.qemu.get() {
            Some(qemu) => matches!(qemu.status().await, Ok(VmStatus::Paused)),
            None => false,
        }
    }

    /// Lets a guest that stands still repeat its write, unless it is being suspended.
    pub(super) async fn try_to_go_on(&self) {
        let Some(qemu) = self.qemu.get() else { return };
        let Some(_no_suspension) = self.suspend.enter() else {
            return;
        };
        if !self.is_saved()
            && let Err(error) = qemu.cont().await
        {
            tracing::warn!(error = chain(&error), "the guest was not let go on");
        }
        self.suspend.leave();
    }
}

#[cfg(test)]
mod tests;
