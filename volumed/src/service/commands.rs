use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use operation::Handle;
use serde::Deserialize;
use serde_json::{Number, json};

use super::fields::{check_counts, check_retention};
use super::{Service, refusal};
use crate::backup::{self, Progress, SnapshotRef};
use crate::catalog::{Change, Event, NewEvent, OperationRow, TxError};
use crate::error::Refusal;
use crate::lifecycle::{self, Command, Plan};
use crate::ops::{DESTROY, EXPIRE, PURGE, RECOVER, SNAPSHOT, chain, mounted_here};
use crate::scrub::Check;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{Origin, SnapshotId, Volume, VolumeId, VolumeState};

/// How long the list of all snapshots waits for the bucket.
const LIST_WAIT: Duration = Duration::from_secs(10);
/// How often a request looks again when what it was decided on has changed.
const DECISIONS_MAX: u32 = 4;
/// Longest answer of a list of events or operations.
const LIST_MAX: u32 = 1000;

/// Refuses a snapshot that is not finished: for the moment, or for ever.
pub(super) fn unfinished(snapshot: &Snapshot, wish: &str) -> Result<(), Refusal> {
    let (id, state) = (&snapshot.id, snapshot.state.name());
    match snapshot.state {
        SnapshotState::Created => Ok(()),
        SnapshotState::Waiting | SnapshotState::Running => Err(Refusal::conflict(format!(
            "snapshot {id} is {state}; {wish} it when it is created"
        ))),
        SnapshotState::Deleting | SnapshotState::Deleted => {
            Err(Refusal::precondition(format!("snapshot {id} is {state}")))
        }
    }
}

/// New settings; absent and null leave a field alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UpdateRequest {
    /// Days, 1 to 60; for new snapshots only.
    pub snapshot_retention: Option<Number>,
    /// Hours that have a scheduled snapshot which stays; more than 0 makes the schedule hourly.
    pub snapshot_retention_hourly: Option<Number>,
    /// Days that have one which stays.
    pub snapshot_retention_daily: Option<Number>,
    /// Weeks that have one which stays.
    pub snapshot_retention_weekly: Option<Number>,
    /// Whether it is snapshotted by schedule.
    pub auto_backup_enabled: Option<bool>,
}

impl Service {
    /// Returns volumes in the order of creation; those finally destroyed only if asked for.
    pub async fn volumes(
        &self,
        app: Option<String>,
        include_destroyed: bool,
    ) -> Result<Vec<Volume>, Refusal> {
        let all = self
            .ctx
            .catalog
            .transact(|tx| Ok(tx.volumes()?))
            .await
            .map_err(refusal)?;
        let wanted = |v: &Volume| {
            app.as_ref().is_none_or(|app| &v.app == app)
                && (v.exists() || (include_destroyed && v.failure.is_none() && v.left_at.is_none()))
        };
        Ok(all.into_iter().filter(wanted).collect())
    }

    /// Changes settings.
    ///
    /// # Errors
    /// 422 for a retention out of range, 412 for a deleted volume.
    pub async fn update(&self, id: &VolumeId, request: UpdateRequest) -> Result<Volume, Refusal> {
        let retention = check_retention(request.snapshot_retention.as_ref())?;
        let (id, now) = (id.clone(), self.ctx.clock.now());
        let updated = self.ctx.catalog.transact(move |tx| {
            let volume = tx
                .volume(&id)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            lifecycle::plan(&volume, &Command::Update)?;
            let counts = check_counts(
                volume.snapshot_counts,
                [
                    request.snapshot_retention_hourly.as_ref(),
                    request.snapshot_retention_daily.as_ref(),
                    request.snapshot_retention_weekly.as_ref(),
                ],
            )?;
            Ok(tx.edit_volume(&id, |v| {
                v.snapshot_counts = counts;
                v.snapshot_retention = retention.unwrap_or(v.snapshot_retention);
                v.auto_backup_enabled = request.auto_backup_enabled.unwrap_or(v.auto_backup_enabled);
                v.updated_at = now;
            })?)
        });
        updated.await.map_err(refusal)
    }

