//! Destroy, recover, purge.
//!
//! A deleted volume keeps its slice for the grace period. Purge removes the slice first and changes the record after, so
//! a crash in between leaves a record whose operation goes on, never a slice without one.

use operation::{Outcome, Record, StepSpec};

use super::{Context, Run, StepError, bases, volume_subject};
use crate::catalog::Change;
use crate::pool::SliceId;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{Origin, VolumeId, VolumeState};

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
    let to_capture = |s: &Snapshot| s.state == SnapshotState::Waiting;
    let mut waits_for = needed_by(ctx, &id, move |s| to_capture(s) || s.needs_its_volume()).await?;
    if waits_for.is_some() && is_elsewhere(ctx, &id).await? {
        // The snapshots went with the disk.
        waits_for = needed_by(ctx, &id, to_capture).await?;
    }
    match waits_for {
        Some(other) => Err(StepError::Later(format!(
            "volume {id} is still needed by {other}"
        ))),
        None => Ok(Outcome::done()),
    }
}

/// Returns what needs the slice of a volume: a snapshot of it that `needs` it, or a fork that has yet to begin.
pub(super) async fn needed_by(
    ctx: &Context,
    id: &VolumeId,
    needs: impl Fn(&Snapshot) -> bool + Send + 'static,
) -> Result<Option<String>, StepError> {
    let source = id.clone();
    let needed_by = ctx.catalog.transact(move |tx| {
        let mut snapshots = tx.snapshots_of(&source)?.into_iter();
        let waiting = snapshots.find(|s| needs(s)).map(|s| s.id.to_string());
        let filling = [VolumeState::Creating, VolumeState::Hydrating];
        let forked = Origin::Fork { volume_id: source };
        let mut volumes = tx.existing_volumes()?.into_iter();
        let fork = volumes
            .find(|v| v.origin == forked && filling.contains(&v.state))
            .map(|v| v.id.to_string());
        Ok(waiting.or(fork))
    });
    Ok(needed_by.await?)
}

/// Says whether the volume's disk went on from another node, which it is now: what the bucket has is not this one's to remove.
async fn is_elsewhere(ctx: &Context, id: &VolumeId) -> Result<bool, StepError> {
    let volume = ctx.volume(id).await?;
    match ctx.pool(&volume.pool)?.moves() {
        Some(moves) => Ok(moves.is_elsewhere(id).await?),
        None => Ok(false),
    }
}

pub(super) async fn unwait(_ctx: &Context, record: &Record) -> Result<Change, StepError> {
    back_to(record, VolumeState::PendingDestroy)
}

pub(super) async fn remove(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let _held = ctx.locks.lock(&id).await;
    let volume = ctx.volume(&id).await?;
    let elsewhere = is_elsewhere(ctx, &id).await?;
    bases::drop_kept(ctx, &id, false).await?;
    let pool = ctx.pool(&volume.pool)?;
    let left = pool.moves().filter(|_| elsewhere);
    let message = match left {
        Some(moves) => {
            moves.forget(&id).await?;
            "volume was removed from this node only: another one has claimed it"
        }
        None => {
            pool.delete(&SliceId::Volume(id.clone())).await?;
            "volume was removed; its snapshots stay"
        }
    };
    let event = ctx.event(id.as_str(), "destroyed", message.to_owned());
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.state = VolumeState::Destroyed)?;
        if elsewhere {
            tx.forget_snapshots_in_disk(&id)?;
        }
        Ok(tx.event(&event)?)
    })))
}
