//! Begins and ends of runs: launches, news of the shim, exits, suspensions, removal.

use std::sync::Arc;
use std::time::Duration;

use daemon::ApiError;
use serde_json::json;

use super::actor::{Actor, Command, StopArgs};
use super::launch::{LaunchError, Launched};
use super::telling::{self, exit_event};
use super::watch_shim::end_orphan;
use crate::checks::Schedule;
use crate::lifecycle::{State, Then};
use crate::machine_config::MachineConfig;
use crate::restart::{Ended, Mode, Policy, Verdict};
use crate::shim::facts::{ExitCause, ExitReport, ProcessRef, RunPhase, Status};
use crate::vmm::spec::Accel;
use crate::volumes::Report;

impl Actor {
    pub(super) async fn begin_launch(&mut self, resume: bool) -> Result<(), ApiError> {
        let boot_id = crate::ids::fresh_ulid(daemon::wall_clock::now());
        self.launched_at = daemon::wall_clock::now();
        self.record.state = State::Starting;
        self.record.run.boot_id = Some(boot_id.clone());
        self.record.run.started_at = None;
        self.record.run.restart_at = None;
        self.record.run.then = None;
        self.record.run.drained = false;
        self.record.run.stalled = None;
        self.resume_wanted = false;
        self.told = None;
        self.alive = true;
        self.save(Vec::new()).await?;
        let (runner, record, queue) = (Arc::clone(&self.runner), self.record.clone(), self.queue.clone());
        daemon::spawn("launch", async move {
            let result = runner.launch(record, &boot_id, resume).await;
            if let Some(queue) = queue.upgrade() {
                let _gone = queue.send(Command::Launched { boot_id, result }).await;
            }
        });
        Ok(())
    }

    pub(super) async fn launched(&mut self, boot_id: String, result: Result<Launched, LaunchError>) {
        if self.record.run.boot_id.as_deref() != Some(boot_id.as_str()) {
            return;
        }
        match result {
            Ok(launched) => {
                self.record.run.volumes = launched.volumes;
                self.record.run.forwards = launched.forwards;
                self.record.run.accelerator = Some(launched.accelerator.as_str().to_owned());
                let mut events = Vec::new();
                if let Some(reason) = launched.discarded {
                    self.runner.metrics.discarded();
                    tracing::warn!(machine_id = %self.record.id, reason, "a RAM image was discarded");
                    events.push(self.event("snapshot_discarded", "flyd", Some(json!({"reason": reason}))));
                }
                if !launched.resumed {
                    self.record.run.ram = None;
                }
                self.save_quietly(events).await;
                self.watch(boot_id, true);
            }
            Err(error) => {
                let chain =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                let mut words: Vec<_> = chain.map(ToString::to_string).collect();
                words.dedup();
                let report = ExitReport {
                    cause: ExitCause::VmmFailed,
                    guest_exit_code: None,
                    guest_signal: None,
                    oom_killed: false,
                    requested_stop: false,
                    message: Some(words.join(": ")),
                    lasting: error.is_lasting(),
                    exited_at: daemon::wall_clock::now(),
                };
                self.ended(report).await;
            }
        }
    }

    pub(super) async fn report(&mut self, status: Status) {
        if self.record.run.boot_id.as_deref() != Some(status.boot_id.as_str()) || !self.alive {
            return;
        }
        self.pass_on_volume_facts(&status);
        self.told = Some(status.clone());
        self.note_stall(&status).await;
        match status.phase {
            RunPhase::Booting => {}
            RunPhase::Running if self.record.state == State::Starting => self.started(&status).await,
            RunPhase::Running => {
                // Adopted as started: the checks begin anew.
                if self.record.state == State::Started && self.checks.is_none() {
                    self.schedule_checks();
                    self.runner.rename(&self.record.network);
                }
            }
            RunPhase::Suspended => self.suspended().await,
            RunPhase::Ended => {
                let exit = status
                    .exit
                    .unwrap_or_else(|| lost_report("the shim wrote no reason"));
                self.ended(exit).await;
            }
        }
    }

