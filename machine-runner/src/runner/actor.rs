//! One machine's actor: the only writer of its record. Requests, news of the shim and due times come in one after
//! the other; what takes long runs in tasks that report back.

use std::collections::BTreeMap;
use std::sync::Arc;

use daemon::ApiError;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::launch::{LaunchError, Launched};
use super::{Runner, View, watch_shim};
use crate::catalog::Change;
use crate::checks::{Schedule, Tried};
use crate::lifecycle::{Request, State, Then};
use crate::machine_config::MachineConfig;
use crate::record::{Event, ImageRef, MachineRecord, Version};
use crate::shim::client::ShimClient;
use crate::shim::facts::{ProcessRef, Status};

/// How a stop is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopArgs {
    /// Signal number instead of the configured one.
    pub signal: Option<i32>,
    /// Timeout in milliseconds instead of the configured one.
    pub timeout_ms: Option<u64>,
    /// Kill at once.
    pub kill: bool,
}

/// A new configuration.
#[derive(Clone, Debug)]
pub struct UpdateArgs {
    /// As it was sent.
    pub config: Value,
    /// The image that it names, resolved.
    pub image: ImageRef,
    /// The app's secrets, when they came along.
    pub secrets: Option<BTreeMap<String, String>>,
}

/// What a request led to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// State before it.
    pub previous: State,
    /// The record after it.
    pub record: MachineRecord,
}

type Answer = oneshot::Sender<Result<Outcome, ApiError>>;
/// A change of the record that needs nothing but the record.
type Edit = Box<dyn FnOnce(&mut MachineRecord) -> Result<(), ApiError> + Send>;

/// What comes to an actor.
pub enum Command {
    /// A user's request.
    Ask {
        /// Which.
        request: Request,
        /// How to stop, where it comes to that.
        stop: StopArgs,
        /// The new configuration of an update.
        update: Option<Box<UpdateArgs>>,
        /// Where the answer goes.
        answer: Answer,
    },
    /// Stop with the node, and start with it again.
    Drain {
        /// Answered when the stop is on its way, or there is nothing to stop.
        answer: Answer,
    },
    /// A change of the record that no guest notices.
    Edit {
        /// The change.
        edit: Edit,
        /// Where the answer goes.
        answer: Answer,
    },
    /// A launch has come to its end.
    Launched {
        /// Of this boot.
        boot_id: String,
        /// How.
        result: Result<Launched, LaunchError>,
    },
    /// News of the shim.
    Report(Box<Status>),
    /// The shim is gone without a last word.
    Lost {
        /// Of this boot.
        boot_id: String,
        /// Its QEMU, which may live.
        qemu: Option<ProcessRef>,
    },
    /// A suspension has come to its end; true when the machine is on disk.
    SuspendEnded(Result<bool, String>),
    /// A check was tried.
    Tried {
        /// Name of the check.
        name: String,
        /// Result.
        tried: Tried,
        /// Of this boot.
        boot_id: String,
    },
    /// What a destroyed machine leaves behind was removed, or not.
    Removed(Result<(), String>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ask { .. } => "Ask",
            Self::Drain { .. } => "Drain",
            Self::Edit { .. } => "Edit",
            Self::Launched { .. } => "Launched",
            Self::Report(_) => "Report",
            Self::Lost { .. } => "Lost",
            Self::SuspendEnded(_) => "SuspendEnded",
            Self::Tried { .. } => "Tried",
            Self::Removed(_) => "Removed",
        })
    }
}

/// The actor's own state; everything that must survive is in the record.
pub(super) struct Actor {
    pub(super) runner: Arc<Runner>,
    pub(super) record: MachineRecord,
    pub(super) config: Option<MachineConfig>,
    pub(super) shim: ShimClient,
    pub(super) queue: mpsc::WeakSender<Command>,
    view: watch::Sender<Arc<View>>,
    pub(super) checks: Option<Schedule>,
    /// Whether a guest exists: from the launch to the report of its end.
    pub(super) alive: bool,
    /// Whether the machine shall run again as soon as its suspension is over.
    pub(super) resume_wanted: bool,
    /// The last status of the shim that was looked at.
    pub(super) told: Option<Status>,
    pub(super) over: bool,
    /// When the last launch was decided.
    pub(super) launched_at: Timestamp,
}

