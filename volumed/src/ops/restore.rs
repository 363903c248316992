//! Restore: a new volume filled from a snapshot in the object store.
//!
//! `make` gives an empty slice, `fill` writes it; the volume cannot be attached before its record says `created`, so a
//! crash in the middle shows nothing to anybody and `fill` simply runs again over what it left.

use operation::{Outcome, Record, StepSpec};
use tokio_util::sync::CancellationToken;

use super::context::reference;
use super::{Context, Run, StepError, stored, unless, volume_subject};
use crate::backup::{self, Progress};
use crate::catalog::Change;
use crate::volume::{FsType, Origin, VolumeState};

/// Name of the operation.
pub const RESTORE: &str = "restore";
pub(super) const STEPS: &[StepSpec] = &[StepSpec::new("make"), StepSpec::new("fill")];

pub(super) async fn fill(
    ctx: &Context,
    record: &Record,
    cancelled: &CancellationToken,
) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let volume = ctx.volume(&id).await?;
    let Origin::Snapshot { snapshot_id } = &volume.origin else {
        return Err(StepError::Broken(format!(
            "volume {id} is not restored from a snapshot"
        )));
    };
    let snapshot = ctx.snapshot(snapshot_id).await?;
    let sink = ctx.pool(&volume.pool)?.open_sink(&ctx.slice(&volume)?).await?;
    let (backups, reference, progress) = (ctx.backups(), reference(&snapshot)?, Progress::default());
    let filling = async {
        let restored = backup::restore(&backups, &reference, &*sink, &progress).await;
        restored.map_err(|error| stored(error.remedy(), &error))
    };
    // Late writes hit a slice that the undo removes.
    let restored = unless(cancelled, filling).await?;
    let (generation, formatted) = (restored.head.generation + 1, restored.head.formatted);
    let fstype = restored.head.fstype.as_deref().and_then(FsType::parse);
    let message = format!(
        "restored from snapshot {snapshot_id}, {} bytes written",
        restored.bytes_written
    );
    let event = ctx.event(id.as_str(), "restored", message);
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Created;
            v.generation = v.generation.max(generation);
            v.formatted = formatted;
            v.fstype = fstype.unwrap_or(v.fstype);
        })?;
        Ok(tx.event(&event)?)
    })))
}