    /// Deletes a volume: recoverably when it was ready, for good when it was still being filled.
    ///
    /// # Errors
    /// 412 while it is attached, 409 while another operation changes it.
    pub async fn destroy(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        for _ in 0..DECISIONS_MAX {
            let volume = self.volume(id).await?;
            match lifecycle::plan(&volume, &Command::Destroy)? {
                Plan::Already => return Ok(volume),
                Plan::CancelCreation => {
                    if let Some(deleted) = self.cancel_creation(&volume).await? {
                        return Ok(deleted);
                    }
                }
                Plan::Go => return self.schedule_destroy(id).await,
            }
        }
        Err(Refusal::conflict(format!(
            "volume {id} changes all the time; try again"
        )))
    }

    async fn schedule_destroy(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        let now = self.ctx.clock.now();
        let grace = SignedDuration::try_from(self.ctx.settings.destroy_grace).unwrap_or(SignedDuration::MAX);
        let purge_after = now.checked_add(grace).unwrap_or(Timestamp::MAX);
        let begun = self.begin_on_volume(id, DESTROY, json!({}), Command::Destroy, move |v| {
            v.state = VolumeState::SchedulingDestroy;
            v.deleted_at = Some(now);
            v.purge_after = Some(purge_after);
            v.updated_at = now;
        });
        self.settle(&mut begun.await?).await?;
        self.volume(id).await
    }

