//! How requests are sent, and what the model learns from their answers.

use std::time::Duration;

use volumed::error::Refusal;
use volumed::pool::Device as PoolDevice;
use volumed::service::{CreateRequest, Service, UpdateRequest};
use volumed::snapshot::Snapshot;
use volumed::volume::{SnapshotId, Volume, VolumeId, VolumeState};

use super::actions::Action;
use super::host::lock;
use super::model::{Base, Deletion, Device, Early, Model, Snap, Vol};

/// What a request was answered with.
#[derive(Debug)]
pub(super) enum Answer {
    Volume(Box<Volume>),
    Attached(Box<Volume>, Box<PoolDevice>),
    Snapshot(Box<Snapshot>),
    Nothing,
}

fn volume_id(id: &str) -> Result<VolumeId, Refusal> {
    VolumeId::parse(id).map_err(|e| Refusal::internal(e.to_string()))
}

fn snapshot_id(id: &str) -> Result<SnapshotId, Refusal> {
    SnapshotId::parse(id).map_err(|e| Refusal::internal(e.to_string()))
}

/// Sends a request to volumed.
pub(super) async fn send(service: &Service, action: &Action, name: String) -> Result<Answer, Refusal> {
    let volume = |v| Answer::Volume(Box::new(v));
    match action {
        Action::Create {
            size_gb,
            base,
            encrypted,
        } => {
            let mut request = CreateRequest {
                app: Some("shop".to_owned()),
                name: Some(name),
                require_unique_zone: Some(false),
                size_gb: (*size_gb > 0).then(|| (*size_gb).into()),
                ..CreateRequest::default()
            };
            match base {
                Base::Empty => request.encrypted = Some(*encrypted),
                Base::Volume { id, .. } => request.source_volume_id = Some(id.clone()),
                Base::Snapshot { id } => request.snapshot_id = Some(id.clone()),
            }
            service.create(request).await.map(volume)
        }
        Action::Attach { id, machine } => {
            let (volume, device) = service.attach(&volume_id(id)?, machine).await?;
            Ok(Answer::Attached(Box::new(volume), Box::new(device)))
        }
        Action::Detach {
            id,
            machine,
            generation,
        } => service
            .detach(&volume_id(id)?, machine, *generation)
            .await
            .map(volume),
        Action::Extend { id, to } => service
            .extend(&volume_id(id)?, Some(&(*to).into()))
            .await
            .map(volume),
        Action::Snapshot { id, .. } => Ok(Answer::Snapshot(Box::new(
            service.take_snapshot(&volume_id(id)?).await?,
        ))),
        Action::DeleteSnapshot { id } => Ok(Answer::Snapshot(Box::new(
            service.delete_snapshot(&snapshot_id(id)?).await?,
        ))),
        Action::Destroy { id } => service.destroy(&volume_id(id)?).await.map(volume),
        Action::DestroyUnready { every_ms, chosen } => {
            for _ in 0..40 {
                let mut all = service.volumes(None, false).await?.into_iter();
                if let Some(found) = all.find(|v| unready(v.state)) {
                    *lock(chosen) = Some(found.id.to_string());
                    return service.destroy(&found.id).await.map(volume);
                }
                tokio::time::sleep(Duration::from_millis(*every_ms)).await;
            }
            Ok(Answer::Nothing)
        }
        Action::Recover { id } => service.recover(&volume_id(id)?).await.map(volume),
        Action::Update { id, counts } => {
            let [hourly, daily, weekly] = counts.map(|count| Some(count.into()));
            let request = UpdateRequest {
                snapshot_retention_hourly: hourly,
                snapshot_retention_daily: daily,
                snapshot_retention_weekly: weekly,
                ..UpdateRequest::default()
            };
            service.update(&volume_id(id)?, request).await.map(volume)
        }
        Action::Verify { id } => {
            let report = service.verify(&snapshot_id(id)?).await?;
            match report.damages.first() {
                None => Ok(Answer::Nothing),
                Some(damage) => Err(Refusal::internal(format!("DAMAGED {damage}"))),
            }
        }
    }
}

