//! The life of one run: QEMU up, guest configured, end recorded.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use guest_init::proto::{Event, Reply, Request};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, AgentError, AgentEvent, wants_config};
use super::board::Board;
use super::facts::{
    ExitCause, ExitReport, ProcessRef, RunPhase, RunSpec, SHIM_SOCKET, Status, StopRequest, VolumeFacts,
};
use super::{http, logs, stall, suspend};
use crate::vmm::Vmm as _;
use crate::vmm::qemu::{Qemu, argv, last_words};

/// Time beyond a stop's own timeout in which the guest must have unmounted and powered off.
const POWER_OFF_GRACE: Duration = Duration::from_secs(25);
/// Time for a call that the guest answers at once.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Time for the log's last bytes after QEMU has gone.
const LOG_DRAIN: Duration = Duration::from_secs(2);

/// Why the shim itself gave up. How the machine ended is no such reason: that stands in the status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShimError {
    /// A file, socket or process.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The run's description on standard input is not one.
    #[error("read the run's description")]
    Spec(#[source] serde_json::Error),
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ShimError {
    move |source| ShimError::Io { what, source }
}

/// What is known about the end before it has come.
#[derive(Debug, Default)]
struct End {
    exited: Option<(Option<i32>, Option<i32>, bool)>,
    failed: Option<(String, i32)>,
    panic: Option<String>,
    requested_stop: bool,
    killed: bool,
    boot_timeout: bool,
    shutdown_reason: Option<String>,
}

/// One run.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) spec: RunSpec,
    pub(super) board: Board,
    pub(super) qemu: OnceLock<Qemu>,
    pub(super) agent: Agent,
    pub(super) suspend: suspend::Gate,
    greeted: CancellationToken,
    /// Cancelled when QEMU has gone: ends every task, before anyone may start the machine again.
    pub(super) over: CancellationToken,
    end: Mutex<End>,
}

/// Holds the machine in `dir` from start to end.
///
/// # Errors
/// [`ShimError`] when not even a status can be written.
pub async fn run(dir: &Path, shutdown: CancellationToken) -> Result<(), ShimError> {
    std::env::set_current_dir(dir).map_err(io("enter the machine's directory"))?;
    // Away from the daemon's session: what ends the daemon must not end the guest. Refused to a leader, which
    // the shim is only when started by hand.
    let _leader = rustix::process::setsid();
    let mut text = Vec::new();
    tokio::io::stdin()
        .read_to_end(&mut text)
        .await
        .map_err(io("read the run's description"))?;
    let spec: RunSpec = serde_json::from_slice(&text).map_err(ShimError::Spec)?;
    let own = ProcessRef::of(std::process::id());
    let own = own.ok_or_else(|| io("read /proc")(std::io::ErrorKind::NotFound.into()))?;
    let first = Status {
        seq: 1,
        boot_id: spec.boot_id.clone(),
        shim: own,
        qemu: None,
        phase: RunPhase::Booting,
        started_at: None,
        resumed: spec.resume.is_some(),
        exit: None,
        saved: None,
        volumes: std::collections::BTreeMap::new(),
        stalled: None,
    };
    let board = Board::new(first).map_err(io("write the status"))?;
    let (events, incoming) = mpsc::channel(64);
    let over = CancellationToken::new();
    let (agent, agent_task) = Agent::start(Path::new(argv::AGENT_SOCKET), events, over.clone());
    let shim = Arc::new(Shim {
        spec,
        board,
        qemu: OnceLock::new(),
        agent,
        suspend: suspend::Gate::default(),
        greeted: CancellationToken::new(),
        over: over.clone(),
        end: Mutex::new(End::default()),
    });
    let server = daemon::spawn("shim_http", serve(Arc::clone(&shim)));
    let last = shim.live(incoming, shutdown).await;
    // Sockets, agent and logs are let go before the status says that the run is over: whoever reads that may
    // start the machine again at once, and must find nobody in the way.
    over.cancel();
    let served = server.await;
    let _ended = agent_task.await;
    shim.publish(|status| match last {
        Last::Suspended => status.phase = RunPhase::Suspended,
        Last::Ended(report) => {
            status.phase = RunPhase::Ended;
            status.exit = Some(report);
        }
    });
    match served {
        Ok(result) => result.map_err(io("serve the shim's socket")),
        Err(error) => Err(io("serve the shim's socket")(std::io::Error::other(error))),
    }
}

