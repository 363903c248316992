use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::outcome::{Outcome, Undone};
use crate::record::Record;

/// One step of a kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// Name, unique in its list; stands in logs, probes and metrics.
    pub name: &'static str,
    /// Once this step is done nothing is undone any more: later aborts become retries.
    ///
    /// Its own undo still meets the whole effect when the operation is cancelled before the end of the step is kept.
    pub pivot: bool,
}

impl StepSpec {
    /// A step that can be undone.
    pub const fn new(name: &'static str) -> Self {
        Self { name, pivot: false }
    }

    /// A step after which the operation only goes forward.
    pub const fn pivot(name: &'static str) -> Self {
        Self { name, pivot: true }
    }
}

/// What a product's operations do.
///
/// `run` and `undo` are idempotent: a crash may come between an effect and its record, and then the same call comes
/// again with the same record. `undo` also comes for a step that aborted half-way or never had an effect.
#[async_trait]
pub trait StepSet: Send + Sync + 'static {
    /// The product's catalog change; commits together with the step's result.
    type Change: Default + Send + 'static;

    /// Returns the steps of a kind, in order, or none when this program does not know (kind, version).
    fn steps(&self, kind: &str, version: u32) -> Option<&'static [StepSpec]>;

    /// Runs one step.
    ///
    /// A step that takes long watches `cancelled`: once it fires nothing of the step is wanted any more, and the sooner
    /// it returns, with a retry say, the sooner it is undone. It never fires after a pivot.
    async fn run(
        &self,
        record: &Record,
        step: &'static str,
        cancelled: &CancellationToken,
    ) -> Outcome<Self::Change>;

    /// Takes one step back.
    async fn undo(&self, record: &Record, step: &'static str) -> Undone<Self::Change>;
}
