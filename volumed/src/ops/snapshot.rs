//! Snapshot: a local capture at one point in time, its backup in the object store, then the capture goes, or stays until
//! the next one where the pool can tell what changed between the two.
//!
//! The subject is the snapshot, not the volume: while an upload waits for a dead object store, the volume is extended,
//! attached and deleted as ever. The capture has a slice of its own, so it outlives the volume.

use jiff::{SignedDuration, Timestamp};
use operation::{Outcome, Record, StepSpec};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::context::reference;
use super::{Context, Run, StepError, bases, capture as point_in_time, snapshot_subject, stored, unless};
use crate::backup::{self, Base, ManifestHead, Progress};
use crate::catalog::{CatalogError, Change, NewEvent, Tx};
use crate::pool::{Slice, SliceId};
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{SnapshotId, Volume};

/// Name of the operation.
pub const SNAPSHOT: &str = "snapshot";
pub(super) const STEPS: &[StepSpec] = &[
    StepSpec::new("capture"),
    StepSpec::pivot("upload"),
    StepSpec::new("release"),
];

pub(super) async fn capture(
    ctx: &Context,
    record: &Record,
    cancelled: &CancellationToken,
) -> Result<Run, StepError> {
    let id = snapshot_subject(record)?;
    let snapshot = ctx.snapshot(&id).await?;
    let _held = unless(cancelled, async { Ok(ctx.locks.lock(&snapshot.volume_id).await) }).await?;
    let volume = ctx.volume(&snapshot.volume_id).await?;
    if !volume.exists() {
        return Err(StepError::Refused(format!("volume {} is gone", volume.id)));
    }
    // Found complete after a crash: then it is of the moment before that crash, and the size is still the record's.
    let stored_bytes = match ctx.pool(&volume.pool)?.disk_snapshots() {
        Some(disks) => {
            point_in_time::prepare(ctx, &volume).await?;
            unless(cancelled, async {
                Ok(disks.take(&volume.id, id.as_str()).await?)
            })
            .await?
        }
        None => {
            let source = ctx.slice(&volume)?;
            let target = Slice {
                id: SliceId::Capture(id.clone()),
                ..source
            };
            point_in_time::copy(ctx, &volume, &target, cancelled).await?;
            0
        }
    };
    let now = ctx.clock.now();
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_snapshot(&id, |s| {
            s.state = SnapshotState::Running;
            s.stored_bytes = stored_bytes;
            s.created_at = now;
            s.volume_bytes = volume.size.bytes();
            s.generation = volume.generation;
            s.formatted = volume.formatted;
            s.fstype = volume.fstype.name().to_owned();
        })?;
        Ok(())
    })))
}

pub(super) async fn uncapture(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = snapshot_subject(record)?;
    let snapshot = ctx.snapshot(&id).await?;
    untake(ctx, &snapshot).await?;
    if let Some(pool) = &snapshot.pool {
        ctx.pool(pool)?.delete(&SliceId::Capture(id.clone())).await?;
    }
    let why = match &record.status {
        operation::Status::Undoing { why, .. } => why.clone(),
        _ => "given up".to_owned(),
    };
    let message = format!("snapshot {id} was given up: {why}");
    let event = ctx.event(snapshot.volume_id.as_str(), "snapshot_failed", message);
    Ok(Change::new(move |tx| {
        tx.edit_snapshot(&id, |s| {
            s.state = SnapshotState::Deleted;
            s.pool = None;
        })?;
        Ok(tx.event(&event)?)
    }))
}

/// Makes a volume's disk forget a snapshot that it keeps itself.
pub(super) async fn untake(ctx: &Context, snapshot: &Snapshot) -> Result<(), StepError> {
    if !snapshot.in_disk {
        return Ok(());
    }
    let volume = ctx.volume(&snapshot.volume_id).await?;
    let pool = ctx.pool(&volume.pool)?;
    match pool.disk_snapshots() {
        Some(disks) => match disks.remove(&volume.id, snapshot.id.as_str()).await {
            Ok(()) => Ok(()),
            // Of a deleted volume only: asking ends its process.
            Err(error) => match pool.moves().filter(|_| volume.deleted_at.is_some()) {
                Some(moves) if moves.is_elsewhere(&volume.id).await? => Ok(()),
                Some(_) | None => Err(error.into()),
            },
        },
        None => Err(StepError::Broken(format!(
            "snapshot {} is kept by a disk, and pool {} has none",
            snapshot.id, volume.pool
        ))),
    }
}