/// What the last status says.
enum Last {
    Suspended,
    Ended(ExitReport),
}

async fn serve(shim: Arc<Shim>) -> std::io::Result<()> {
    let over = shim.over.clone();
    daemon::unix_http::serve(Path::new(SHIM_SOCKET), http::router(shim), over).await
}

impl Shim {
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self, change: impl FnOnce(&mut Status)) {
        if let Err(error) = self.board.update(change) {
            tracing::error!(%error, "the status was not written");
        }
    }

    /// Starts a task that ends with the run at the latest.
    pub(super) fn task(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        daemon::spawn(name, self.over.clone().run_until_cancelled_owned(work));
    }

    async fn live(
        self: &Arc<Self>,
        incoming: mpsc::Receiver<AgentEvent>,
        shutdown: CancellationToken,
    ) -> Last {
        let started = match &self.spec.resume {
            None => Qemu::boot(&self.spec.vm).await,
            Some(saved) => suspend::bring_back(&self.spec.vm, saved).await,
        };
        let qemu = match started {
            Ok(qemu) => self.qemu.get_or_init(|| qemu),
            Err(error) => {
                let message = chain(&error);
                tracing::error!(error = message, "qemu did not start");
                return Last::Ended(self.end_report(ExitCause::VmmFailed, Some(message)));
            }
        };
        if self.end().killed {
            // Asked for while there was nothing to kill yet.
            self.quit().await;
        }
        let process = ProcessRef::of(qemu.pid());
        self.publish(|status| status.qemu = process);
        let logs = daemon::spawn("log", logs::drive(argv::LOG_SOCKET.into(), logs::LOGS_DIR.into()));
        self.task("guest_events", Arc::clone(self).follow_guest(incoming));
        self.task("qemu_events", follow_qemu(Arc::clone(self), qemu.events()));
        self.task("boot_limit", Arc::clone(self).limit_boot());
        if self.spec.resume.is_some() {
            self.task("resume", Arc::clone(self).finish_resume());
        }
        self.task("shim_shutdown", Arc::clone(self).stop_at_shutdown(shutdown));
        let exit = qemu.ended().await;
        let drained = tokio::time::timeout(LOG_DRAIN, logs).await;
        if drained.is_err() {
            tracing::warn!("the log was not drained in time");
        }
        if self.board.status().saved.is_some() && !self.end().killed {
            return Last::Suspended;
        }
        let (cause, message) = self.judge(&exit.to_string());
        Last::Ended(self.end_report(cause, message))
    }

    /// Tells the cause from what was heard on the way. Pure but for the lock and QEMU's last words.
    fn judge(&self, process_exit: &str) -> (ExitCause, Option<String>) {
        let end = self.end();
        if let Some(text) = &end.panic {
            return (ExitCause::Panic, Some(text.clone()));
        }
        if let Some((message, _)) = &end.failed {
            return (ExitCause::NotStarted, Some(message.clone()));
        }
        if end.exited.is_some() {
            return (ExitCause::Exited, None);
        }
        if end.boot_timeout {
            let message = format!(
                "the guest said nothing within {} s of its start",
                self.spec.boot_limit_s
            );
            return (ExitCause::BootTimeout, Some(message));
        }
        if end.killed {
            return (ExitCause::Killed, None);
        }
        match end.shutdown_reason.as_deref() {
            // A guest that was to be powered off never resets itself: its kernel panicked (`panic=-1`).
            Some("guest-reset" | "guest-panic") => (
                ExitCause::Panic,
                Some(format!("the guest's kernel panicked; see {}", argv::CONSOLE_LOG)),
            ),
            Some("guest-shutdown") => (
                ExitCause::VmmLost,
                Some("the guest powered off without saying how its workload ended".to_owned()),
            ),
            _ => (
                ExitCause::VmmLost,
                Some(format!(
                    "qemu ended ({process_exit}); its last words: {}",
                    last_words()
                )),
            ),
        }
    }

    fn end_report(&self, cause: ExitCause, message: Option<String>) -> ExitReport {
        let end = self.end();
        let (guest_exit_code, guest_signal, oom_killed) = match (&end.exited, &end.failed) {
            (Some((code, signal, oom)), _) => (*code, *signal, *oom),
            (None, Some((_, code))) => (Some(*code), None, false),
            (None, None) => (None, None, false),
        };
        ExitReport {
            cause,
            guest_exit_code,
            guest_signal,
            oom_killed,
            requested_stop: end.requested_stop,
            message,
            lasting: cause == ExitCause::NotStarted && guest_exit_code.is_some_and(is_lasting),
            exited_at: daemon::wall_clock::now(),
        }
    }

    async fn follow_guest(self: Arc<Self>, mut incoming: mpsc::Receiver<AgentEvent>) {
        while let Some(event) = incoming.recv().await {
            match event {
                AgentEvent::Hello(hello) => {
                    self.greeted.cancel();
                    if wants_config(&hello) {
                        // In a task of its own: the answer comes through the same driver as further events.
                        self.task("configure", Arc::clone(&self).configure());
                    }
                }
                AgentEvent::Panic(text) => self.end().panic = Some(text),
                AgentEvent::Event { event, stored } => {
                    self.take(event.event);
                    let _gone = stored.send(());
                }
            }
        }
    }

    async fn configure(self: Arc<Self>) {
        let mut guest = self.spec.guest.clone();
        // Now, not when the run was asked for: the boot took seconds.
        guest.wall_clock_unix_ms = u64::try_from(daemon::wall_clock::now().as_millisecond()).ok();
        let config = Request::Config(Box::new(guest));
        if let Err(error) = self.agent.call(config, CALL_LIMIT).await {
            tracing::error!(%error, "the guest did not take its configuration");
            self.end()
                .failed
                .get_or_insert((format!("configure the guest: {error}"), 125));
            self.kill().await;
        }
    }

    fn take(&self, event: Event) {
        match event {
            Event::Started { .. } => self.publish(|status| {
                status.phase = RunPhase::Running;
                status.started_at.get_or_insert_with(daemon::wall_clock::now);
            }),
            Event::Exited {
                code,
                signal,
                oom_killed,
                requested_stop,
            } => {
                let mut end = self.end();
                end.exited = Some((code, signal, oom_killed));
                end.requested_stop |= requested_stop;
            }
            Event::Failed { message, code } => {
                let mut end = self.end();
                end.failed.get_or_insert((message, code));
            }
            Event::VolumeError { serial, message } => {
                self.end()
                    .failed
                    .get_or_insert((format!("volume {serial}: {message}"), 125));
                self.publish(|status| facts(status, &serial).error = Some(message));
            }
            Event::Formatted { serial, fstype } => {
                self.publish(|status| facts(status, &serial).formatted = Some(fstype.as_str().to_owned()));
            }
            Event::Mounted { serial, fs_bytes } => {
                self.publish(|status| facts(status, &serial).fs_bytes = Some(fs_bytes));
            }
            Event::PoweringOff { busy } if !busy.is_empty() => {
                tracing::warn!(?busy, "volumes were not unmounted in time; they were synced");
            }
            Event::LogLost { bytes } => tracing::warn!(bytes, "output of the workload was lost"),
            Event::PoweringOff { .. } | Event::Heartbeat { .. } => {}
        }
    }

    async fn limit_boot(self: Arc<Self>) {
        let limit = Duration::from_secs(self.spec.boot_limit_s);
        if tokio::time::timeout(limit, self.greeted.cancelled())
            .await
            .is_err()
        {
            self.end().boot_timeout = true;
            self.quit().await;
        }
    }

    async fn stop_at_shutdown(self: Arc<Self>, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.stop(StopRequest {
            signal: 15,
            timeout_ms: 5_000,
        });
    }

    /// Begins the guest's end; returns at once.
    pub(super) fn stop(self: &Arc<Self>, request: StopRequest) {
        self.end().requested_stop = true;
        let shim = Arc::clone(self);
        self.task("stop", async move {
            if !shim.greeted.is_cancelled() {
                // Nothing runs yet that could be asked.
                shim.kill().await;
                return;
            }
            let limit = Duration::from_millis(request.timeout_ms) + POWER_OFF_GRACE;
            let stop = Request::Stop {
                signal: request.signal,
                timeout_ms: request.timeout_ms,
            };
            // A guest that stands still hears nothing.
            if shim.stands_still().await {
                shim.try_to_go_on().await;
            }
            let asking = async {
                if let Err(error) = shim.agent.call(stop, limit).await {
                    tracing::warn!(%error, "the guest did not take the stop");
                }
                std::future::pending::<()>().await;
            };
            let waiting = async {
                tokio::time::sleep(Duration::from_millis(request.timeout_ms)).await;
                // One that did not go on unmounts nothing in the time that is for that.
                if !shim.stands_still().await {
                    tokio::time::sleep(POWER_OFF_GRACE).await;
                }
            };
            tokio::select! {
                () = asking => {}
                () = waiting => {}
            }
            shim.kill().await;
        });
    }

    /// Ends QEMU at once; the machine counts as killed.
    pub(super) async fn kill(&self) {
        self.end().killed = true;
        self.quit().await;
    }

    /// Notes that the machine's end was asked for.
    pub(super) fn note_requested(&self) {
        self.end().requested_stop = true;
    }

    pub(super) async fn quit(&self) {
        if let Some(qemu) = self.qemu.get()
            && let Err(error) = qemu.quit().await
        {
            tracing::warn!(%error, "qemu did not take the quit");
        }
    }

    /// Grows the file system of a disk that has been resized; the guest waits for the capacity itself.
    pub(super) async fn grow_fs(&self, serial: &str, min_bytes: u64) -> Result<(u64, u64), AgentError> {
        let request = Request::Grow {
            serial: serial.to_owned(),
            min_bytes,
        };
        match self.agent.call(request, CALL_LIMIT).await? {
            Reply::Grown {
                fs_bytes,
                device_bytes,
            } => {
                self.publish(|status| facts(status, serial).fs_bytes = Some(fs_bytes));
                Ok((fs_bytes, device_bytes))
            }
            _ => Err(AgentError::WrongReply),
        }
    }
}