    /// Gives up the operation that is filling a volume. Its undo removes the volume; whatever crashes, it comes to that.
    ///
    /// Returns the volume as deleted, or none when the operation has ended meanwhile.
    async fn cancel_creation(&self, volume: &Volume) -> Result<Option<Volume>, Refusal> {
        let subject = volume.id.to_string();
        let running = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.running_operation(&subject)?));
        let Some(running) = running.await.map_err(refusal)? else {
            return Ok(None);
        };
        let (id, now) = (volume.id.clone(), self.ctx.clock.now());
        let deleted = NewEvent {
            at: now,
            subject: id.to_string(),
            kind: "deleted",
            message: "volume was deleted before it was ready; it cannot be recovered".to_owned(),
        };
        let change = Change::new(move |tx| {
            // While it is being filled, no other operation than the one that fills it is running.
            let now_is = tx
                .volume(&id)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            if lifecycle::plan(&now_is, &Command::Destroy)? != Plan::CancelCreation {
                return Err(Refusal::conflict(format!("volume {id} changed meanwhile; try again")).into());
            }
            tx.edit_volume(&id, |v| {
                v.state = VolumeState::Destroying;
                v.deleted_at = Some(now);
                v.updated_at = now;
            })?;
            Ok(tx.event(&deleted)?)
        });
        let why = "deleted before it was ready";
        if !self.cancel(&running.id, why, change).await? {
            return Ok(None);
        }
        let id = volume.id.clone();
        let found = self.ctx.catalog.transact(move |tx| Ok(tx.volume(&id)?));
        found.await.map_err(refusal)
    }

    /// Brings a deleted volume back.
    ///
    /// # Errors
    /// 412 when its bytes are being removed already.
    pub async fn recover(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        let volume = self.volume(id).await?;
        if lifecycle::plan(&volume, &Command::Recover)? == Plan::Already {
            return Ok(volume);
        }
        let now = self.ctx.clock.now();
        let begun = self.begin_on_volume(id, RECOVER, json!({}), Command::Recover, move |v| {
            v.state = VolumeState::Recovering;
            v.updated_at = now;
        });
        self.settle(&mut begun.await?).await?;
        self.volume(id).await
    }

    /// Deletes a volume for good, without grace. Its snapshots stay for their retention.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub async fn purge(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        // Before anything is deleted: what is refused changes nothing.
        let now = self.volume(id).await?;
        if lifecycle::plan(&now, &Command::Destroy)? == Plan::Go {
            self.check_keeps_nothing(id).await?;
        }
        let volume = self.destroy(id).await?;
        match volume.state {
            VolumeState::PendingDestroy => {}
            VolumeState::Destroying | VolumeState::Destroyed => return Ok(volume),
            _ => {
                return Err(Refusal::conflict(format!(
                    "volume {id} is still being deleted; try again"
                )));
            }
        }
        let mut begun = self.begin_purging(id).await?;
        self.settle(&mut begun).await?;
        let id = id.clone();
        let purged = self.ctx.catalog.transact(move |tx| Ok(tx.volume(&id)?));
        Ok(purged.await.map_err(refusal)?.unwrap_or(volume))
    }

    pub(crate) async fn begin_purge(&self, id: &VolumeId) -> Result<(), Refusal> {
        self.begin_purging(id).await.map(drop)
    }

    async fn begin_purging(&self, id: &VolumeId) -> Result<Handle, Refusal> {
        self.check_keeps_nothing(id).await?;
        let begun = self.begin_on_volume(id, PURGE, json!({}), Command::Purge, |v| {
            v.state = VolumeState::Destroying
        });
        begun.await
    }

    /// Refuses a volume that keeps snapshots itself.
    async fn check_keeps_nothing(&self, id: &VolumeId) -> Result<(), Refusal> {
        let wanted = id.clone();
        let snapshots = self.ctx.catalog.transact(move |tx| Ok(tx.snapshots_of(&wanted)?));
        let snapshots = snapshots.await.map_err(refusal)?;
        let kept = snapshots.iter().filter(|s| s.needs_its_volume()).count();
        if kept > 0 && !self.is_elsewhere(id).await? {
            return Err(Refusal::precondition(format!(
                "volume {id} keeps its {kept} snapshots itself; delete them first, or leave it: it goes when the last of them has \
                 expired"
            )));
        }
        Ok(())
    }

    /// Says whether another node has claimed a deleted volume since: then its snapshots are that one's, too.
    async fn is_elsewhere(&self, id: &VolumeId) -> Result<bool, Refusal> {
        let pool = self.pool(&self.volume(id).await?.pool)?;
        let Some(moves) = pool.moves() else {
            return Ok(false);
        };
        let unknown = |error| Refusal::unavailable(format!("{}; try again", chain(&error)));
        moves.is_elsewhere(id).await.map_err(unknown)
    }

    /// Takes a snapshot; answers when the point in time is taken, not when it is uploaded.
    ///
    /// # Errors
    /// 409 while the volume is not ready, 412 when it is deleted, 422 when a capture has no room.
    pub async fn take_snapshot(&self, id: &VolumeId) -> Result<Snapshot, Refusal> {
        let (snapshot, mut handle) = self.begin_snapshot(id, None).await?;
        let captured = handle.until(|record| record.next > 0);
        match tokio::time::timeout(self.ctx.settings.answer_within, captured).await {
            Ok(record) if record.status.ended() => drop(self.settle(&mut handle).await?),
            Ok(_) | Err(_) => {}
        }
        self.snapshot(&snapshot).await
    }

    pub(crate) async fn begin_snapshot(
        &self,
        id: &VolumeId,
        slot: Option<Timestamp>,
    ) -> Result<(SnapshotId, Handle), Refusal> {
        let volume = self.volume(id).await?;
        let in_disk = self.pool(&volume.pool)?.disk_snapshots().is_some();
        if volume.host_path.is_some() && !self.pool(&volume.pool)?.capabilities().atomic_snapshot {
            return Err(Refusal::invalid(mounted_here(&volume)));
        }
        let pool = &**self.pool(&volume.pool)?;
        let copied_bytes = if pool.capabilities().reflink {
            0
        } else {
            volume.size.bytes()
        };
        let room = self.room(pool, copied_bytes).await?;
        let (snapshot_id, now) = (SnapshotId::generate(&*self.ctx.random), self.ctx.clock.now());
        let (subject, new) = (id.clone(), snapshot_id.clone());
        let change = Change::new(move |tx| {
            let volume = tx
                .volume(&subject)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            lifecycle::plan(&volume, &Command::Snapshot)?;
            if room.captures_count {
                room.check(tx, &volume.pool, volume.size.bytes())?;
            }
            tx.put_snapshot(&waiting(new, &volume, now, slot.is_some(), in_disk))?;
            if slot.is_some() {
                // Served even if it fails: the next slot is tried, not this one for ever.
                tx.edit_volume(&subject, |v| {
                    v.scheduled_slot = slot;
                    v.snapshot_blocked = None;
                })?;
            }
            Ok(())
        });
        let handle = self
            .submit(snapshot_id.as_str(), SNAPSHOT, json!({}), change)
            .await?;
        Ok((snapshot_id, handle))
    }

    /// Begins a scheduled snapshot. What stands in its way and does not go away by itself is told once, until one begins.
    pub(crate) async fn begin_scheduled(&self, id: &VolumeId, slot: Timestamp) -> Result<(), Refusal> {
        let refused = match self.begin_snapshot(id, Some(slot)).await {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        if refused.status != 422 {
            return Err(refused);
        }
        let (id, now, why) = (id.clone(), self.ctx.clock.now(), refused.sentence.clone());
        let noted = self.ctx.catalog.transact(move |tx| {
            let blocked = tx.volume(&id)?.is_some_and(|v| v.snapshot_blocked.is_some());
            if !blocked {
                tracing::warn!(volume_id = %id, why, "scheduled snapshot not taken");
                tx.event(&NewEvent {
                    at: now,
                    subject: id.to_string(),
                    kind: "snapshot_blocked",
                    message: format!("scheduled snapshots are not taken: {why}"),
                })?;
                tx.edit_volume(&id, |v| v.snapshot_blocked = Some(why))?;
            }
            Ok(())
        });
        noted.await.map_err(refusal)?;
        Err(refused)
    }

    /// Returns a snapshot.
    ///
    /// # Errors
    /// 404.
    pub async fn snapshot(&self, id: &SnapshotId) -> Result<Snapshot, Refusal> {
        let mut found = self.known_snapshot(id).await?;
        if found.is_none() && !self.adopted_once() {
            self.adopt_first().await;
            found = self.known_snapshot(id).await?;
        }
        match found {
            Some(found) if found.state != SnapshotState::Deleted => Ok(found),
            // On a fresh host the bucket is all that knows of it.
            None if !self.adopted_once() => Err(Refusal::unavailable(format!(
                "snapshot {id} is not known here, and the object store has not answered since the start; try again when it does"
            ))),
            Some(_) | None => Err(Refusal::missing(format!(
                "snapshot {id} not found; list the snapshots to see which there are"
            ))),
        }
    }

    async fn known_snapshot(&self, id: &SnapshotId) -> Result<Option<Snapshot>, Refusal> {
        let wanted = id.clone();
        let known = self.ctx.catalog.transact(move |tx| Ok(tx.snapshot(&wanted)?));
        known.await.map_err(refusal)
    }

    /// Returns a volume's snapshots, oldest first; also of a volume that is gone.
    ///
    /// # Errors
    /// 404 when neither the volume nor a snapshot of it is known.
    pub async fn snapshots_of(&self, id: &VolumeId) -> Result<Vec<Snapshot>, Refusal> {
        self.adopt_first().await;
        let wanted = id.clone();
        let found = self
            .ctx
            .catalog
            .transact(move |tx| Ok((tx.volume(&wanted)?, tx.snapshots_of(&wanted)?)));
        match found.await.map_err(refusal)? {
            (None, snapshots) if snapshots.is_empty() => Err(Refusal::missing("volume not found")),
            (_, snapshots) => Ok(snapshots.into_iter().filter(Snapshot::listed).collect()),
        }
    }

    /// Returns all snapshots, oldest first, those found in the bucket included.
    pub async fn snapshots(&self, app: Option<String>) -> Result<Vec<Snapshot>, Refusal> {
        self.adopt_first().await;
        let all = self
            .ctx
            .catalog
            .transact(|tx| Ok(tx.snapshots()?))
            .await
            .map_err(refusal)?;
        let wanted = |s: &Snapshot| s.listed() && app.as_ref().is_none_or(|app| &s.app == app);
        Ok(all.into_iter().filter(wanted).collect())
    }

    /// Lists the bucket if that was not done since the start. A store that does not answer does not keep anybody from
    /// seeing what the catalog knows; the housekeeper goes on trying.
    async fn adopt_first(&self) {
        if !self.adopted_once()
            && let Err(why) = self.adopt(LIST_WAIT).await
        {
            tracing::warn!(
                why,
                "bucket not listed; snapshots shown as the catalog knows them"
            );
        }
    }

    /// Deletes a snapshot, or gives it up when it is not finished.
    ///
    /// # Errors
    /// 409 while a volume is being restored from it.
    pub async fn delete_snapshot(&self, id: &SnapshotId) -> Result<Snapshot, Refusal> {
        let snapshot = self.snapshot(id).await?;
        let mut handle = if snapshot.in_progress() {
            self.give_up_snapshot(id).await?
        } else if snapshot.state == SnapshotState::Deleting {
            return Ok(snapshot);
        } else {
            self.begin_expire(id).await?
        };
        // A store that does not answer delays the deletion; it is on its way and the answer says so.
        let _ = tokio::time::timeout(self.ctx.settings.answer_within.min(LIST_WAIT), handle.end()).await;
        let wanted = id.clone();
        let now = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.snapshot(&wanted)?))
            .await
            .map_err(refusal)?;
        Ok(now.unwrap_or(snapshot))
    }

    async fn give_up_snapshot(&self, id: &SnapshotId) -> Result<Handle, Refusal> {
        let changed = || Refusal::conflict(format!("snapshot {id} changed meanwhile; try again"));
        let subject = id.to_string();
        let running = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.running_operation(&subject)?));
        let running = running
            .await
            .map_err(refusal)?
            .and_then(|r| self.runner.follow(&r.id));
        let handle = running.ok_or_else(changed)?;
        let (subject, late) = (id.clone(), changed());
        let change = Change::new(move |tx| {
            // Past its upload it is finished, and goes the way of finished ones.
            if !tx.snapshot(&subject)?.is_some_and(|s| s.in_progress()) {
                return Err(late.into());
            }
            tx.edit_snapshot(&subject, |s| s.state = SnapshotState::Deleting)?;
            Ok(())
        });
        match self
            .cancel(handle.id(), "deleted before it was finished", change)
            .await?
        {
            true => Ok(handle),
            false => Err(changed()),
        }
    }

    pub(crate) async fn begin_expire(&self, id: &SnapshotId) -> Result<Handle, Refusal> {
        let subject = id.clone();
        let change = Change::new(move |tx| {
            let restoring = |v: &Volume| {
                matches!(&v.origin, Origin::Snapshot { snapshot_id } if *snapshot_id == subject)
                    && matches!(v.state, VolumeState::Creating | VolumeState::Restoring)
            };
            if let Some(volume) = tx.existing_volumes()?.iter().find(|v| restoring(v)) {
                return Err(Refusal::conflict(format!(
                    "volume {} is being restored from snapshot {subject}; delete it when that has ended",
                    volume.id
                ))
                .into());
            }
            let snapshot = tx
                .snapshot(&subject)?
                .ok_or_else(|| Refusal::missing("snapshot not found"))?;
            if snapshot.state != SnapshotState::Created {
                let state = snapshot.state.name();
                return Err(Refusal::conflict(format!("snapshot {subject} is {state}; try again")).into());
            }
            tx.edit_snapshot(&subject, |s| s.state = SnapshotState::Deleting)?;
            Ok(())
        });
        self.submit(id.as_str(), EXPIRE, json!({}), change).await
    }

    /// Reads a whole backup back and checks every block.
    ///
    /// # Errors
    /// 409 for a snapshot that is not finished, 412 for one that is deleted, 503 when the store does not answer.
    pub async fn verify(&self, id: &SnapshotId) -> Result<backup::VerifyReport, Refusal> {
        let snapshot = self.snapshot(id).await?;
        unfinished(&snapshot, "verify")?;
        if snapshot.in_disk {
            return Err(Refusal::invalid(format!(
                "snapshot {id} is no backup: the disk of volume {} keeps it; check that with `volumed fsck {}`",
                snapshot.volume_id, snapshot.volume_id
            )));
        }
        let reference = SnapshotRef::new(snapshot.volume_id.as_str(), id.as_str());
        let reference = reference.map_err(|e| Refusal::internal(e.to_string()))?;
        let verified = backup::verify(&self.ctx.backups(), &reference, &Progress::default()).await;
        let report = match verified {
            Ok(report) => report,
            Err(error) => match super::scrub::lost(&error) {
                Some(damage) => backup::VerifyReport {
                    damages: vec![damage],
                    ..backup::VerifyReport::default()
                },
                None if error.remedy() == objstore::Remedy::Retry => {
                    return Err(Refusal::unavailable(format!(
                        "{}; the object store does not answer, try again when it does",
                        chain(&error)
                    )));
                }
                None => return Err(Refusal::internal(chain(&error))),
            },
        };
        let damages: Vec<String> = report.damages.iter().map(ToString::to_string).collect();
        self.note_look(id, Check::Restore, &damages).await?;
        Ok(report)
    }

    /// Returns operations, newest first.
    pub async fn operations(&self, subject: Option<String>) -> Result<Vec<OperationRow>, Refusal> {
        let found = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.operations(subject.as_deref(), LIST_MAX)?));
        found.await.map_err(refusal)
    }

    /// Returns events after a number, oldest first.
    pub async fn events(&self, after: i64) -> Result<Vec<Event>, Refusal> {
        self.ctx
            .catalog
            .transact(move |tx| Ok(tx.events(after, LIST_MAX)?))
            .await
            .map_err(refusal)
    }

    /// Returns the ids of running operations by subject.
    pub async fn running(&self) -> Result<std::collections::HashMap<String, String>, Refusal> {
        let running: Result<_, TxError> = self.ctx.catalog.transact(|tx| Ok(tx.running_operations()?)).await;
        Ok(running
            .map_err(refusal)?
            .into_iter()
            .map(|r| (r.subject, r.id.to_string()))
            .collect())
    }
}

fn waiting(id: SnapshotId, volume: &Volume, now: Timestamp, scheduled: bool, in_disk: bool) -> Snapshot {
    Snapshot {
        id,
        volume_id: volume.id.clone(),
        app: volume.app.clone(),
        volume_name: volume.name.clone(),
        state: SnapshotState::Waiting,
        scheduled,
        created_at: now,
        retention_days: volume.snapshot_retention,
        volume_bytes: volume.size.bytes(),
        stored_bytes: 0,
        digest: String::new(),
        pool: (!in_disk).then(|| volume.pool.clone()),
        in_disk,
        encrypted: volume.encrypted,
        generation: volume.generation,
        formatted: volume.formatted,
        fstype: volume.fstype.name().to_owned(),
        wrapped_key: volume.wrapped_key.clone(),
        last_verified: None,
        last_scrubbed: None,
        damage: None,
        damaged_since: None,
    }
}
