//! Drain and claim: a bottomless volume goes from this node, or comes to it.
//!
//! A drain releases the disk first, then removes this node's files, then changes the record: a crash in between leaves a record
//! whose operation goes on. A claim's record comes first, as a new volume's does. Neither copies anything; the bucket has it all.

use operation::{Outcome, Record, Status, StepSpec};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Context, Run, StepError, destroy, unless, volume_subject};
use crate::catalog::Change;
use crate::disk::Serving;
use crate::pool::moves::{Claim, Moves};
use crate::snapshot::Snapshot;
use crate::volume::{SizeGb, VolumeId, VolumeState};

/// The volume goes: any node of this bucket and cluster key may claim it then.
pub const DRAIN: &str = "drain";
/// The volume comes.
pub const CLAIM: &str = "claim";
pub(super) const DRAIN_STEPS: &[StepSpec] = &[
    StepSpec::new("wait"),
    StepSpec::pivot("release"),
    StepSpec::new("forget"),
];
pub(super) const CLAIM_STEPS: &[StepSpec] = &[StepSpec::new("open")];

/// What a claim was asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ClaimParams {
    pub(crate) serving: Serving,
    pub(crate) size_bytes: u64,
    /// The epoch that is claimed over by force.
    pub(crate) force_over: Option<u32>,
}

async fn moves<'a>(ctx: &'a Context, id: &VolumeId) -> Result<&'a dyn Moves, StepError> {
    let volume = ctx.volume(id).await?;
    ctx.pool(&volume.pool)?
        .moves()
        .ok_or_else(|| StepError::Refused(format!("volume {id} does not move between nodes")))
}

/// Waits until nothing of this node works on the disk any more: no snapshot of it that is on its way, no fork that has yet to begin.
pub(super) async fn wait(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    match destroy::needed_by(ctx, &id, Snapshot::in_progress).await? {
        Some(other) => Err(StepError::Later(format!(
            "volume {id} is still needed by {other}"
        ))),
        None => Ok(Outcome::done()),
    }
}

pub(super) async fn release(
    ctx: &Context,
    record: &Record,
    cancelled: &CancellationToken,
) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    // Whoever was about to attach it has done so or heard no; who asks from now on is told that it is being drained.
    drop(ctx.locks.lock(&id).await);
    let releasing = async { Ok(moves(ctx, &id).await?.release(&id).await?) };
    unless(cancelled, releasing).await?;
    Ok(Outcome::done())
}

/// Keeps the disk. That it may be released all the same does no harm: it opens here as well as anywhere.
pub(super) async fn keep(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = volume_subject(record)?;
    moves(ctx, &id).await?.keep(&id).await?;
    Ok(Change::default())
}

pub(super) async fn undrain(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = volume_subject(record)?;
    let message = format!("volume was not drained and stays: {}", why(record));
    let event = ctx.event(id.as_str(), "drain_failed", message);
    Ok(Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.state = VolumeState::Created)?;
        Ok(tx.event(&event)?)
    }))
}

pub(super) async fn forget(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let _held = ctx.locks.lock(&id).await;
    moves(ctx, &id).await?.forget(&id).await?;
    let message = "volume was drained: the bucket has all of it, and any node may claim it".to_owned();
    let event = ctx.event(id.as_str(), "drained", message);
    let now = ctx.clock.now();
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Destroyed;
            v.left_at = Some(now);
        })?;
        // They went with the disk that keeps them.
        tx.forget_snapshots_in_disk(&id)?;
        Ok(tx.event(&event)?)
    })))
}

pub(super) async fn open(
    ctx: &Context,
    record: &Record,
    cancelled: &CancellationToken,
) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let params: ClaimParams = serde_json::from_value(record.params.clone())
        .map_err(|error| StepError::Broken(format!("the operation's record: {error}")))?;
    let claim = Claim {
        serving: params.serving,
        size_bytes: params.size_bytes,
        force_over: params.force_over.map(log_disk::Epoch),
    };
    let claiming = async { Ok(moves(ctx, &id).await?.claim(&id, &claim).await?) };
    let claimed = unless(cancelled, claiming).await?;
    let message = match params.force_over {
        Some(epoch) => {
            format!("volume was claimed by force over epoch {epoch}: what that host had not uploaded is lost")
        }
        None => "volume was claimed, with everything in it".to_owned(),
    };
    let event = ctx.event(id.as_str(), "claimed", message);
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Created;
            v.size = SizeGb::holding(claimed.size_bytes);
            // What the former host could not tell any more must not have the disk formatted again.
            v.formatted |= claimed.written;
        })?;
        Ok(tx.event(&event)?)
    })))
}

/// Takes a claim back: the volume is in the bucket again and nowhere else.
pub(super) async fn unclaim(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = volume_subject(record)?;
    let _held = ctx.locks.lock(&id).await;
    moves(ctx, &id).await?.unclaim(&id).await?;
    let message = format!("volume was not claimed: {}", why(record));
    let event = ctx.event(id.as_str(), "failed", message);
    let now = ctx.clock.now();
    Ok(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Destroyed;
            v.left_at = Some(now);
        })?;
        tx.forget_snapshots_in_disk(&id)?;
        Ok(tx.event(&event)?)
    }))
}

fn why(record: &Record) -> &str {
    match &record.status {
        Status::Undoing { why, .. } | Status::Aborted { why, .. } => why,
        Status::Running | Status::Done | Status::Handoff { .. } => "given up",
    }
}
