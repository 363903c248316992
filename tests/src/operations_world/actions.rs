//! Random requests, crashes and weather.

use std::time::Duration;

use jiff::SignedDuration;
use rand::RngExt as _;
use sim::{Rng, StoreFaults, World};
use tokio::task::JoinSet;
use volumed::error::Refusal;
use volumed::pool::Device as PoolDevice;
use volumed::service::{CreateRequest, Service, UpdateRequest};
use volumed::snapshot::Snapshot;
use volumed::volume::{SnapshotId, Volume, VolumeId};

use super::host::{Host, Running, SPOTS};
use super::model::{Base, Deletion, Device, Model, Snap, Vol};

/// Volumes that a run makes at most: placement and capacity are not what is tried here.
const VOLUMES_MAX: usize = 6;
/// How long a batch of requests may take.
const BATCH: Duration = Duration::from_secs(300);

/// One request.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Create {
        size_gb: u32,
        base: Base,
        encrypted: bool,
    },
    Attach {
        id: String,
        machine: String,
    },
    Detach {
        id: String,
        machine: String,
        generation: u64,
    },
    Extend {
        id: String,
        to: u32,
    },
    Snapshot {
        id: String,
        from: usize,
    },
    DeleteSnapshot {
        id: String,
    },
    Destroy {
        id: String,
    },
    Recover {
        id: String,
    },
    Update {
        id: String,
    },
    Verify {
        id: String,
    },
}

/// What a request was answered with.
#[derive(Debug)]
enum Answer {
    Volume(Box<Volume>),
    Attached(Box<Volume>, Box<PoolDevice>),
    Snapshot(Box<Snapshot>),
    Nothing,
}

/// One run.
#[derive(Debug)]
pub(super) struct Game {
    pub(super) host: Host,
    pub(super) model: Model,
    pub(super) calm: bool,
    rng: Rng,
}

impl Game {
    pub(super) fn new(world: World) -> Self {
        Self {
            rng: world.rng("game"),
            model: Model::default(),
            calm: true,
            host: Host::new(world),
        }
    }

    /// Plays a run to its end.
    pub(super) async fn play(&mut self, steps: u32) -> Result<(), String> {
        let mut running = self.host.start().await?;
        for _ in 0..steps {
            self.weather();
            if self.step(&mut running).await? || !self.host.disk.is_powered() {
                running = self.restart(running).await?;
            }
            if let Err(why) = self.look(&running.service).await {
                // A fuse that was still burning may have gone off while we looked.
                if self.host.disk.is_powered() {
                    return Err(why);
                }
                running = self.restart(running).await?;
                self.look(&running.service).await?;
            }
        }
        self.finish(running).await
    }

    /// Kills volumed and starts it again; guests go on, unless the power went.
    pub(super) async fn restart(&mut self, running: Running) -> Result<Running, String> {
        self.host.kill(running).await;
        if !self.host.disk.is_powered() {
            self.host.disk.reboot();
        }
        self.host.disk.cut_power_after(u64::MAX);
        self.model.mend(&self.host.disk).await?;
        self.host.world.trace().event(format_args!("volumed starts"));
        self.host.start().await
    }

    fn weather(&mut self) {
        let faults = match self.rng.random_range(0..10) {
            0..=4 => StoreFaults::CALM,
            5..=8 => StoreFaults::ROUGH,
            _ => StoreFaults::OUTAGE,
        };
        self.calm = faults == StoreFaults::CALM;
        self.host.store.set_faults(faults);
    }

