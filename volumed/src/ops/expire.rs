//! Expire: a snapshot's manifest goes; its blocks follow in the two phases of garbage collection. One that the volume's own disk
//! keeps is forgotten there.

use operation::{Outcome, Record, StepSpec};

use super::context::reference;
use super::snapshot::untake;
use super::{Context, Run, StepError, bases, snapshot_subject, stored};
use crate::backup;
use crate::catalog::Change;
use crate::snapshot::{Snapshot, SnapshotState};

/// Name of the operation.
pub const EXPIRE: &str = "expire";
pub(super) const STEPS: &[StepSpec] = &[StepSpec::pivot("unpublish")];

pub(super) async fn unpublish(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = snapshot_subject(record)?;
    let snapshot = ctx.snapshot(&id).await?;
    bases::drop_one(ctx, &snapshot).await?;
    if snapshot.in_disk {
        // As below: never given up half-way.
        untake(ctx, &snapshot)
            .await
            .map_err(|error| StepError::Later(error.why()))?;
    } else {
        withdraw(ctx, &snapshot).await?;
    }
    let event = ctx.event(
        snapshot.volume_id.as_str(),
        "snapshot_deleted",
        format!("snapshot {id} was deleted"),
    );
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_snapshot(&id, |s| s.state = SnapshotState::Deleted)?;
        Ok(tx.event(&event)?)
    })))
}

/// Deletes the manifest of a backup.
async fn withdraw(ctx: &Context, snapshot: &Snapshot) -> Result<(), StepError> {
    let deleted = backup::delete_manifest(&ctx.backups(), &reference(snapshot)?, ctx.clock.now()).await;
    match deleted {
        Ok(_) => Ok(()),
        // A deletion is never given up half-way: whatever is in the way, the manifest must not stay by chance.
        Err(error) => Err(StepError::Later(stored(error.remedy(), &error).why())),
    }
}

/// Takes back a deletion that was cancelled before it reached the store.
pub(super) async fn republish(_ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = snapshot_subject(record)?;
    Ok(Change::new(move |tx| {
        tx.edit_snapshot(&id, |s| s.state = SnapshotState::Created)?;
        Ok(())
    }))
}
