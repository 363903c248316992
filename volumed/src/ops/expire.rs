//! Expire: a snapshot's manifest goes; its blocks follow in the two phases of garbage collection.

use operation::{Outcome, Record, StepSpec};

use super::context::reference;
use super::{Context, Run, StepError, bases, snapshot_subject, stored};
use crate::backup;
use crate::catalog::Change;
use crate::snapshot::SnapshotState;

/// Name of the operation.
pub const EXPIRE: &str = "expire";
pub(super) const STEPS: &[StepSpec] = &[StepSpec::pivot("unpublish")];

pub(super) async fn unpublish(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = snapshot_subject(record)?;
    let snapshot = ctx.snapshot(&id).await?;
    bases::drop_one(ctx, &snapshot).await?;
    let deleted = backup::delete_manifest(&ctx.backups(), &reference(&snapshot)?, ctx.clock.now()).await;
    if let Err(error) = deleted {
        // A deletion is never given up half-way: whatever is in the way, the manifest must not stay by chance.
        return Err(StepError::Later(stored(error.remedy(), &error).why()));
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

/// Takes back a deletion that was cancelled before it reached the store.
pub(super) async fn republish(_ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = snapshot_subject(record)?;
    Ok(Change::new(move |tx| {
        tx.edit_snapshot(&id, |s| s.state = SnapshotState::Created)?;
        Ok(())
    }))
}