pub(super) async fn run(
    runner: Arc<Runner>,
    queue: mpsc::WeakSender<Command>,
    mut commands: mpsc::Receiver<Command>,
    view: watch::Sender<Arc<View>>,
) {
    let record = view.borrow().record.clone();
    let mut actor = Actor {
        shim: runner.shim(&record.id),
        config: MachineConfig::parse(&record.config).ok(),
        runner,
        record,
        queue,
        view,
        checks: None,
        alive: false,
        resume_wanted: false,
        told: None,
        over: false,
        launched_at: daemon::wall_clock::now(),
    };
    actor.take_up().await;
    while !actor.over {
        let now = daemon::wall_clock::now();
        let due = actor.next_due(now);
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => actor.handle(command).await,
                None => return,
            },
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => actor.on_due().await,
        }
    }
    // Whoever asks from now on finds the queue closed and the view final.
    commands.close();
}

impl Actor {
    /// Takes the machine up where the last daemon left it.
    async fn take_up(&mut self) {
        match self.record.state {
            // The create call never ended; its caller was not told of a machine.
            State::Creating | State::Destroying if self.record.run.then.is_none() => self.remove().await,
            State::Started
            | State::Starting
            | State::Stopping
            | State::Suspending
            | State::Replacing
            | State::Creating
            | State::Destroying => self.adopt_run(),
            State::Restarting if self.record.run.restart_at.is_none() => self.adopt_run(),
            State::Stopped if self.record.run.drained => {
                self.record.run.drained = false;
                // What goes wrong is in the record's events.
                let _logged = self.begin_launch(false).await;
            }
            State::Restarting
            | State::Created
            | State::Stopped
            | State::Suspended
            | State::Failed
            | State::Destroyed => {}
        }
    }

    fn adopt_run(&mut self) {
        self.alive = true;
        let boot_id = self.record.run.boot_id.clone().unwrap_or_default();
        tracing::info!(machine_id = %self.record.id, boot_id, "machine adopted");
        self.watch(boot_id, false);
        let (runner, network) = (Arc::clone(&self.runner), self.record.network.clone());
        self.runner.task(
            "adopt_network",
            async move { runner.ensure_network(&network).await },
        );
        if let Some(then) = self.record.run.then {
            // The stop may not have reached the shim.
            self.send_stop(StopArgs {
                kill: then == Then::Destroy,
                ..StopArgs::default()
            });
        } else if self.record.state == State::Suspending {
            self.send_suspend();
        }
    }

