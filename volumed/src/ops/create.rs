//! Create: an empty slice. Also the first step of a restore.
//!
//! The record comes first (state `creating`), then the slice, then the record's new state: a crash leaves a record whose
//! operation goes on, never a slice that nobody knows.

use operation::{Outcome, Record, Status, StepSpec};

use super::{Context, RESTORE, Run, StepError, restore, volume_subject};
use crate::catalog::Change;
use crate::pool::SliceId;
use crate::volume::VolumeState;

/// Name of the operation.
pub const CREATE: &str = "create";
pub(super) const STEPS: &[StepSpec] = &[StepSpec::new("make")];

pub(super) async fn make(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let volume = ctx.volume(&id).await?;
    let (pool, slice) = (ctx.pool(&volume.pool)?, ctx.slice(&volume)?);
    match (restore::kept_in_disk(ctx, &volume).await?, pool.disk_snapshots()) {
        (Some(snapshot), Some(disks)) => {
            let (parent, name) = (&snapshot.volume_id, snapshot.id.as_str());
            disks.fork(parent, name, &slice).await?;
        }
        _ => pool.create(&slice).await?,
    }
    let next = if record.kind == RESTORE {
        VolumeState::Restoring
    } else {
        VolumeState::Created
    };
    let event = ctx.event(id.as_str(), next.name(), format!("volume is {}", next.name()));
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.state = next)?;
        Ok(tx.event(&event)?)
    })))
}

/// Takes back a volume that did not come to be: first the slice, then the record, which keeps the reason.
pub(super) async fn unmake(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = volume_subject(record)?;
    let volume = ctx.volume(&id).await?;
    ctx.pool(&volume.pool)?
        .delete(&SliceId::Volume(id.clone()))
        .await?;
    let why = match &record.status {
        Status::Undoing { why, .. } | Status::Aborted { why, .. } => why.clone(),
        Status::Running | Status::Done | Status::Handoff { .. } => "given up".to_owned(),
    };
    let event = ctx.event(id.as_str(), "failed", format!("volume was not created: {why}"));
    let now = ctx.clock.now();
    Ok(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Destroyed;
            v.failure = Some(why);
            v.deleted_at.get_or_insert(now);
        })?;
        Ok(tx.event(&event)?)
    }))
}
