//! One point in time of a volume's bytes, whoever writes to it: shared by snapshots and forks.

use tokio_util::sync::CancellationToken;

use super::{Context, StepError, unless};
use crate::pool::{Pool, PoolError, Slice};
use crate::random;
use crate::runner_client::{CopyRequest, RunnerError};
use crate::volume::Volume;

/// Copies `volume` into `target`. The caller holds the volume's lock, so that it neither changes hands nor grows.
///
/// A pool that captures atomically does it. Otherwise the bytes are copied plainly while no guest can write, and by
/// machine-runner (copy-before-write) while one can.
/// Once `cancelled` fires it ends soon; what it leaves then is unfinished and removed by the undo.
pub(super) async fn copy(
    ctx: &Context,
    volume: &Volume,
    target: &Slice,
    cancelled: &CancellationToken,
) -> Result<(), StepError> {
    prepare(ctx, volume).await?;
    let pool = ctx.pool(&volume.pool)?;
    let source = ctx.slice(volume)?;
    let Some(machine_id) = &volume.attached_machine_id else {
        return plain_or_atomic(&**pool, &source, target, cancelled).await;
    };
    if pool.capabilities().atomic_snapshot || pool.exists(&target.id).await? {
        return plain_or_atomic(&**pool, &source, target, cancelled).await;
    }
    if volume.host_path.is_some() {
        return Err(StepError::Refused(mounted_here(volume)));
    }
    let Some(runner) = &ctx.runner else {
        return Err(StepError::Later(format!(
            "volume {} is attached to machine {machine_id}, this pool cannot capture it in use, and no machine-runner is \
             configured that could",
            volume.id
        )));
    };
    let target_path = pool.copy_begin(target).await?;
    // A new id each time: the target file is new too, so an earlier attempt's success is worth nothing.
    let copy_id = format!("{}-{}", target.id.name(), random::base36(&*ctx.random, 8));
    let request = CopyRequest {
        machine_id: machine_id.clone(),
        generation: volume.generation,
        copy_id,
        target_path,
    };
    // Given up with this call, the copy is broken off; until then it goes into a file that the undo has unlinked.
    let copying = async { Ok(runner.copy(volume.id.as_str(), &request).await) };
    match unless(cancelled, copying).await? {
        Ok(answer) if answer.detached_guest => {
            plain_or_atomic(&**pool, &source, target, cancelled).await?;
        }
        Ok(_) => pool.copy_finish(target, &source.layout).await?,
        Err(RunnerError::Refused { status: 507, .. }) => {
            let full = PoolError::NoSpace {
                pool: volume.pool.clone(),
                wanted_bytes: target.size_bytes,
            };
            return Err(full.into());
        }
        Err(error) => return Err(StepError::Later(super::chain(&error))),
    }
    Ok(())
}

/// Has a volume ready for being captured. Fails for now while it is being extended: its slice may be longer than its record says.
pub(super) async fn prepare(ctx: &Context, volume: &Volume) -> Result<(), StepError> {
    if volume.extending_to.is_some() {
        return Err(StepError::Later(format!(
            "volume {} is being extended",
            volume.id
        )));
    }
    if let Some(path) = &volume.host_path {
        // What was written before the request is in the snapshot, synced or not.
        ctx.host()?.sync(path).await?;
    }
    Ok(())
}

async fn plain_or_atomic(
    pool: &dyn Pool,
    source: &Slice,
    target: &Slice,
    cancelled: &CancellationToken,
) -> Result<(), StepError> {
    match pool.copy_unless(source, target, cancelled).await {
        Ok(_) => Ok(()),
        Err(PoolError::WrongSize { slice, .. }) if slice == target.id.name() => {
            // Published by a run that did not live to record it, before the volume grew: nobody knows of it yet.
            pool.delete(&target.id).await?;
            Err(StepError::Later(format!("an older copy {slice} was in the way")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Says why a volume that is mounted on this host has no snapshot in a pool that cannot share blocks.
pub(crate) fn mounted_here(volume: &Volume) -> String {
    format!(
        "volume {} is mounted on this host and pool {} cannot capture it in use; detach it first, or keep such volumes in \
         a pool with reflink (XFS, btrfs) or of LVM",
        volume.id, volume.pool
    )
}
