//! Restore: a new volume filled from a snapshot in the object store.
//!
//! `make` gives an empty slice, `fill` writes it; the volume cannot be attached before its record says `created`, so a
//! crash in the middle shows nothing to anybody and `fill` simply runs again over what it left. From a snapshot that a disk keeps
//! itself `make` forks, and nothing is filled.

use operation::{Outcome, Record, StepSpec};
use tokio_util::sync::CancellationToken;

use super::context::reference;
use super::{Context, Run, StepError, stored, unless, volume_subject};
use crate::backup::{self, Progress};
use crate::catalog::Change;
use crate::pool::ZeroEnd;
use crate::snapshot::Snapshot;
use crate::volume::{FsType, Origin, Volume, VolumeState};

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
    if snapshot.in_disk {
        return enlarge(ctx, &volume, &snapshot).await;
    }
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

/// Returns the snapshot that a volume begins as, when it is one that another volume's disk keeps.
pub(super) async fn kept_in_disk(ctx: &Context, volume: &Volume) -> Result<Option<Snapshot>, StepError> {
    let Origin::Snapshot { snapshot_id } = &volume.origin else {
        return Ok(None);
    };
    let snapshot = ctx.snapshot(snapshot_id).await?;
    Ok(snapshot.in_disk.then_some(snapshot))
}

/// The end of a restore that moved no data: the new disk began as the snapshot was, and may have to be larger.
async fn enlarge(ctx: &Context, volume: &Volume, snapshot: &Snapshot) -> Result<Run, StepError> {
    if volume.size.bytes() > snapshot.volume_bytes {
        let zero_end = if snapshot.formatted {
            ZeroEnd::Never
        } else {
            ZeroEnd::Always
        };
        let slice = ctx.slice(volume)?;
        ctx.pool(&volume.pool)?
            .grow(&slice, snapshot.volume_bytes, zero_end)
            .await?;
    }
    let id = volume.id.clone();
    let (generation, formatted) = (snapshot.generation + 1, snapshot.formatted);
    let fstype = FsType::parse(&snapshot.fstype);
    let message = format!("restored from snapshot {}", snapshot.id);
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
