//! Destroy, recover, purge.
//!
//! A deleted volume keeps its slice for the grace period. Purge removes the slice first and changes the record after, so
//! a crash in between leaves a record whose operation goes on, never a slice without one.

use operation::{Outcome, Record, StepSpec};

use super::{Context, Run, StepError, bases, volume_subject};
use crate::catalog::Change;
use crate::pool::SliceId;
use crate::snapshot::SnapshotState;
use crate::volume::{Origin, VolumeState};

/// Soft delete.
pub const DESTROY: &str = "destroy";
/// Back from soft delete.
pub const RECOVER: &str = "recover";
/// Removal for good.
pub const PURGE: &str = "purge";
pub(super) const DESTROY_STEPS: &[StepSpec] = &[StepSpec::new("schedule")];
pub(super) const RECOVER_STEPS: &[StepSpec] = &[StepSpec::new("check")];
pub(super) const PURGE_STEPS: &[StepSpec] = &[StepSpec::new("wait"), StepSpec::pivot("remove")];

pub(super) async fn schedule(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let event = ctx.event(
        id.as_str(),
        "deleted",
        "volume was deleted; it can be recovered for a while".to_owned(),
    );
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.state = VolumeState::PendingDestroy)?;
        Ok(tx.event(&event)?)
    })))
}

pub(super) async fn unschedule(_ctx: &Context, record: &Record) -> Result<Change, StepError> {
    back_to(record, VolumeState::Created)
}

pub(super) async fn check(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let volume = ctx.volume(&id).await?;
    if !ctx
        .pool(&volume.pool)?
        .exists(&SliceId::Volume(id.clone()))
        .await?
    {
        return Err(StepError::Broken(format!(
            "the bytes of volume {id} are gone; restore one of its snapshots"
        )));
    }
    let event = ctx.event(id.as_str(), "recovered", "volume was recovered".to_owned());
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Created;
            v.deleted_at = None;
            v.purge_after = None;
        })?;
        Ok(tx.event(&event)?)
    })))
}

pub(super) async fn uncheck(_ctx: &Context, record: &Record) -> Result<Change, StepError> {
    back_to(record, VolumeState::PendingDestroy)
}

fn back_to(record: &Record, state: VolumeState) -> Result<Change, StepError> {
    let id = volume_subject(record)?;
    Ok(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = state;
            if state == VolumeState::Created {
                v.deleted_at = None;
                v.purge_after = None;
            }
        })?;
        Ok(())
    }))
}

/// Waits until nothing needs the slice any more: no snapshot that has yet to capture it or that it keeps itself, no fork that has
/// yet to copy it.
pub(super) async fn wait(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let source = id.clone();
    let needed_by = ctx.catalog.transact(move |tx| {
        let snapshots = tx.snapshots_of(&source)?;
        let waiting = snapshots
            .into_iter()
            .find(|s| s.state == SnapshotState::Waiting || s.needs_its_volume())
            .map(|s| s.id.to_string());
        let filling = [VolumeState::Creating, VolumeState::Hydrating];
        let forked = Origin::Fork { volume_id: source };
        let mut volumes = tx.existing_volumes()?.into_iter();
        let fork = volumes
            .find(|v| v.origin == forked && filling.contains(&v.state))
            .map(|v| v.id.to_string());
        Ok(waiting.or(fork))
    });
    match needed_by.await? {
        Some(other) => Err(StepError::Later(format!(
            "volume {id} is still needed by {other}"
        ))),
        None => Ok(Outcome::done()),
    }
}

pub(super) async fn unwait(_ctx: &Context, record: &Record) -> Result<Change, StepError> {
    back_to(record, VolumeState::PendingDestroy)
}

pub(super) async fn remove(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let _held = ctx.locks.lock(&id).await;
    let volume = ctx.volume(&id).await?;
    bases::drop_kept(ctx, &id, false).await?;
    ctx.pool(&volume.pool)?
        .delete(&SliceId::Volume(id.clone()))
        .await?;
    let event = ctx.event(
        id.as_str(),
        "destroyed",
        "volume was removed; its snapshots stay".to_owned(),
    );
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.state = VolumeState::Destroyed)?;
        Ok(tx.event(&event)?)
    })))
}
