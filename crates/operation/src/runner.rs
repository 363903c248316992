use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, warn};

use crate::log::{Log, LogError};
use crate::outcome::{Outcome, Undone};
use crate::plan::{self, Next, Report, Then};
use crate::probe::{Moment, Probe, Verdict};
use crate::record::{OperationId, Record};
use crate::step::{StepSet, StepSpec};

#[cfg(test)]
mod tests;

/// Bounded exponential waiting between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// Never longer than this.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            max: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// Returns the wait after `attempts` failed attempts (1 or more): doubled each time up to the maximum.
    pub fn delay(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

/// Why an operation was not begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The log refused or could not keep it.
    #[error("begin operation")]
    Log(#[from] LogError),
    /// The driver has ended; the process is stopping.
    #[error("the operation driver has stopped")]
    Stopped,
}

/// Why the driver ended on its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// The log could not be read at start.
    #[error("read pending operations")]
    Log(#[from] LogError),
    /// A step panicked; its operation resumes at the next start.
    #[error("a step of operation {id} panicked")]
    Panicked {
        /// Which operation.
        id: OperationId,
    },
    /// The probe asked to stop as a crash would.
    #[error("dropped by the probe")]
    Dropped,
}

/// Follows one operation.
#[derive(Clone, Debug)]
pub struct Handle {
    id: OperationId,
    progress: watch::Receiver<Record>,
}

impl Handle {
    /// Returns the operation's id.
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Returns the newest record.
    pub fn record(&self) -> Record {
        self.progress.borrow().clone()
    }

    /// Waits until the record satisfies `enough`, or the operation ends, or the driver stops; returns the newest record.
    pub async fn until(&mut self, mut enough: impl FnMut(&Record) -> bool) -> Record {
        loop {
            let record = self.progress.borrow_and_update().clone();
            if enough(&record) || record.status.ended() || self.progress.changed().await.is_err() {
                return self.progress.borrow().clone();
            }
        }
    }

    /// Waits for the end (or for the driver to stop: the record then has not ended).
    pub async fn end(&mut self) -> Record {
        self.until(|_| false).await
    }
}

struct Live {
    progress: watch::Receiver<Record>,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Signal {
    wake: Notify,
    /// Fires after the log has kept the wish; the reason is read there.
    cancelled: CancellationToken,
}

struct Submission<C> {
    record: Record,
    change: C,
    reply: oneshot::Sender<Result<Handle, SubmitError>>,
}

struct Shared<S: StepSet> {
    log: Arc<dyn Log<S::Change>>,
    steps: Arc<S>,
    probe: Arc<dyn Probe>,
    backoff: Backoff,
    live: Mutex<HashMap<OperationId, Live>>,
}

impl<S: StepSet> Shared<S> {
    fn live(&self) -> MutexGuard<'_, HashMap<OperationId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle by which a product begins and follows operations. Clones share one driver.
pub struct Runner<S: StepSet> {
    shared: Arc<Shared<S>>,
    queue: mpsc::Sender<Submission<S::Change>>,
}

impl<S: StepSet> Clone for Runner<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            queue: self.queue.clone(),
        }
    }
}

impl<S: StepSet> fmt::Debug for Runner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("live", &self.shared.live().len())
            .finish()
    }
}

/// Performs operations; owned by one task of the product.
pub struct Driver<S: StepSet> {
    shared: Arc<Shared<S>>,
    queue: mpsc::Receiver<Submission<S::Change>>,
}

impl<S: StepSet> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("live", &self.shared.live().len())
            .finish()
    }
}

impl<S: StepSet> Runner<S> {
    /// Joins a log and a set of steps; `queue_len` bounds how many submissions wait for the driver.
    pub fn new(
        log: Arc<dyn Log<S::Change>>,
        steps: Arc<S>,
        probe: Arc<dyn Probe>,
        backoff: Backoff,
        queue_len: usize,
    ) -> (Self, Driver<S>) {
        let (sender, receiver) = mpsc::channel(queue_len);
        let shared = Arc::new(Shared {
            log,
            steps,
            probe,
            backoff,
            live: Mutex::new(HashMap::new()),
        });
        (
            Self {
                shared: Arc::clone(&shared),
                queue: sender,
            },
            Driver {
                shared,
                queue: receiver,
            },
        )
    }