    /// Plays one step. Returns whether volumed is to be killed.
    async fn step(&mut self, running: &mut Running) -> Result<bool, String> {
        match self.rng.random_range(0..100) {
            0..=59 => self.batch(running).await,
            60..=74 => {
                self.guests_write(6).await?;
                Ok(false)
            }
            75..=84 => {
                let hours = self.rng.random_range(1..30);
                self.host.world.clock().jump(SignedDuration::from_hours(hours));
                running.service.sweep_once().await;
                Ok(false)
            }
            85..=89 => {
                running.service.collect_garbage().await;
                Ok(false)
            }
            90..=95 => {
                tokio::time::sleep(Duration::from_secs(self.rng.random_range(1..300))).await;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    async fn guests_write(&mut self, most: u32) -> Result<(), String> {
        let held: Vec<String> = self
            .model
            .volumes
            .iter()
            .filter(|(_, v)| v.device.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        for _ in 0..self.rng.random_range(0..=most) {
            let id = held[self.rng.random_range(0..held.len())].clone();
            let spot = self.rng.random_range(0..SPOTS.len());
            self.model.write(&self.host.disk, &id, spot).await?;
            if !self.host.disk.is_powered() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends a few requests at once, each about another volume, while guests write and, perhaps, something crashes.
    async fn batch(&mut self, running: &mut Running) -> Result<bool, String> {
        match self.rng.random_range(0..10) {
            0 | 1 => self.host.fuse.set(self.rng.random_range(1..14)),
            2 => self.host.disk.cut_power_after(self.rng.random_range(0..80)),
            _ => {}
        }
        let mut calls = JoinSet::new();
        let mut touched = Vec::new();
        for _ in 0..self.rng.random_range(1..=3) {
            let Some(action) = self.pick(&touched) else {
                continue;
            };
            touched.extend(action.subject().map(str::to_owned));
            self.host.world.trace().event(format_args!("request {action:?}"));
            self.model.sent(&action);
            let (service, name) = (running.service.clone(), format!("v{}", self.model.names));
            self.model.names += 1;
            calls.spawn(async move {
                let answer = send(&service, &action, name).await;
                (action, answer)
            });
        }
        self.guests_write(3).await?;
        let deadline = tokio::time::Instant::now() + BATCH;
        loop {
            tokio::select! {
                biased;
                how = running.crashed() => {
                    if how == "dropped" { return Ok(true) }
                    return Err(format!("the driver ended: {how}"));
                }
                answered = calls.join_next() => match answered {
                    None => break,
                    Some(Ok((action, answer))) => {
                        let line = answer.as_ref().map(|_| "done").map_err(ToString::to_string);
                        self.host.world.trace().event(format_args!("answer {line:?} to {action:?}"));
                        self.model.answered(&action, answer, self.host.disk.is_powered())?;
                        if self.host.disk.is_powered() { self.guests_write(2).await?; }
                    }
                    Some(Err(panic)) => return Err(format!("a request panicked: {panic}")),
                },
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        self.host.fuse.set(0);
        Ok(!self.host.disk.is_powered())
    }

    /// Chooses a request that the model expects to be carried out.
    fn pick(&mut self, touched: &[String]) -> Option<Action> {
        let free_to_touch = |id: &&String| !touched.contains(id);
        let living: Vec<String> = self.model.living().filter(free_to_touch).cloned().collect();
        let snapshots: Vec<String> = self.model.restorable().filter(free_to_touch).cloned().collect();
        let few = self.model.living().count() < VOLUMES_MAX;
        if living.is_empty() || (few && self.rng.random_range(0..6) == 0) {
            let size_gb = self.rng.random_range(1..=2);
            return few.then(|| Action::Create {
                size_gb,
                base: Base::Empty,
                encrypted: self.rng.random_bool(0.15),
            });
        }
        let id = living[self.rng.random_range(0..living.len())].clone();
        let roll = self.rng.random_range(0..20);
        let vol = &self.model.volumes[&id];
        let snapshot =
            (!snapshots.is_empty()).then(|| snapshots[self.rng.random_range(0..snapshots.len())].clone());
        Some(match (roll, vol.deletion, snapshot) {
            (_, Deletion::Yes | Deletion::Maybe, _) if roll < 8 => Action::Recover { id },
            (_, Deletion::Yes | Deletion::Maybe, _) => return None,
            (0..=4, ..) if vol.free() => {
                self.model.names += 1;
                Action::Attach {
                    id,
                    machine: format!("m{}", self.model.names),
                }
            }
            (0..=1, ..) => {
                let machine = vol.holder()?.to_owned();
                Action::Detach {
                    id,
                    machine,
                    generation: vol.generation,
                }
            }
            (5..=6, ..) if vol.size_gb.1 < 6 => Action::Extend {
                to: vol.size_gb.1 + 1,
                id,
            },
            (7..=10, ..) => Action::Snapshot { from: vol.now(), id },
            (11..=12, ..) if few && vol.ready => {
                let base = Base::Volume { from: vol.now(), id };
                Action::Create {
                    size_gb: 0,
                    base,
                    encrypted: false,
                }
            }
            (13..=14, _, Some(snapshot)) if few => Action::Create {
                size_gb: 0,
                base: Base::Snapshot { id: snapshot },
                encrypted: false,
            },
            (15, _, Some(snapshot)) => Action::DeleteSnapshot { id: snapshot },
            (16, _, Some(snapshot)) => Action::Verify { id: snapshot },
            (17, ..) if vol.free() => Action::Destroy { id },
            (18, ..) => Action::Update { id },
            _ => return None,
        })
    }
}

impl Action {
    /// Returns what no other request of the same batch may touch.
    fn subject(&self) -> Option<&str> {
        match self {
            Self::Create {
                base: Base::Empty, ..
            } => None,
            Self::Create {
                base: Base::Volume { id, .. } | Base::Snapshot { id },
                ..
            }
            | Self::Attach { id, .. }
            | Self::Detach { id, .. }
            | Self::Extend { id, .. }
            | Self::Snapshot { id, .. }
            | Self::DeleteSnapshot { id }
            | Self::Destroy { id }
            | Self::Recover { id }
            | Self::Update { id }
            | Self::Verify { id } => Some(id),
        }
    }
}

fn volume_id(id: &str) -> Result<VolumeId, Refusal> {
    VolumeId::parse(id).map_err(|e| Refusal::internal(e.to_string()))
}

fn snapshot_id(id: &str) -> Result<SnapshotId, Refusal> {
    SnapshotId::parse(id).map_err(|e| Refusal::internal(e.to_string()))
}

async fn send(service: &Service, action: &Action, name: String) -> Result<Answer, Refusal> {
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
        Action::Recover { id } => service.recover(&volume_id(id)?).await.map(volume),
        Action::Update { id } => service
            .update(&volume_id(id)?, UpdateRequest::default())
            .await
            .map(volume),
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
    fn sent(&mut self, action: &Action) {
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
            Action::Update { .. } | Action::Verify { .. } => {}
        }
    }

    /// Notes what came of it. Without power nothing that was answered need be durable, and errors mean nothing.
    fn answered(
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
            (Action::Recover { id }, Ok(_)) => self.vol(id, |v| v.deletion = Deletion::No),
            (_, Ok(_)) => {}
        }
        Ok(())
    }
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
