//! Captures that stay after their upload: the newest of a volume tells the next backup what changed since.
//!
//! A capture is kept only to save reading. Whoever is in its way removes it, and the next backup reads everything.

use std::ops::Range;

use super::{Context, StepError};
use crate::pool::SliceId;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{SnapshotId, VolumeId};

/// Returns what may have changed since `base` was captured; none when that is not known.
pub(super) async fn changed(ctx: &Context, base: &Snapshot, snapshot: &Snapshot) -> Option<Vec<Range<u64>>> {
    let pool = snapshot.pool.as_deref()?;
    if base.pool.as_deref() != Some(pool) {
        return None;
    }
    let (older, newer) = (ctx.capture_slice(base).ok()?, ctx.capture_slice(snapshot).ok()?);
    ctx.pool(pool).ok()?.changed(&older, &newer).await
}

/// Removes the kept captures of a volume, but for the newest when `keep_newest`.
pub(super) async fn drop_kept(
    ctx: &Context,
    volume_id: &VolumeId,
    keep_newest: bool,
) -> Result<(), StepError> {
    let wanted = volume_id.clone();
    let all = ctx
        .catalog
        .transact(move |tx| Ok(tx.snapshots_of(&wanted)?))
        .await?;
    let kept = |s: &&Snapshot| s.state == SnapshotState::Created && s.pool.is_some();
    let mut captures: Vec<&Snapshot> = all.iter().filter(kept).collect();
    if keep_newest {
        captures.sort_by_key(|s| s.created_at);
        captures.pop();
    }
    for snapshot in captures {
        drop_one(ctx, snapshot).await?;
    }
    Ok(())
}

/// Removes the capture of one snapshot, if there is one.
pub(super) async fn drop_one(ctx: &Context, snapshot: &Snapshot) -> Result<(), StepError> {
    let Some(pool) = &snapshot.pool else {
        return Ok(());
    };
    let id: SnapshotId = snapshot.id.clone();
    ctx.pool(pool)?.delete(&SliceId::Capture(id.clone())).await?;
    let forgotten = ctx.catalog.transact(move |tx| {
        tx.edit_snapshot(&id, |s| s.pool = None)?;
        Ok(())
    });
    Ok(forgotten.await?)
}

/// Removes the capture of a snapshot that is being uploaded, and tells it once.
async fn drop_running(ctx: &Context, pool: &str, snapshot: &Snapshot) -> Result<(), StepError> {
    let (pool, capture) = (ctx.pool(pool)?, SliceId::Capture(snapshot.id.clone()));
    if !pool.exists(&capture).await? {
        return Ok(());
    }
    pool.delete(&capture).await?;
    let message = format!(
        "snapshot {} is given up: pool {} needs its room for what volumes were promised",
        snapshot.id,
        pool.name()
    );
    let event = ctx.event(snapshot.volume_id.as_str(), "capture_shed", message);
    let told = ctx.catalog.transact(move |tx| Ok(tx.event(&event)?));
    Ok(told.await?)
}

/// Removes captures of a pool that wants to be rid of them: kept ones, and those being uploaded when `uploading` too,
/// whose snapshots are then given up.
pub async fn shed(ctx: &Context, pool: &str, uploading: bool) {
    let all = match ctx.catalog.transact(|tx| Ok(tx.snapshots()?)).await {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(error = %super::chain(&error), "captures not shed");
            return;
        }
    };
    for snapshot in all.iter().filter(|s| s.pool.as_deref() == Some(pool)) {
        let shed = match snapshot.state {
            SnapshotState::Created => drop_one(ctx, snapshot).await,
            // The record stays with its operation, which finds its capture missing and takes the snapshot back.
            SnapshotState::Running if uploading => drop_running(ctx, pool, snapshot).await,
            SnapshotState::Waiting
            | SnapshotState::Running
            | SnapshotState::Deleting
            | SnapshotState::Deleted => {
                continue;
            }
        };
        match shed {
            Ok(()) => {
                tracing::warn!(pool, snapshot_id = %snapshot.id, "capture shed: the pool needs its room")
            }
            Err(error) => {
                tracing::info!(pool, snapshot_id = %snapshot.id, why = error.why(), "capture not shed yet");
            }
        }
    }
}

#[cfg(test)]
mod tests;