    pub(super) fn watch(&self, boot_id: String, spawned: bool) {
        let watching = watch_shim::watch(self.shim.clone(), boot_id, self.queue.clone(), spawned);
        self.runner.task("watch_shim", watching);
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Ask {
                request,
                stop,
                update,
                answer,
            } => {
                let previous = self.record.state;
                let result = self.ask(request, stop, update).await;
                let result = result.map(|()| Outcome {
                    previous,
                    record: self.record.clone(),
                });
                let _gone = answer.send(result);
            }
            Command::Edit { edit, answer } => {
                let previous = self.record.state;
                let mut changed = self.record.clone();
                let result = match edit(&mut changed) {
                    Err(error) => Err(error),
                    Ok(()) if changed == self.record => Ok(()),
                    Ok(()) => {
                        self.record = changed;
                        self.config = MachineConfig::parse(&self.record.config).ok();
                        self.save(Vec::new()).await
                    }
                };
                let result = result.map(|()| Outcome {
                    previous,
                    record: self.record.clone(),
                });
                let _gone = answer.send(result);
            }
            Command::Drain { answer } => {
                let previous = self.record.state;
                let result = self.drain().await.map(|()| Outcome {
                    previous,
                    record: self.record.clone(),
                });
                let _gone = answer.send(result);
            }
            Command::Launched { boot_id, result } => self.launched(boot_id, result).await,
            Command::Report(status) => self.report(*status).await,
            Command::Lost { boot_id, qemu } => self.lost(&boot_id, qemu).await,
            Command::SuspendEnded(result) => self.suspend_ended(result).await,
            Command::Tried { name, tried, boot_id } => self.tried(&name, &tried, &boot_id).await,
            Command::Removed(result) => self.removed(result).await,
        }
    }

    /// Comes to rest in `state`.
    pub(super) async fn settle(
        &mut self,
        state: State,
        kind: &str,
        source: &str,
        request: Option<Value>,
    ) -> Result<(), ApiError> {
        self.record.state = state;
        let event = self.event(kind, source, request);
        self.save(vec![event]).await
    }

    pub(super) fn event(&self, kind: &str, source: &str, request: Option<Value>) -> Event {
        let now = daemon::wall_clock::now();
        Event {
            id: crate::ids::fresh_ulid(now),
            kind: kind.to_owned(),
            status: self.record.state.to_string(),
            source: source.to_owned(),
            timestamp: now.as_millisecond(),
            request,
        }
    }

    /// Writes the record and its events, then shows them.
    pub(super) async fn save(&mut self, events: Vec<Event>) -> Result<(), ApiError> {
        self.record.updated_at = daemon::wall_clock::now();
        let former = Arc::clone(&self.view.borrow());
        let version = (former.record.instance_id != self.record.instance_id).then(|| Version {
            version: self.record.instance_id.clone(),
            user_config: self.record.config.clone(),
        });
        let last_event = events
            .last()
            .map_or(former.last_event.clone(), |event| event.id.clone());
        let change = Change {
            machine: Some(self.record.clone()),
            events,
            version,
        };
        let written = self.runner.catalog.commit(&self.record.id, change).await;
        if let Err(error) = written {
            tracing::error!(machine_id = %self.record.id, %error, "the catalog did not take a change");
            return Err(ApiError::internal(format!(
                "the machine's record could not be written: {error}"
            )));
        }
        if former.record.state != self.record.state {
            self.runner
                .metrics
                .entered(Some(former.record.state), self.record.state);
            let (from, to) = (former.record.state.as_str(), self.record.state.as_str());
            tracing::info!(machine_id = %self.record.id, from, to, "machine changed its state");
        }
        let was_named = former.record.state == State::Started;
        self.view.send_replace(Arc::new(View {
            record: self.record.clone(),
            last_event,
        }));
        if was_named != (self.record.state == State::Started) {
            self.runner.rename(&self.record.network);
        }
        Ok(())
    }

    /// Like [`Actor::save`], where nobody waits for the answer: the error has been logged.
    pub(super) async fn save_quietly(&mut self, events: Vec<Event>) {
        let _logged = self.save(events).await;
    }

    /// Time until the next restart or check is due.
    fn next_due(&self, now: Timestamp) -> Option<std::time::Duration> {
        let restart = self
            .record
            .run
            .restart_at
            .filter(|_| self.record.state == State::Restarting);
        let restart_ms = restart.map(Timestamp::as_millisecond);
        let check_ms = self.checks.as_ref().and_then(Schedule::next_due_ms);
        let due_ms = [restart_ms, check_ms].into_iter().flatten().min()?;
        let wait = u64::try_from((due_ms - now.as_millisecond()).max(0)).unwrap_or(0);
        Some(std::time::Duration::from_millis(wait))
    }

    async fn on_due(&mut self) {
        let now = daemon::wall_clock::now();
        let restart = self
            .record
            .run
            .restart_at
            .filter(|_| self.record.state == State::Restarting);
        if restart.is_some_and(|at| at <= now) {
            // What goes wrong is in the record's events.
            let _logged = self.begin_launch(false).await;
        }
        self.start_due_checks(now);
    }
}
