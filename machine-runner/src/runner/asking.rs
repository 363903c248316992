//! The actor's answers to users: plan, then begin what was planned.

use daemon::ApiError;
use http::StatusCode;

use super::actor::{Actor, StopArgs, UpdateArgs};
use crate::lifecycle::{Plan, Request, State, Then, plan};
use crate::machine_config::MachineConfig;
use crate::shim::facts::StopRequest;

impl Actor {
    pub(super) async fn ask(
        &mut self,
        request: Request,
        stop: StopArgs,
        update: Option<Box<UpdateArgs>>,
    ) -> Result<(), ApiError> {
        let refused = |refused: crate::lifecycle::Refused| {
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::PRECONDITION_FAILED);
            ApiError::new(status, refused.to_string())
        };
        let mut plan = plan(self.record.state, request).map_err(refused)?;
        // A machine that restarts on request still has its guest: what was planned for one that waits needs it gone.
        if self.alive && self.record.state == State::Restarting {
            plan = match plan {
                Plan::DropRestart => Plan::Halt { then: Then::Rest },
                Plan::Remove => Plan::Halt { then: Then::Destroy },
                Plan::Store => {
                    return Err(ApiError::precondition_failed(
                        "failed_precondition: machine is restarting; wait until it is settled, then update it",
                    ));
                }
                other => other,
            };
        }
        if matches!(
            request,
            Request::Start | Request::Restart | Request::Update { .. }
        ) {
            self.record.run.history.reset();
        }
        match plan {
            Plan::Already | Plan::Pass => Ok(()),
            Plan::Launch => self.begin_launch(false).await,
            Plan::Resume => self.begin_launch(true).await,
            Plan::CancelSuspend => {
                self.cancel_suspend();
                Ok(())
            }
            Plan::Halt { then } => {
                if let Some(update) = update {
                    self.apply_update(*update);
                }
                self.halt(then, matches!(request, Request::Update { .. }), stop)
                    .await
            }
            Plan::DropRestart => {
                self.record.run.restart_at = None;
                self.settle(State::Stopped, "stop", "user", None).await
            }
            Plan::DiscardRam => {
                self.record.run.ram = None;
                self.settle(State::Stopped, "stop", "user", None).await
            }
            Plan::Suspend => self.begin_suspend().await,
            Plan::Store => {
                if let Some(update) = update {
                    self.apply_update(*update);
                }
                self.record.run.restart_at = None;
                self.settle(State::Stopped, "update", "user", None).await
            }
            Plan::Remove => {
                self.record.state = State::Destroying;
                self.save(vec![self.event("destroy", "user", None)]).await?;
                self.remove().await;
                Ok(())
            }
        }
    }

    fn apply_update(&mut self, update: UpdateArgs) {
        self.record.config = update.config;
        self.record.image = update.image;
        if let Some(secrets) = update.secrets {
            self.record.secrets = secrets;
        }
        self.record.instance_id = crate::ids::fresh_ulid(daemon::wall_clock::now());
        self.record.run.ram = None;
        self.config = MachineConfig::parse(&self.record.config).ok();
    }

    async fn halt(&mut self, then: Then, updated: bool, stop: StopArgs) -> Result<(), ApiError> {
        self.record.run.then = Some(then);
        self.record.state = match then {
            Then::Rest => State::Stopping,
            Then::Start if updated => State::Replacing,
            Then::Start => State::Restarting,
            Then::Destroy => State::Destroying,
        };
        let kind = match then {
            Then::Rest if updated => "update",
            Then::Rest => "stop",
            Then::Start if updated => "update",
            Then::Start => "restart",
            Then::Destroy => "destroy",
        };
        let event = self.event(kind, "user", None);
        self.save(vec![event]).await?;
        self.checks = None;
        self.send_stop(StopArgs {
            kill: stop.kill || then == Then::Destroy,
            ..stop
        });
        Ok(())
    }

    /// Stops a guest that runs; a machine that is about to run is left to the next start of the daemon as well.
    pub(super) async fn drain(&mut self) -> Result<(), ApiError> {
        match self.record.state {
            State::Started | State::Starting | State::Replacing => {
                self.record.run.drained = true;
                self.halt(Then::Rest, false, StopArgs::default()).await
            }
            State::Restarting if self.alive => {
                self.record.run.drained = true;
                self.halt(Then::Rest, false, StopArgs::default()).await
            }
            // Waits for its time; the time stands in the record.
            State::Restarting
            | State::Creating
            | State::Created
            | State::Stopping
            | State::Stopped
            | State::Suspending
            | State::Suspended
            | State::Destroying
            | State::Destroyed
            | State::Failed => Ok(()),
        }
    }

    pub(super) fn send_stop(&self, args: StopArgs) {
        let config = self.config.as_ref();
        let timeout = config.map_or(crate::machine_config::STOP_TIMEOUT_DEFAULT, |config| {
            config.stop_timeout
        });
        let signal = config.map_or(2, |config| {
            let image = self
                .runner
                .images
                .resolve(&self.record.image.digest)
                .ok()
                .flatten();
            crate::guest::stop_signal(
                config,
                image.and_then(|image| image.config.stop_signal).as_deref(),
            )
        });
        let request = StopRequest {
            signal: args.signal.unwrap_or(signal),
            timeout_ms: args
                .timeout_ms
                .unwrap_or(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        };
        let (shim, machine_id) = (self.shim.clone(), self.record.id.clone());
        self.runner.task("send_stop", async move {
            // A shim that is only just starting has no socket yet.
            let mut result = Ok(());
            for _ in 0..100 {
                result = if args.kill {
                    shim.kill().await
                } else {
                    shim.stop(request).await
                };
                match &result {
                    Err(error) if error.never_sent() => {
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                    Ok(()) | Err(_) => break,
                }
            }
            if let Err(error) = result {
                tracing::warn!(%machine_id, %error, "the shim did not take the stop");
            }
        });
    }
}