fn head(snapshot: &Snapshot, volume: &Volume) -> ManifestHead {
    ManifestHead {
        snapshot_id: snapshot.id.to_string(),
        volume_id: snapshot.volume_id.to_string(),
        app: snapshot.app.clone(),
        volume_name: snapshot.volume_name.clone(),
        region: volume.region.clone(),
        zone: Some(volume.zone.clone()),
        size_bytes: snapshot.volume_bytes,
        fstype: Some(snapshot.fstype.clone()),
        encrypted: snapshot.encrypted,
        formatted: snapshot.formatted,
        generation: snapshot.generation,
        created_at: snapshot.created_at,
        retention_days: snapshot.retention_days,
        auto_backup: snapshot.scheduled,
        atomic: true,
        parent: None,
        wrapped_key: snapshot.wrapped_key.clone(),
        stored_bytes: 0,
        data_blocks: 0,
        digest: String::new(),
    }
}

/// Returns the newest finished snapshot of the same volume, whose blocks need not be uploaded again. One that was found
/// damaged is no base: its lost blocks would be named again. Nor is one that is older than the finding and was not read
/// whole since: it may name the same blocks.
async fn base(ctx: &Context, snapshot: &Snapshot) -> Result<Option<Snapshot>, StepError> {
    let volume_id = snapshot.volume_id.clone();
    let earlier = ctx
        .catalog
        .transact(move |tx| Ok(tx.snapshots_of(&volume_id)?))
        .await?;
    let found_at = |s: &Snapshot| s.damage.as_ref().and(s.damaged_since.or(s.last_scrubbed));
    let doubt = earlier.iter().filter_map(found_at).max();
    let beyond = |at: Timestamp| doubt.is_none_or(|doubt| at > doubt);
    let usable = |s: &Snapshot| {
        s.state == SnapshotState::Created
            && s.damage.is_none()
            && (beyond(s.created_at) || s.last_verified.is_some_and(beyond))
    };
    let finished = earlier.into_iter().filter(usable);
    Ok(finished.max_by_key(|s| s.created_at))
}

pub(super) async fn upload(
    ctx: &Context,
    record: &Record,
    cancelled: &CancellationToken,
) -> Result<Run, StepError> {
    let id = snapshot_subject(record)?;
    let snapshot = ctx.snapshot(&id).await?;
    if snapshot.in_disk {
        let event = ctx.event(
            snapshot.volume_id.as_str(),
            "snapshot",
            format!("snapshot {id} is in the object store"),
        );
        return Ok(Outcome::changed(Change::new(move |tx| {
            tx.edit_snapshot(&id, |s| s.state = SnapshotState::Created)?;
            Ok(tx.event(&event)?)
        })));
    }
    let volume = ctx.volume(&snapshot.volume_id).await?;
    let pool = snapshot.pool.as_deref().unwrap_or(&volume.pool);
    let source = ctx
        .pool(pool)?
        .open_source(&ctx.capture_slice(&snapshot)?)
        .await?;
    let base = base(ctx, &snapshot).await?;
    let changed = match &base {
        Some(base) => bases::changed(ctx, base, &snapshot).await,
        None => None,
    };
    let used = base.as_ref().map(|base| base.id.clone());
    let base = base.as_ref().map(|base| Base {
        snapshot_id: base.id.as_str(),
        changed,
    });
    let (backups, head, progress) = (ctx.backups(), head(&snapshot, &volume), Progress::default());
    let uploading = async {
        match backup::upload(&backups, head, &*source, base, &progress).await {
            Ok(uploaded) => Ok(uploaded),
            Err(error @ backup::UploadError::Abandoned { .. }) => {
                Err(StepError::Broken(super::chain(&error)))
            }
            Err(error) => Err(stored(error.remedy(), &error)),
        }
    };
    // Objects that arrive late belong to a snapshot that the undo abandons; collection knows them.
    let uploaded = unless(cancelled, uploading).await?;
    let unread = match uploaded.blocks_unread {
        0 => String::new(),
        blocks => format!(", {blocks} blocks of 4 MiB known to be unchanged"),
    };
    let message = format!(
        "snapshot {id} is in the object store, {} bytes uploaded{unread}",
        uploaded.uploaded_bytes
    );
    let event = ctx.event(snapshot.volume_id.as_str(), "snapshot", message);
    let patch = json!({ "uploaded_bytes": uploaded.uploaded_bytes, "blocks_unread": uploaded.blocks_unread });
    let damaged = used.zip(uploaded.base_damage);
    if let Some((base, damage)) = &damaged {
        tracing::error!(snapshot_id = %base, %damage, "backup is damaged; the next one does not build on it");
    }
    let (now, before) = (ctx.clock.now(), just_before(snapshot.created_at));
    let change = Change::new(move |tx| {
        if let Some((base, damage)) = damaged {
            note_damage(tx, &base, damage.to_string(), now, before)?;
        }
        tx.edit_snapshot(&id, |s| {
            s.state = SnapshotState::Created;
            s.stored_bytes = uploaded.head.stored_bytes;
            s.digest = uploaded.head.digest;
        })?;
        Ok(tx.event(&event)?)
    });
    Ok(Outcome::Done { patch, change })
}