    /// Begins an operation: returns once record and `change` are durable.
    ///
    /// Safe to drop: an operation that was begun is driven whether or not anybody waits.
    ///
    /// # Errors
    /// [`SubmitError::Log`] with [`LogError::Busy`] when the subject has a running operation.
    pub async fn submit(&self, record: Record, change: S::Change) -> Result<Handle, SubmitError> {
        let (reply, answer) = oneshot::channel();
        let submission = Submission {
            record,
            change,
            reply,
        };
        self.queue
            .send(submission)
            .await
            .map_err(|_| SubmitError::Stopped)?;
        answer.await.unwrap_or(Err(SubmitError::Stopped))
    }

    /// Follows a running operation; none when it has ended or is unknown.
    pub fn follow(&self, id: &OperationId) -> Option<Handle> {
        let live = self.shared.live();
        live.get(id).map(|l| Handle {
            id: id.clone(),
            progress: l.progress.clone(),
        })
    }

    /// Ends the current back-off of every operation of `subject`: what it waits for may have come.
    pub fn nudge(&self, subject: &str) {
        for live in self.shared.live().values() {
            if live.progress.borrow().subject == subject {
                live.signal.wake.notify_one();
            }
        }
    }

    /// As [`Runner::nudge`], for every operation.
    pub fn nudge_all(&self) {
        for live in self.shared.live().values() {
            live.signal.wake.notify_one();
        }
    }

    /// Asks a running operation to give up, as if its current step aborted by the user. Steps past a pivot go on.
    ///
    /// Durable, with `change`, when it returns: whatever crashes, the operation is undone unless it was past its pivot.
    /// A running step hears of it at once. Returns false, with nothing changed, when the operation has ended.
    ///
    /// # Errors
    /// [`LogError`] when the log or the change refused; nothing is cancelled then.
    pub async fn cancel(&self, id: &OperationId, why: &str, change: S::Change) -> Result<bool, LogError> {
        let kept = self.shared.log.cancel(id, why, change).await?;
        if kept && let Some(live) = self.shared.live().get(id) {
            live.signal.cancelled.cancel();
            live.signal.wake.notify_one();
        }
        Ok(kept)
    }
}

enum Ended {
    Normally,
    Dropped,
}

impl<S: StepSet> Driver<S> {
    /// Resumes what the log holds, then performs submissions until `shutdown` completes.
    ///
    /// At shutdown running steps are dropped where they stand, as a crash would: they are idempotent and resume at the
    /// next start.
    ///
    /// # Errors
    /// [`DriveError`] when the log cannot be read, a step panicked, or the probe asked for a crash.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), DriveError> {
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        let mut ids: HashMap<tokio::task::Id, OperationId> = HashMap::new();
        for record in self.shared.log.pending().await? {
            info!(op = %record.kind, run_id = %record.id, subject = %record.subject, "operation resumed");
            let id = record.id.clone();
            let task = tasks.spawn(operate(Arc::clone(&self.shared), record, None));
            ids.insert(task.id(), id);
        }
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                Some(joined) = tasks.join_next_with_id() => match joined {
                    Ok((task, Ended::Normally)) => { ids.remove(&task); }
                    Ok((_, Ended::Dropped)) => return Err(DriveError::Dropped),
                    Err(join) => {
                        let id = ids.remove(&join.id()).unwrap_or_else(|| OperationId::new("unknown"));
                        error!(run_id = %id, "step panicked");
                        return Err(DriveError::Panicked { id });
                    }
                },
                Some(Submission { record, change, reply }) = self.queue.recv() => {
                    let id = record.id.clone();
                    let task = tasks.spawn(operate(Arc::clone(&self.shared), record, Some((change, reply))));
                    ids.insert(task.id(), id);
                }
            }
        }
    }
}

type Begin<C> = Option<(C, oneshot::Sender<Result<Handle, SubmitError>>)>;

async fn operate<S: StepSet>(shared: Arc<Shared<S>>, record: Record, begin: Begin<S::Change>) -> Ended {
    let span =
        tracing::info_span!("operation", op = %record.kind, run_id = %record.id, subject = %record.subject);
    async {
        let (sender, progress) = watch::channel(record.clone());
        let signal = Arc::new(Signal::default());
        let live = Live {
            progress: progress.clone(),
            signal: Arc::clone(&signal),
        };
        if let Some((change, reply)) = begin {
            if let Err(refused) = shared.log.begin(&record, change).await {
                // Nobody left to hear it is no error: nothing was begun.
                let _ = reply.send(Err(refused.into()));
                return Ended::Normally;
            }
            shared.live().insert(record.id.clone(), live);
            // The submitter may be gone; the operation goes on without it.
            let _ = reply.send(Ok(Handle {
                id: record.id.clone(),
                progress,
            }));
        } else {
            shared.live().insert(record.id.clone(), live);
        }
        let id = record.id.clone();
        let run = OneRun {
            shared: &shared,
            signal: &signal,
            progress: &sender,
        };
        let ended = run.to_the_end(record).await;
        shared.live().remove(&id);
        ended
    }
    .instrument(span)
    .await
}