impl Model {
    /// Notes what may come of a request, should its answer be lost.
    pub(super) fn sent(&mut self, action: &Action) {
        match action {
            Action::Create { base, .. } => self.lost_creates.push(base.clone()),
            Action::Snapshot { id, from } => self.lost_snapshots.push((id.clone(), *from)),
            Action::DeleteSnapshot { id } => self.snap(id, |s| s.deleted = true),
            Action::Attach { id, machine } => self.vol(id, |v| v.holders.push(Some(machine.clone()))),
            Action::Detach { id, .. } => self.vol(id, |v| {
                v.holders.push(None);
                v.device = None;
            }),
            Action::Extend { id, to } => self.vol(id, |v| v.size_gb.1 = *to),
            Action::Destroy { id } => self.vol(id, |v| v.deletion = Deletion::Maybe),
            Action::Recover { id } => self.vol(id, |v| v.deletion = Deletion::Maybe),
            Action::DestroyUnready { .. } | Action::Update { .. } | Action::Verify { .. } => {}
        }
    }

    /// Notes what came of it. Without power nothing that was answered need be durable, and errors mean nothing.
    pub(super) fn answered(
        &mut self,
        action: &Action,
        answer: Result<Answer, Refusal>,
        powered: bool,
    ) -> Result<(), String> {
        match (action, answer) {
            (_, Err(refusal)) if refusal.sentence.contains("DAMAGED") => return Err(refusal.sentence),
            (_, Err(refusal)) if refusal.status == 500 && powered && !excusable(&refusal) => {
                return Err(format!("{action:?} was answered with 500: {refusal}"));
            }
            // What it may have done all the same is found out by looking.
            (_, Err(_)) => {}
            (_, Ok(_)) if !powered => {}
            (Action::Create { base, .. }, Ok(Answer::Volume(volume))) => {
                forget(&mut self.lost_creates, |b| b == base);
                let id = volume.id.to_string();
                let size_gb = volume.size.get();
                self.volumes
                    .entry(id)
                    .or_insert_with(|| Vol::new(size_gb, base.clone()));
            }
            (Action::Attach { id, machine }, Ok(Answer::Attached(volume, device))) => {
                let bytes = volume.size.bytes();
                let before = self.volumes.get(id).map_or(0, |v| v.generation);
                if volume.generation <= before {
                    return Err(format!(
                        "{id}: attach gave generation {} after {before}",
                        volume.generation
                    ));
                }
                self.vol(id, |v| {
                    v.holders = vec![Some(machine.clone())];
                    v.generation = volume.generation;
                    v.device = Some(Device {
                        path: device.path,
                        layout: device.layout,
                        size_bytes: bytes,
                    });
                });
            }
            (Action::Detach { id, .. }, Ok(_)) => self.vol(id, |v| v.holders = vec![None]),
            (Action::Extend { id, to }, Ok(Answer::Volume(volume))) => {
                if volume.size.get() == *to {
                    self.vol(id, |v| v.size_gb = (*to, *to));
                }
            }
            (Action::Snapshot { id, from }, Ok(Answer::Snapshot(snapshot))) => {
                forget(&mut self.lost_snapshots, |(v, f)| (v, f) == (id, from));
                let captured = snapshot.state != volumed::snapshot::SnapshotState::Waiting;
                let to = captured.then(|| self.volumes.get(id).map_or(0, Vol::now));
                let snap = Snap {
                    volume: id.clone(),
                    from: *from,
                    to,
                    content: None,
                    expires_at: snapshot.expires_at(),
                    deleted: false,
                };
                self.snapshots.entry(snapshot.id.to_string()).or_insert(snap);
            }
            (Action::Destroy { id }, Ok(_)) => self.vol(id, |v| v.deletion = Deletion::Yes),
            (Action::DestroyUnready { .. }, Ok(Answer::Volume(volume))) => {
                let early = match volume.state {
                    VolumeState::Destroying | VolumeState::Destroyed => Early::Doomed,
                    _ => Early::Yes,
                };
                self.early.insert(volume.id.to_string(), early);
            }
            (Action::Recover { id }, Ok(_)) => self.vol(id, |v| v.deletion = Deletion::No),
            (_, Ok(_)) => {}
        }
        Ok(())
    }
}

fn unready(state: VolumeState) -> bool {
    matches!(
        state,
        VolumeState::Creating | VolumeState::Restoring | VolumeState::Hydrating
    )
}

/// Removes the first that fits: of equal requests each is answered by itself.
fn forget<T>(all: &mut Vec<T>, fits: impl FnMut(&T) -> bool) {
    if let Some(index) = all.iter().position(fits) {
        all.remove(index);
    }
}

/// An error that the weather explains.
fn excusable(refusal: &Refusal) -> bool {
    ["object store", "backup", "snapshot", "manifest"]
        .iter()
        .any(|word| refusal.sentence.contains(word))
}
