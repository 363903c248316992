//! The service: requests become operations or single transactions.

mod adoption;
mod answers;
mod attachment;
mod commands;
mod create;
mod extend;
mod fields;
mod inspection;
mod keys;
mod kinds;
mod mounts;
mod moves;
mod placement;
mod room;
mod scrub;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use operation::{
    Backoff, Driver, Fault, Handle, Log, LogError, OperationId, Probe, Record, Runner, Status, SubmitError,
};
use serde_json::Value;
use tokio::time::Instant;

pub use adoption::UnknownSlice;
pub use answers::{AttachmentView, SnapshotView, VolumeView};
pub use attachment::UsageReport;
pub use commands::UpdateRequest;
pub use create::CreateRequest;
pub use inspection::{DamagedSnapshot, ForeignFile, Inspection, Stranded};
pub use moves::ClaimRequest;
pub use room::Promised;
pub use scrub::{ScrubReport, ScrubRequest, Scrubbed};

use crate::catalog::{CatalogLog, Change, TxError};
use crate::clock_watch::ClockWatch;
use crate::error::Refusal;
use crate::lifecycle::{self, Command, Plan};
use crate::metrics::Metrics;
use crate::ops::{Context, Ops};
use crate::pool::Pressure;
use crate::volume::{OperationKey, Volume, VolumeId};

#[cfg(test)]
mod tests;

/// Submissions that may wait for the driver.
const QUEUE_LEN: usize = 64;

/// What the API serves; clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    ctx: Arc<Context>,
    runner: Runner<Ops>,
    metrics: Metrics,
    /// Whether the bucket was listed since the start: until then the catalog may not know every snapshot.
    adopted: Arc<AtomicBool>,
    /// Snapshots in the bucket that are sealed under other cluster keys, by key, as last listed.
    other_keys: Arc<Mutex<BTreeMap<String, u64>>>,
    clock_watch: Arc<Mutex<ClockWatch>>,
    /// How each pool was judged last, by name.
    pressures: Arc<Mutex<BTreeMap<String, Judged>>>,
    /// Slices that no record knows, as they were last looked at.
    unknown: Arc<Mutex<Vec<UnknownSlice>>>,
    started: Instant,
}

/// How a pool was judged, and what was told of it.
#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    pressure: Pressure,
    /// The state that was told last since the start.
    told: Option<&'static str>,
}

impl Service {
    /// Binds the service to what it works on. The driver must be run for operations to go on.
    pub fn new(
        ctx: Context,
        probe: Arc<dyn Probe>,
        backoff: Backoff,
        metrics: Metrics,
    ) -> (Self, Driver<Ops>) {
        let clock_watch = Arc::new(Mutex::new(ClockWatch::new(ctx.settings.clock_settle)));
        let ctx = Arc::new(ctx);
        let log: Arc<dyn Log<Change>> =
            Arc::new(CatalogLog::new(ctx.catalog.clone(), Arc::clone(&ctx.clock)));
        let (runner, driver) = Runner::new(
            log,
            Arc::new(Ops::new(Arc::clone(&ctx))),
            probe,
            backoff,
            QUEUE_LEN,
        );
        (
            Self {
                ctx,
                runner,
                metrics,
                adopted: Arc::default(),
                other_keys: Arc::default(),
                clock_watch,
                pressures: Arc::default(),
                unknown: Arc::default(),
                started: Instant::now(),
            },
            driver,
        )
    }

    /// Returns what the service works on.
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// Has every operation that waits for something try again now: it may have come.
    pub(crate) fn go_on(&self) {
        self.runner.nudge_all();
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns how long this has been running, by a clock that nobody sets.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn clock_watch(&self) -> MutexGuard<'_, ClockWatch> {
        self.clock_watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pressures(&self) -> MutexGuard<'_, BTreeMap<String, Judged>> {
        self.pressures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many snapshots in the bucket are sealed under other cluster keys, by the key's id.
    pub fn other_keys(&self) -> BTreeMap<String, u64> {
        self.other_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn note_other_keys(&self, found: BTreeMap<String, u64>) {
        *self.other_keys.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    fn unknown(&self) -> MutexGuard<'_, Vec<UnknownSlice>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mark_adopted(&self) {
        self.adopted.store(true, Ordering::Release);
    }

    pub(crate) fn adopted_once(&self) -> bool {
        self.adopted.load(Ordering::Acquire)
    }

    /// Returns a volume that is not gone.
    ///
    /// # Errors
    /// 404.
    pub async fn volume(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        let wanted = id.clone();
        let found = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.volume(&wanted)?))
            .await
            .map_err(refusal)?;
        match found {
            Some(volume) if volume.exists() => Ok(volume),
            Some(volume) => Err(lifecycle::gone(&volume)),
            None => Err(Refusal::missing("volume not found")),
        }
    }