/// Whether a start that ended with this code, as a shell gives them, will end so again: the program is not in the image
/// (127) or cannot be executed (126). Anything else may have been the moment's.
fn is_lasting(code: i32) -> bool {
    matches!(code, 126 | 127)
}

fn facts<'a>(status: &'a mut Status, serial: &str) -> &'a mut VolumeFacts {
    status.volumes.entry(serial.to_owned()).or_default()
}

async fn follow_qemu(
    shim: Arc<Shim>,
    mut events: tokio::sync::broadcast::Receiver<crate::vmm::qmp::QmpEvent>,
) {
    use tokio::sync::broadcast::error::RecvError;
    // A guest that was brought back repeats its write before anybody listens.
    if shim.spec.resume.is_some() && shim.stands_still().await {
        shim.stalled("a disk");
    }
    loop {
        match events.recv().await {
            Ok(event) if event.event == "SHUTDOWN" => {
                let reason = event.data["reason"].as_str().unwrap_or_default().to_owned();
                shim.end().shutdown_reason = Some(reason);
            }
            Ok(event) if event.event == "BLOCK_IO_ERROR" => {
                match stall::no_room(&event, &shim.spec.vm.volumes) {
                    Some(what) => shim.stalled(&what),
                    None => tracing::error!(data = %event.data, "a disk of the guest had an error"),
                }
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// An error with all its causes, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