    /// Tells once, in the events and in the log, that the guest stands still, and that it goes on.
    async fn note_stall(&mut self, status: &Status) {
        if status.stalled == self.record.run.stalled {
            return;
        }
        self.record.run.stalled.clone_from(&status.stalled);
        let (kind, words) = match &status.stalled {
            Some(reason) => ("disk_full", reason.clone()),
            None => ("disk_full_over", telling::GOES_ON.to_owned()),
        };
        self.runner.say_in_log(&self.record.id, words.clone());
        let event = self.event(kind, "flyd", Some(json!({"message": words})));
        self.save_quietly(vec![event]).await;
    }

    async fn started(&mut self, status: &Status) {
        self.record.state = State::Started;
        self.record.run.started_at = status.started_at;
        self.record.run.ram = None;
        let kind = if status.resumed { "resume" } else { "start" };
        let took = daemon::wall_clock::now() - self.launched_at;
        let seconds = took.total(jiff::Unit::Second).unwrap_or(0.0);
        self.runner.metrics.started(status.resumed, seconds);
        let slow = self.runner.verdict.accelerator == Accel::Tcg;
        let advice = self.runner.verdict.advice.clone().filter(|_| slow);
        let facts = json!({
            "accelerator": self.runner.verdict.accelerator, "warning": advice, "boot_id": status.boot_id,
        });
        let event = self.event(kind, "flyd", Some(facts));
        self.schedule_checks();
        self.save_quietly(vec![event]).await;
    }

    fn schedule_checks(&mut self) {
        let Some(config) = &self.config else { return };
        if config.checks.is_empty() {
            return;
        }
        let now = daemon::wall_clock::now();
        let started = self.record.run.started_at.unwrap_or(now);
        self.checks = Some(Schedule::new(&config.checks, started.as_millisecond()));
    }

    /// Tells volumed what the guest said about its volumes, each fact once.
    fn pass_on_volume_facts(&self, status: &Status) {
        let before = self.told.as_ref().filter(|told| told.boot_id == status.boot_id);
        for (volume_id, attached) in &self.record.run.volumes {
            let serial = guest_init::proto::serial_of(volume_id);
            let Some(facts) = status.volumes.get(serial) else {
                continue;
            };
            if before.and_then(|before| before.volumes.get(serial)) == Some(facts) {
                continue;
            }
            let report = Report {
                machine_id: self.record.id.to_string(),
                generation: attached.generation,
                formatted: (facts.formatted.is_some() || facts.fs_bytes.is_some()).then_some(true),
                fstype: facts.formatted.clone(),
                bytes_total: facts.fs_bytes,
                ..Report::default()
            };
            let (runner, volume_id) = (Arc::clone(&self.runner), volume_id.clone());
            self.runner.task("report_volume", async move {
                let Some(volumes) = &runner.volumes else { return };
                // volumed may be restarting; that a volume is formatted must reach it, or a later start could
                // format a volume whose first and last MiB happen to be zero.
                for _ in 0..60 {
                    match volumes.report(&volume_id, &report).await {
                        Ok(()) => return,
                        Err(error) if error.status().is_some_and(|status| status < 500) => {
                            tracing::warn!(volume_id, %error, "volumed refused a report");
                            return;
                        }
                        Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                    }
                }
                tracing::error!(volume_id, "volumed was not told about a file system");
            });
        }
    }

    pub(super) async fn lost(&mut self, boot_id: &str, qemu: Option<ProcessRef>) {
        if self.record.run.boot_id.as_deref() != Some(boot_id) || !self.alive {
            return;
        }
        let qemu = qemu.or_else(|| self.told.as_ref().and_then(|told| told.qemu));
        end_orphan(qemu);
        self.ended(lost_report("the machine's shim died; its guest was ended"))
            .await;
    }

