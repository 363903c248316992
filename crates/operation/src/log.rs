use async_trait::async_trait;

use crate::record::{OperationId, Record};

/// Why the log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The subject has an operation that has not ended.
    #[error("{subject} is busy with operation {running}")]
    Busy {
        /// What the operation changes.
        subject: String,
        /// The operation in the way.
        running: OperationId,
    },
    /// The product's own check inside the transaction refused the change.
    #[error("refused by the catalog")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operation was cancelled since its driver last heard of it; nothing was changed.
    #[error("operation was cancelled: {why}")]
    Cancelled {
        /// The sentence for the user.
        why: String,
    },
    /// The store under the log did not take it.
    #[error("write the operation log")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where operations are kept. Every call that returns is durable.
///
/// `C` is the product's catalog change: it commits in the same transaction as the record, or not at all.
#[async_trait]
pub trait Log<C>: Send + Sync + 'static {
    /// Keeps a new record, with the change that announces it (a row in state `creating`, say).
    ///
    /// # Errors
    /// [`LogError::Busy`] when the subject has an operation that has not ended.
    async fn begin(&self, record: &Record, change: C) -> Result<(), LogError>;

    /// Replaces a record after a step, an undo, a retry or the end, with the step's change.
    ///
    /// # Errors
    /// [`LogError::Cancelled`] when the kept record is cancelled and `record` does not say so: between a cancellation
    /// and the end of an operation one comes first, and whoever was told of it is right.
    async fn advance(&self, record: &Record, change: C) -> Result<(), LogError>;

    /// Notes on the kept record that it is to give up, with the change that announces it.
    ///
    /// Returns false, and changes nothing, when there is no such operation or it has ended. An earlier reason stays.
    async fn cancel(&self, id: &OperationId, why: &str, change: C) -> Result<bool, LogError>;

    /// Returns every record that has not ended, oldest first.
    async fn pending(&self) -> Result<Vec<Record>, LogError>;
}