    /// Begins an operation whose begin-transaction changes the record of one volume by `edit`, if `command` is allowed.
    async fn begin_on_volume(
        &self,
        id: &VolumeId,
        kind: &'static str,
        params: Value,
        command: Command,
        edit: impl FnOnce(&mut Volume) + Send + 'static,
    ) -> Result<Handle, Refusal> {
        let subject = id.clone();
        let change = Change::new(move |tx| {
            let mut volume = tx
                .volume(&subject)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            match lifecycle::plan(&volume, &command)? {
                Plan::Go => {}
                Plan::Already | Plan::CancelCreation => {
                    return Err(Refusal::conflict(format!(
                        "volume {subject} changed meanwhile; look at it and try again"
                    ))
                    .into());
                }
            }
            edit(&mut volume);
            Ok(tx.put_volume(&volume)?)
        });
        self.submit(id.as_str(), kind, params, change).await
    }

    async fn submit(
        &self,
        subject: &str,
        kind: &'static str,
        params: Value,
        change: Change,
    ) -> Result<Handle, Refusal> {
        let id = OperationKey::generate(&*self.ctx.random);
        let record = Record::new(OperationId::new(id.as_str()), subject, kind, 1, params);
        let begun = self.runner.submit(record, change).await.map_err(not_begun)?;
        self.metrics.operation_begun(kind);
        Ok(begun)
    }

    /// Asks a running operation to give up; returns whether it was running. Durable, with `change`, when it returns.
    async fn cancel(&self, id: &OperationId, why: &str, change: Change) -> Result<bool, Refusal> {
        let cancelled = self.runner.cancel(id, why, change).await;
        cancelled.map_err(|error| not_begun(SubmitError::Log(error)))
    }

    /// Waits for the end of an operation for as long as a request waits, and turns an abort into its refusal.
    async fn settle(&self, handle: &mut Handle) -> Result<Record, Refusal> {
        let within = self.ctx.settings.answer_within;
        let record = match tokio::time::timeout(within, handle.end()).await {
            Ok(record) => record,
            Err(_) => handle.record(),
        };
        match &record.status {
            Status::Aborted {
                fault: Fault::User,
                why,
            }
            | Status::Undoing {
                fault: Fault::User,
                why,
            } => Err(Refusal::invalid(why.clone())),
            Status::Aborted {
                fault: Fault::System,
                why,
            }
            | Status::Undoing {
                fault: Fault::System,
                why,
            } => Err(Refusal::internal(why.clone())),
            Status::Running | Status::Done | Status::Handoff { .. } => Ok(record),
        }
    }
}

/// Turns an operation that did not begin into its answer.
fn not_begun(error: SubmitError) -> Refusal {
    match error {
        SubmitError::Stopped => Refusal::unavailable("volumed is stopping; try again in a moment"),
        SubmitError::Log(LogError::Busy { subject, running }) => Refusal::conflict(format!(
            "{subject} is busy with operation {running}; try again when it has ended"
        )),
        SubmitError::Log(LogError::Refused(refused)) => match refused.downcast::<Refusal>() {
            Ok(refusal) => *refusal,
            Err(other) => Refusal::internal(other.to_string()),
        },
        SubmitError::Log(error) => {
            tracing::error!(error = %crate::ops::chain(&error), "operation not begun");
            Refusal::unavailable("the catalog does not take changes at the moment; look at volumed's log")
        }
        _ => Refusal::internal("the operation was not begun"),
    }
}

/// Turns a transaction that was rolled back into its answer.
fn refusal(error: TxError) -> Refusal {
    match error {
        TxError::Refused(refusal) => refusal,
        TxError::Busy { subject, running } => Refusal::conflict(format!(
            "{subject} is busy with operation {running}; try again when it has ended"
        )),
        TxError::Catalog(error) => {
            tracing::error!(error = %crate::ops::chain(&error), "catalog refused a transaction");
            Refusal::unavailable("the catalog does not answer at the moment; look at volumed's log")
        }
    }
}