    /// The guest is gone: rest, restart or go, as was asked for or as the policy says.
    async fn ended(&mut self, exit: ExitReport) {
        self.runner.metrics.ended(exit.cause);
        self.alive = false;
        self.checks = None;
        self.record.run.checks = Vec::new();
        self.record.run.ram = None;
        let then = self.record.run.then.take();
        let requested = exit.requested_stop || then.is_some();
        let auto_destroy =
            !self.record.run.drained && self.config.as_ref().is_some_and(|config| config.auto_destroy);
        let verdict = self.restart_verdict(&exit, requested);
        let (state, restarting) = match (then, verdict) {
            (Some(Then::Start), _) => (State::Starting, true),
            (Some(Then::Destroy), _) => (State::Destroying, false),
            (None, Verdict::RestartAt(at_ms)) => {
                self.record.run.restart_at = jiff::Timestamp::from_millisecond(at_ms).ok();
                (State::Restarting, true)
            }
            (Some(Then::Rest), _) | (None, Verdict::Stay | Verdict::GaveUp) if auto_destroy => {
                (State::Destroying, false)
            }
            (Some(Then::Rest), _) => (State::Stopped, false),
            (None, Verdict::Stay | Verdict::GaveUp) => {
                let never_ran = telling::never_ran(exit.cause);
                (if never_ran { State::Failed } else { State::Stopped }, false)
            }
        };
        self.record.state = state;
        let facts = exit_event(&exit, restarting, self.record.run.history.count);
        let mut events = vec![self.event("exit", "flyd", Some(facts))];
        if verdict == Verdict::GaveUp {
            events.push(self.event("restart_limit", "flyd", Some(json!({"error": telling::GAVE_UP}))));
        }
        if state == State::Destroying && then != Some(Then::Destroy) {
            events.push(self.event("destroy", "flyd", Some(json!({"reason": "auto_destroy"}))));
        }
        let now_ms = daemon::wall_clock::now().as_millisecond();
        if let Some(line) = telling::log_line(&exit, verdict, now_ms) {
            self.runner.say_in_log(&self.record.id, line);
        }
        self.save_quietly(events).await;
        match state {
            State::Starting => {
                let _logged = self.begin_launch(false).await;
            }
            State::Destroying => self.remove().await,
            _ => {}
        }
    }

    fn restart_verdict(&mut self, exit: &ExitReport, requested: bool) -> Verdict {
        let policy = self.config.as_ref().map_or(
            Policy {
                mode: Mode::No,
                retries_max: 0,
            },
            |config: &MachineConfig| config.restart,
        );
        let ran_ms = match self.record.run.started_at {
            Some(started) => exit.exited_at.as_millisecond() - started.as_millisecond(),
            None => 0,
        };
        let at_ms = daemon::wall_clock::now().as_millisecond();
        self.record.run.history.ended(
            policy,
            Ended {
                success: exit.is_success(),
                requested,
                lasting: exit.lasting,
                ran_ms,
                at_ms,
            },
        )
    }

    pub(super) async fn begin_suspend(&mut self) -> Result<(), ApiError> {
        if let Some(Err(sentence)) = self.config.as_ref().map(MachineConfig::suspendable) {
            return Err(ApiError::precondition_failed(format!(
                "failed_precondition: {sentence}"
            )));
        }
        if !crate::vmm::qemu::capabilities().suspend {
            return Err(ApiError::precondition_failed(
                "failed_precondition: this host cannot suspend machines",
            ));
        }
        self.settle(State::Suspending, "suspend", "user", None).await?;
        self.checks = None;
        self.send_suspend();
        Ok(())
    }

