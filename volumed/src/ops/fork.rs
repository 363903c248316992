//! Fork: a new volume with the bytes of another at this moment.
//!
//! The slice is built under an unfinished name and published by one rename, so a crash leaves either nothing that counts
//! or the whole copy; `clone` then finds it there.

use operation::{Outcome, Record, StepSpec};
use tokio_util::sync::CancellationToken;

use super::{Context, Run, StepError, capture, unless, volume_subject};
use crate::catalog::Change;
use crate::pool::{DiskSnapshots, PoolError, Slice, ZeroEnd};
use crate::volume::{Origin, SizeGb, Volume, VolumeId, VolumeState};

/// Name of the operation.
pub const FORK: &str = "fork";
pub(super) const STEPS: &[StepSpec] = &[
    StepSpec::new("open"),
    StepSpec::new("clone"),
    StepSpec::new("enlarge"),
];

pub(super) async fn open(_ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.state = VolumeState::Hydrating)?;
        Ok(())
    })))
}

async fn source(ctx: &Context, fork: &Volume) -> Result<Volume, StepError> {
    let Origin::Fork { volume_id } = &fork.origin else {
        return Err(StepError::Broken(format!("volume {} is not a fork", fork.id)));
    };
    ctx.volume(volume_id).await
}

pub(super) async fn clone(
    ctx: &Context,
    record: &Record,
    cancelled: &CancellationToken,
) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let fork = ctx.volume(&id).await?;
    let source_id = source(ctx, &fork).await?.id;
    let _held = unless(cancelled, async { Ok(ctx.locks.lock(&source_id).await) }).await?;
    let source = ctx.volume(&source_id).await?;
    if !source.exists() {
        return Err(StepError::Refused(format!("source volume {source_id} is gone")));
    }
    let target = Slice {
        size_bytes: source.size.bytes(),
        ..ctx.slice(&fork)?
    };
    match ctx.pool(&source.pool)?.disk_snapshots() {
        Some(disks) => {
            capture::prepare(ctx, &source).await?;
            unless(cancelled, async { Ok(branch(disks, &source_id, &target).await?) }).await?;
        }
        None => capture::copy(ctx, &source, &target, cancelled).await?,
    }
    let (generation, formatted, fstype) = (source.generation + 1, source.formatted, source.fstype);
    let copied_gb = source.size;
    let patch = serde_json::json!({ "copied_gb": copied_gb });
    let change = Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.generation = v.generation.max(generation);
            v.formatted = formatted;
            v.fstype = fstype;
        })?;
        Ok(())
    });
    Ok(Outcome::Done { patch, change })
}

/// Forks a disk as it is now: at a snapshot that is there for as long as it takes. The fork keeps what it needs.
async fn branch(disks: &dyn DiskSnapshots, source: &VolumeId, target: &Slice) -> Result<(), PoolError> {
    let name = format!("fork-{}", target.id.name());
    disks.take(source, &name).await?;
    let forked = disks.fork(source, &name, target).await;
    disks.remove(source, &name).await?;
    forked
}

pub(super) async fn enlarge(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let fork = ctx.volume(&id).await?;
    let copied: Option<SizeGb> = record
        .state
        .get("copied_gb")
        .and_then(|gb| serde_json::from_value(gb.clone()).ok());
    let copied =
        copied.ok_or_else(|| StepError::Broken("the operation's record has no copied_gb".to_owned()))?;
    // The source may have grown between the request and the copy; a fork never loses its end.
    let size = fork.size.max(copied);
    if size > copied {
        let slice = Slice {
            size_bytes: size.bytes(),
            ..ctx.slice(&fork)?
        };
        let zero_end = if fork.formatted {
            ZeroEnd::Never
        } else {
            ZeroEnd::Always
        };
        ctx.pool(&fork.pool)?
            .grow(&slice, copied.bytes(), zero_end)
            .await?;
    }
    let event = ctx.event(id.as_str(), "forked", "volume was forked".to_owned());
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Created;
            v.size = size;
        })?;
        Ok(tx.event(&event)?)
    })))
}