struct OneRun<'a, S: StepSet> {
    shared: &'a Shared<S>,
    signal: &'a Signal,
    progress: &'a watch::Sender<Record>,
}

impl<S: StepSet> OneRun<'_, S> {
    async fn to_the_end(&self, mut record: Record) -> Ended {
        let Some(steps) = self.shared.steps.steps(&record.kind, record.version) else {
            // A newer program began it; that program will finish it.
            error!(kind = %record.kind, version = record.version, "operation of unknown kind left alone");
            return Ended::Normally;
        };
        let mut log_errors = 0;
        loop {
            let next = plan::next(&record, steps);
            let (report, change) = match next {
                Next::End => {
                    info!(status = record.status.name(), "operation ended");
                    return Ended::Normally;
                }
                Next::Run(step) => match plan::cancellation(&record, steps) {
                    Some(report) => (report, S::Change::default()),
                    None => match self.run(&record, step, &self.cancelled(&record, steps)).await {
                        Some(done) => done,
                        None => return Ended::Dropped,
                    },
                },
                Next::Undo(step) => match self.undo(&record, step).await {
                    Some(done) => done,
                    None => return Ended::Dropped,
                },
            };
            let mut after = record.clone();
            let then = plan::apply(&mut after, steps, report);
            let advanced = self.shared.log.advance(&after, change).await;
            if let Err(LogError::Cancelled { why }) = advanced {
                // Whatever the step did is undone with it, or done again if it is past taking back.
                record.cancelled = Some(why);
                continue;
            }
            if let Err(source) = advanced {
                // The effect is in place but not recorded: the step is idempotent, so it is simply run again.
                log_errors += 1;
                error!(error = %source, cause = ?source, "operation record not kept; step will be run again");
                self.wait(self.shared.backoff.delay(log_errors)).await;
                continue;
            }
            log_errors = 0;
            record = after;
            self.progress.send_replace(record.clone());
            if let Then::Wait(wish) = then {
                let delay = wish.unwrap_or_else(|| self.shared.backoff.delay(record.attempts));
                self.wait(delay).await;
            }
        }
    }

    /// Returns what tells the next step that it is not wanted any more.
    fn cancelled(&self, record: &Record, steps: &[StepSpec]) -> CancellationToken {
        if plan::past_pivot(record, steps) {
            return CancellationToken::new();
        }
        self.signal.cancelled.clone()
    }

    async fn wait(&self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.signal.wake.notified() => {}
        }
    }

    async fn run(
        &self,
        record: &Record,
        step: &'static str,
        cancelled: &CancellationToken,
    ) -> Option<(Report, S::Change)> {
        if self.shared.probe.at(&record.kind, step, Moment::Before) == Verdict::Drop {
            return None;
        }
        let outcome = self.shared.steps.run(record, step, cancelled).await;
        if self.shared.probe.at(&record.kind, step, Moment::After) == Verdict::Drop {
            return None;
        }
        Some(match outcome {
            Outcome::Done { patch, change } => {
                debug!(step, "step done");
                (Report::Done(patch), change)
            }
            Outcome::Retry { after, why } => {
                warn!(step, attempt = record.attempts + 1, why, "step will be retried");
                (Report::Retry { after, why }, S::Change::default())
            }
            Outcome::Abort { fault, why } => {
                warn!(step, why, ?fault, "step aborted");
                (Report::Abort { fault, why }, S::Change::default())
            }
            Outcome::Handoff { to, change } => {
                info!(step, to, "operation handed off");
                (Report::Handoff { to }, change)
            }
        })
    }

    async fn undo(&self, record: &Record, step: &'static str) -> Option<(Report, S::Change)> {
        if self.shared.probe.at(&record.kind, step, Moment::BeforeUndo) == Verdict::Drop {
            return None;
        }
        let undone = self.shared.steps.undo(record, step).await;
        if self.shared.probe.at(&record.kind, step, Moment::AfterUndo) == Verdict::Drop {
            return None;
        }
        Some(match undone {
            Undone::Done { change } => {
                debug!(step, "step undone");
                (Report::Undone, change)
            }
            Undone::Retry { why } => {
                warn!(step, attempt = record.attempts + 1, why, "undo will be retried");
                (Report::Retry { after: None, why }, S::Change::default())
            }
        })
    }
}