    pub(super) fn send_suspend(&self) {
        let (shim, queue) = (self.shim.clone(), self.queue.clone());
        self.runner.task("suspend", async move {
            let result = shim.suspend().await.map_err(|error| error.to_string());
            if let Some(queue) = queue.upgrade() {
                let _gone = queue.send(Command::SuspendEnded(result)).await;
            }
        });
    }

    pub(super) fn cancel_suspend(&mut self) {
        self.resume_wanted = true;
        let (shim, machine_id) = (self.shim.clone(), self.record.id.clone());
        self.runner.task("cancel_suspend", async move {
            if let Err(error) = shim.cancel_suspend().await {
                tracing::info!(%machine_id, %error, "the suspension was over before it could be broken off");
            }
        });
    }

    pub(super) async fn suspend_ended(&mut self, result: Result<bool, String>) {
        if self.record.state != State::Suspending || !self.alive {
            return;
        }
        match result {
            // The shim's status says so too, and more.
            Ok(true) => {}
            Ok(false) => {
                self.resume_wanted = false;
                self.schedule_checks();
                let _logged = self.settle(State::Started, "resume", "user", None).await;
            }
            Err(error) => {
                tracing::warn!(machine_id = %self.record.id, error, "a suspension failed; the machine is stopped");
                self.record.run.then = Some(Then::Rest);
                let facts =
                    json!({"error": format!("the suspension failed, the machine is stopped: {error}")});
                let _logged = self.settle(State::Stopping, "stop", "flyd", Some(facts)).await;
                self.send_stop(StopArgs::default());
            }
        }
    }

    async fn suspended(&mut self) {
        self.alive = false;
        self.checks = None;
        let boot_id = self.record.run.boot_id.clone().unwrap_or_default();
        match self.record.run.then.take() {
            None => {
                self.record.run.ram = Some(self.runner.ram_key(&self.record, &boot_id));
                let _logged = self.settle(State::Suspended, "suspend", "flyd", None).await;
                if self.resume_wanted {
                    let _logged = self.begin_launch(true).await;
                }
            }
            Some(Then::Destroy) => self.remove().await,
            Some(Then::Rest) => {
                let _logged = self.settle(State::Stopped, "stop", "flyd", None).await;
            }
            Some(Then::Start) => {
                let _logged = self.begin_launch(false).await;
            }
        }
    }

    /// Removes what the machine leaves behind. Goes on until it is done: the state stays `destroying` meanwhile,
    /// and a daemon that comes back begins again.
    pub(super) async fn remove(&mut self) {
        let (runner, record, queue) = (Arc::clone(&self.runner), self.record.clone(), self.queue.clone());
        self.runner.task("remove", async move {
            let result = runner.remove_leftovers(&record).await;
            if let Some(queue) = queue.upgrade() {
                let _gone = queue.send(Command::Removed(result)).await;
            }
        });
    }

    pub(super) async fn removed(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.record.run.volumes.clear();
                self.record.run.forwards.clear();
                self.record.secrets.clear();
                let _logged = self.settle(State::Destroyed, "destroy", "flyd", None).await;
                self.over = self.record.state == State::Destroyed;
                self.runner.retire_network(&self.record.network).await;
            }
            Err(error) => {
                tracing::warn!(machine_id = %self.record.id, error, "a machine's remains are not removed yet");
                let (runner, record, queue) =
                    (Arc::clone(&self.runner), self.record.clone(), self.queue.clone());
                self.runner.task("remove_again", async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    let result = runner.remove_leftovers(&record).await;
                    if let Some(queue) = queue.upgrade() {
                        let _gone = queue.send(Command::Removed(result)).await;
                    }
                });
            }
        }
    }
}

fn lost_report(message: &str) -> ExitReport {
    ExitReport {
        cause: ExitCause::ShimLost,
        guest_exit_code: None,
        guest_signal: None,
        oom_killed: false,
        requested_stop: false,
        message: Some(message.to_owned()),
        lasting: false,
        exited_at: daemon::wall_clock::now(),
    }
}
