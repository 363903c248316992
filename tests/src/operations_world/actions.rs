//! Random requests, crashes and weather.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::wall_clock::WallClock as _;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use sim::{Rng, StoreFaults, World};
use tokio::task::JoinSet;
use volumed::service::Service;

use super::answers::send;
use super::host::{Host, Running, SPOTS, lock};
use super::model::{Base, Deletion, Early, Model};

/// Volumes that a run makes at most: placement and capacity are not what is tried here.
const VOLUMES_MAX: usize = 6;
/// How long the clock must be steady before volumed removes anything on its word.
pub(super) const CLOCK_SETTLE: Duration = Duration::from_secs(600);
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
    /// Destroys whatever volume is seen half-made.
    DestroyUnready {
        every_ms: u64,
        /// Which it came to be, once the request is on its way.
        chosen: Chosen,
    },
    Recover {
        id: String,
    },
    Update {
        id: String,
        /// Hours, days and weeks to keep a scheduled snapshot of.
        counts: [u32; 3],
    },
    Verify {
        id: String,
    },
}

/// The volume that a request chose by itself.
type Chosen = Arc<Mutex<Option<String>>>;

/// One run.
#[derive(Debug)]
pub(super) struct Game {
    pub(super) host: Host,
    pub(super) model: Model,
    pub(super) calm: bool,
    /// The latest moment that the wall clock ever showed.
    pub(super) latest: Timestamp,
    rng: Rng,
}

impl Game {
    pub(super) fn new(world: World) -> Self {
        Self {
            rng: world.rng("game"),
            model: Model::default(),
            calm: true,
            latest: Timestamp::MIN,
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
                let hours = match self.rng.random_range(0..8) {
                    0 => self.rng.random_range(-60..0),
                    1 => self.rng.random_range(100..400),
                    _ => self.rng.random_range(1..30),
                };
                self.jump(running, hours).await?;
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

    /// Sets the wall clock; the housekeeper looks at once, and again when the clock was steady for long enough.
    async fn jump(&mut self, running: &Running, hours: i64) -> Result<(), String> {
        let clock = self.host.world.clock();
        clock.jump(SignedDuration::from_hours(hours));
        self.host
            .world
            .trace()
            .event(format_args!("clock jumps {hours} h"));
        let before = removals(&running.service).await?;
        running.service.sweep_once().await;
        if removals(&running.service).await? != before {
            return Err(format!("removed on the word of a clock that jumped {hours} h"));
        }
        tokio::time::sleep(CLOCK_SETTLE).await;
        self.latest = self.latest.max(clock.now());
        running.service.sweep_once().await;
        Ok(())
    }

    async fn guests_write(&mut self, most: u32) -> Result<(), String> {
        let held: Vec<String> = self
            .model
            .volumes
            .iter()
            // Before its first content was looked at, nobody could tell a guest's write from a wrong copy.
            .filter(|(_, v)| v.device.is_some() && v.base.is_none())
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
        let mut actions = Vec::new();
        let mut touched = Vec::new();
        for _ in 0..self.rng.random_range(1..=3) {
            let Some(action) = self.pick(&touched) else {
                continue;
            };
            touched.extend(action.subject().map(str::to_owned));
            actions.push(action);
        }
        let chosen = Chosen::default();
        if self.rng.random_bool(0.3) {
            actions.push(Action::DestroyUnready {
                every_ms: self.rng.random_range(0..400),
                chosen: Arc::clone(&chosen),
            });
        }
        let killed = self.answers(running, actions).await;
        // Answered or not, it may be on its way.
        if let Some(id) = lock(&chosen).take() {
            self.model.early.entry(id).or_insert(Early::Maybe);
        }
        self.host.fuse.set(0);
        killed
    }

    /// Sends requests and hears their answers. Returns whether volumed is to be killed.
    async fn answers(&mut self, running: &mut Running, actions: Vec<Action>) -> Result<bool, String> {
        let mut calls = JoinSet::new();
        for action in actions {
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
            (18, ..) => Action::Update {
                id,
                counts: std::array::from_fn(|_| self.rng.random_range(0..3)),
            },
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
            }
            | Self::DestroyUnready { .. } => None,
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
            | Self::Update { id, .. }
            | Self::Verify { id } => Some(id),
        }
    }
}

/// Counts the removals ever begun by the housekeeper.
async fn removals(service: &Service) -> Result<usize, String> {
    let all = service.operations(None).await.map_err(|e| e.to_string())?;
    let removes = |kind: &str| kind == "purge" || kind == "expire";
    Ok(all.iter().filter(|row| removes(&row.record.kind)).count())
}