/// Returns the last moment before `at`: a damage that is dated by it casts no doubt on a snapshot of `at`.
fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(at)
}

/// Enters what was found wrong with the backup of a snapshot, and tells it, once.
///
/// * `since`: no later backup builds on a snapshot that is not younger.
pub(crate) fn note_damage(
    tx: &Tx<'_>,
    id: &SnapshotId,
    damage: String,
    now: Timestamp,
    since: Timestamp,
) -> Result<(), CatalogError> {
    // It may have been deleted meanwhile.
    let Some(snapshot) = tx.snapshot(id)?.filter(|s| s.state == SnapshotState::Created) else {
        return Ok(());
    };
    if snapshot.damage.is_none() {
        tx.event(&NewEvent {
            at: now,
            subject: snapshot.volume_id.to_string(),
            kind: "backup_damaged",
            message: format!("snapshot {id} cannot be restored: {damage}; take a new one"),
        })?;
    }
    tx.edit_snapshot(id, |s| {
        (s.damage, s.damaged_since) = (Some(damage), s.damaged_since.or(Some(since)));
    })?;
    Ok(())
}

/// Withdraws an upload: garbage collection must not wait for it, and a manifest that got through must go.
pub(super) async fn unupload(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = snapshot_subject(record)?;
    let snapshot = ctx.snapshot(&id).await?;
    if snapshot.in_disk {
        // Its first step takes it back.
        return Ok(Change::default());
    }
    let (backups, reference) = (ctx.backups(), reference(&snapshot)?);
    let abandoned = backup::abandon(&backups, &reference, ctx.clock.now())
        .await
        .map_err(|e| stored(e.remedy(), &e))?;
    if matches!(abandoned, backup::Abandoned::Published) {
        let deleted = backup::delete_manifest(&backups, &reference, ctx.clock.now()).await;
        deleted.map_err(|e| stored(e.remedy(), &e))?;
    }
    Ok(Change::default())
}

pub(super) async fn release(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = snapshot_subject(record)?;
    let snapshot = ctx.snapshot(&id).await?;
    let volume = ctx.volume(&snapshot.volume_id).await?;
    let deltas = match &snapshot.pool {
        Some(pool) => ctx.pool(pool)?.capabilities().deltas,
        None => false,
    };
    // Of a volume that is gone there is no next backup.
    if deltas && volume.exists() && snapshot.state == SnapshotState::Created {
        bases::drop_kept(ctx, &volume.id, true).await?;
    } else {
        bases::drop_one(ctx, &snapshot).await?;
    }
    Ok(Outcome::done())
}
