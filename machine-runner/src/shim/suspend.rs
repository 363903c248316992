//! Suspend and resume. The order of things is the point of this file.
//!
//! Suspend: the guest syncs · processors stop · memory goes to a file that is synced before its name is final ·
//! QEMU goes · the overlay, which QEMU leaves in the host's cache, is synced · status `suspended`.
//! Until QEMU goes the suspension can be broken off and the guest goes on.
//!
//! Resume: memory is read into a stopped machine and its checksum compared · the image is consumed (its name
//! removed, the directory synced), because a second resume of the same image would write old memory's idea of a
//! file system over newer blocks · processors run · the guest gets the time and fresh randomness · every disk is
//! announced again, as a growth during the suspension is otherwise missed · file systems grow · status `running`.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guest_init::proto::Request;
use tokio_util::sync::CancellationToken;

use super::facts::{RAM_FILE, RunPhase};
use super::run::{CALL_LIMIT, Shim, chain};
use crate::vmm::qemu::Qemu;
use crate::vmm::qemu::argv::OVERLAY_FILE;
use crate::vmm::spec::VmSpec;
use crate::vmm::{SavedImage, Vmm as _, VmmError};

const RAM_UNFINISHED: &str = "ram.img.unfinished";
/// Time that the guest gets to make its file systems clean; then it is suspended as it is.
const PREPARE_LIMIT: Duration = Duration::from_secs(10);

/// Lets one suspension run, and others break it off.
#[derive(Debug, Default)]
pub(super) struct Gate {
    running: Mutex<Option<CancellationToken>>,
}

impl Gate {
    pub(super) fn enter(&self) -> Option<CancellationToken> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return None;
        }
        let token = CancellationToken::new();
        *running = Some(token.clone());
        Some(token)
    }

    pub(super) fn leave(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Breaks a running suspension off; false when there is none.
    pub(super) fn cancel(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().inspect(|token| token.cancel()).is_some()
    }
}

/// How a suspension ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspended {
    /// The machine is on disk.
    Done,
    /// It was broken off; the guest runs.
    Cancelled,
    /// Another call is at it.
    Busy,
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> VmmError {
    move |source| VmmError::Io { what, source }
}

/// Starts QEMU with a RAM image and consumes the image; the guest runs afterwards.
pub(super) async fn bring_back(spec: &VmSpec, saved: &SavedImage) -> Result<Qemu, VmmError> {
    let qemu = Qemu::resume(spec, Path::new(RAM_FILE), saved).await?;
    std::fs::remove_file(RAM_FILE).map_err(io("consume the RAM image"))?;
    sync_directory().map_err(io("consume the RAM image"))?;
    qemu.cont().await?;
    Ok(qemu)
}

fn sync_directory() -> std::io::Result<()> {
    File::open(".")?.sync_all()
}

impl Shim {
    /// Tells a guest that was brought back what it missed. What fails is logged: the guest runs all the same.
    pub(super) async fn finish_resume(self: Arc<Self>) {
        let clock = u64::try_from(daemon::wall_clock::now().as_millisecond()).unwrap_or(0);
        let resumed = Request::Resumed {
            wall_clock_unix_ms: clock,
            entropy: daemon::random::hex(32),
        };
        if let Err(error) = self.agent.call(resumed, CALL_LIMIT).await {
            tracing::warn!(%error, "the guest was not told that it was resumed");
        }
        for volume in &self.spec.vm.volumes {
            let Some(qemu) = self.qemu.get() else { return };
            if let Err(error) = qemu.resize_disk(&volume.serial, volume.size_bytes).await {
                let error = chain(&error);
                tracing::warn!(
                    serial = volume.serial,
                    error,
                    "a disk's size was not announced after a resume"
                );
                continue;
            }
            if let Err(error) = self.grow_fs(&volume.serial, volume.size_bytes).await {
                tracing::warn!(serial = volume.serial, %error, "a file system did not grow after a resume");
            }
        }
        let names = Request::Names {
            records: self.spec.guest.names.clone(),
        };
        if let Err(error) = self.agent.call(names, CALL_LIMIT).await {
            tracing::warn!(%error, "the guest did not take the network's names");
        }
        self.publish(|status| {
            status.phase = RunPhase::Running;
            status.started_at.get_or_insert_with(daemon::wall_clock::now);
        });
    }

    /// Writes the machine away and ends QEMU, unless it is broken off.
    pub(super) async fn suspend(&self) -> Result<Suspended, VmmError> {
        let Some(cancelled) = self.suspend.enter() else {
            return Ok(Suspended::Busy);
        };
        let result = self.suspend_with(&cancelled).await;
        self.suspend.leave();
        result
    }

    async fn suspend_with(&self, cancelled: &CancellationToken) -> Result<Suspended, VmmError> {
        let Some(qemu) = self.qemu.get() else {
            return Ok(Suspended::Busy);
        };
        if let Err(error) = self.agent.call(Request::PrepareSuspend, PREPARE_LIMIT).await {
            tracing::warn!(%error, "the guest did not prepare for its suspension");
        }
        qemu.pause().await?;
        let saving = qemu.save(Path::new(RAM_UNFINISHED));
        let saved = tokio::select! {
            saved = saving => saved,
            () = cancelled.cancelled() => {
                self.go_on(qemu).await?;
                return Ok(Suspended::Cancelled);
            }
        };
        let saved = match saved {
            Ok(saved) => saved,
            Err(error) => {
                self.go_on(qemu).await?;
                return Err(error);
            }
        };
        if cancelled.is_cancelled() {
            self.go_on(qemu).await?;
            return Ok(Suspended::Cancelled);
        }
        finish_image().map_err(io("name the RAM image"))?;
        self.publish(|status| status.saved = Some(saved));
        qemu.quit().await?;
        Ok(Suspended::Done)
    }

    async fn go_on(&self, qemu: &Qemu) -> Result<(), VmmError> {
        if let Err(error) = qemu.cancel_save().await {
            tracing::debug!(%error, "there was no save to break off");
        }
        // A cancelled save leaves the machine stopped; `cont` is refused until the cancellation is through.
        let limit = Duration::from_secs(10);
        let going = async {
            while qemu.cont().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, going)
            .await
            .map_err(|_| VmmError::Timeout {
                what: "going on",
                limit,
            })?;
        let clock = u64::try_from(daemon::wall_clock::now().as_millisecond()).unwrap_or(0);
        let resumed = Request::Resumed {
            wall_clock_unix_ms: clock,
            entropy: daemon::random::hex(32),
        };
        if let Err(error) = self.agent.call(resumed, CALL_LIMIT).await {
            tracing::warn!(%error, "the guest was not told that its suspension was broken off");
        }
        match std::fs::remove_file(RAM_UNFINISHED) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io("remove the RAM image")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether QEMU has written the memory away and only its end is still to come.
    pub(super) fn is_saved(&self) -> bool {
        let status = self.board.status();
        status.saved.is_some() || status.phase == RunPhase::Suspended
    }
}

/// The overlay belongs to the image: what the guest has in memory is about exactly these blocks.
#[allow(clippy::disallowed_methods)] // both files and their directory are synced right here
fn finish_image() -> std::io::Result<()> {
    File::open(OVERLAY_FILE)?.sync_all()?;
    std::fs::rename(RAM_UNFINISHED, RAM_FILE)?;
    sync_directory()
}
