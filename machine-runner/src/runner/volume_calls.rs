//! What volumed asks about volumes that running guests hold.

use daemon::ApiError;
use guest_init::proto::serial_of;
use serde::{Deserialize, Serialize};

use super::{Command, Handle, Runner};
use crate::ids::MachineId;
use crate::lifecycle::State;
use crate::shim::facts::CopyRequest;

/// `POST /v1/volumes/{id}/grow`.
#[derive(Clone, Debug, Deserialize)]
pub struct GrowCall {
    /// Who holds the volume, by volumed's word.
    pub machine_id: String,
    /// Generation of that attachment.
    pub generation: u64,
    /// New size, in bytes.
    pub size_bytes: u64,
}

/// Answer to [`GrowCall`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GrowResult {
    /// Size of the file system, where a guest has it mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_bytes: Option<u64>,
    /// Whether the guest sees the new size only after its next start.
    pub needs_restart: bool,
    /// Whether no guest runs: volumed is on its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub detached_guest: bool,
}

/// `POST /v1/volumes/{id}/copy`.
#[derive(Clone, Debug, Deserialize)]
pub struct CopyCall {
    /// Who holds the volume, by volumed's word.
    pub machine_id: String,
    /// Generation of that attachment.
    pub generation: u64,
    /// Makes a repeated call find the first one's result.
    pub copy_id: String,
    /// File to write to; exists.
    pub target_path: std::path::PathBuf,
}

/// Whether a guest has the volume open now.
enum Holder {
    Running(Handle),
    Down(Option<Handle>),
}

impl Runner {
    fn holder(&self, volume: &str, machine_id: &str, generation: u64) -> Result<Holder, ApiError> {
        let id = MachineId::parse(machine_id);
        let handle = id.and_then(|id| self.machine(&id));
        let Some(handle) = handle else {
            return Ok(Holder::Down(None));
        };
        let view = handle.view();
        let record = &view.record;
        match record.state {
            State::Started | State::Starting | State::Stopping | State::Suspending | State::Replacing => {}
            // A machine that restarts because of a request still has its guest; one that waits has none.
            State::Restarting if record.run.restart_at.is_none() => {}
            State::Destroying if record.run.then.is_some() => {}
            State::Restarting
            | State::Destroying
            | State::Creating
            | State::Created
            | State::Stopped
            | State::Suspended
            | State::Destroyed
            | State::Failed => return Ok(Holder::Down(Some(handle))),
        }
        let held = record.run.volumes.get(volume).map(|attached| attached.generation);
        if held != Some(generation) {
            let held = held.map_or_else(|| "none".to_owned(), |held| held.to_string());
            return Err(ApiError::conflict(format!(
                "machine {machine_id} holds volume {volume} under generation {held}, not {generation}"
            )));
        }
        if record.state != State::Started {
            return Err(ApiError::unavailable(format!(
                "machine {machine_id} is {}; try again",
                record.state
            )));
        }
        Ok(Holder::Running(handle))
    }

    /// Announces a grown volume to the guest that has it, and grows the file system.
    ///
    /// # Errors
    /// 409 for another generation, 503 while the machine changes its state, 422 for a smaller size.
    pub async fn grow_volume(&self, volume: &str, call: &GrowCall) -> Result<GrowResult, ApiError> {
        let handle = match self.holder(volume, &call.machine_id, call.generation)? {
            Holder::Running(handle) => handle,
            Holder::Down(handle) => {
                if let Some(handle) = handle {
                    note_size(&handle, volume, call.size_bytes).await;
                }
                return Ok(GrowResult {
                    detached_guest: true,
                    ..GrowResult::default()
                });
            }
        };
        let view = handle.view();
        let shim = self.shim(&view.record.id);
        let grown = match shim.grow(serial_of(volume), call.size_bytes).await {
            Ok(grown) => grown,
            // The device is larger, the guest's agent cannot say so: it grows at the next mount.
            Err(error) if matches!(error.status(), Some(408 | 503)) => {
                tracing::warn!(machine_id = %view.record.id, volume_id = volume, %error, "a file system did not grow");
                note_size(&handle, volume, call.size_bytes).await;
                return Ok(GrowResult {
                    needs_restart: true,
                    ..GrowResult::default()
                });
            }
            Err(error) => return Err(error.into()),
        };
        note_size(&handle, volume, call.size_bytes).await;
        super::usage::report_machine(self, view).await;
        Ok(GrowResult {
            fs_bytes: Some(grown.fs_bytes),
            ..GrowResult::default()
        })
    }

    /// Copies the bytes of a volume's backing file as they are now into `target_path`. False when no guest has it.
    ///
    /// # Errors
    /// As [`Runner::grow_volume`].
    pub async fn copy_volume(&self, volume: &str, call: CopyCall) -> Result<bool, ApiError> {
        let handle = match self.holder(volume, &call.machine_id, call.generation)? {
            Holder::Running(handle) => handle,
            Holder::Down(_) => return Ok(false),
        };
        let request = CopyRequest {
            serial: serial_of(volume).to_owned(),
            target_path: call.target_path,
            copy_id: call.copy_id,
        };
        self.shim(&handle.view().record.id).copy(&request).await?;
        Ok(true)
    }
}

/// Machines show their volumes' sizes; this one has changed.
async fn note_size(handle: &Handle, volume: &str, size_bytes: u64) {
    let volume = volume.to_owned();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let edit = Command::Edit {
        edit: Box::new(move |record| {
            if let Some(attached) = record.run.volumes.get_mut(&volume) {
                attached.size_gb = size_bytes >> 30;
            }
            Ok(())
        }),
        answer,
    };
    if handle.commands.send(edit).await.is_ok() {
        let _written = answered.await;
    }
}
