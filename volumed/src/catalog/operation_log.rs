use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use daemon::wall_clock::WallClock;
use operation::{Log, LogError, OperationId, Record};

use super::{Catalog, Tx, TxError};

type Work = Box<dyn FnOnce(&Tx<'_>) -> Result<(), TxError> + Send>;

/// What a step changes in the catalog; commits with the step's record. The default changes nothing.
#[derive(Default)]
pub struct Change(Vec<Work>);

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({})", self.0.len())
    }
}

impl Change {
    /// Makes a change of one function.
    pub fn new(work: impl FnOnce(&Tx<'_>) -> Result<(), TxError> + Send + 'static) -> Self {
        Self(vec![Box::new(work)])
    }

    /// Adds another function, run after the others in the same transaction.
    #[must_use]
    pub fn and(mut self, work: impl FnOnce(&Tx<'_>) -> Result<(), TxError> + Send + 'static) -> Self {
        self.0.push(Box::new(work));
        self
    }

    fn apply(self, tx: &Tx<'_>) -> Result<(), TxError> {
        self.0.into_iter().try_for_each(|work| work(tx))
    }
}

/// The operation log inside the catalog.
#[derive(Clone, Debug)]
pub struct CatalogLog {
    catalog: Catalog,
    clock: Arc<dyn WallClock>,
}

impl CatalogLog {
    /// Keeps operations in `catalog`.
    pub fn new(catalog: Catalog, clock: Arc<dyn WallClock>) -> Self {
        Self { catalog, clock }
    }
}

fn log_error(error: TxError) -> LogError {
    match error {
        TxError::Refused(refusal) => LogError::Refused(Box::new(refusal)),
        TxError::Busy { subject, running } => LogError::Busy {
            subject,
            running: OperationId::new(running),
        },
        TxError::Catalog(source) => LogError::Store(Box::new(source)),
    }
}

#[async_trait]
impl Log<Change> for CatalogLog {
    async fn begin(&self, record: &Record, change: Change) -> Result<(), LogError> {
        let (record, at) = (record.clone(), self.clock.now());
        let begun = self.catalog.transact(move |tx| {
            if let Some(running) = tx.running_operation(&record.subject)? {
                return Err(TxError::Busy {
                    subject: record.subject,
                    running: running.id.to_string(),
                });
            }
            change.apply(tx)?;
            Ok(tx.insert_operation(&record, at)?)
        });
        begun.await.map_err(log_error)
    }

    async fn advance(&self, record: &Record, change: Change) -> Result<(), LogError> {
        let (record, at) = (record.clone(), self.clock.now());
        let advanced = self.catalog.transact(move |tx| {
            let kept = tx.operation(record.id.as_str())?;
            if let (Some(why), None) = (kept.and_then(|k| k.cancelled), &record.cancelled) {
                return Ok(Some(why));
            }
            change.apply(tx)?;
            tx.update_operation(&record, at)?;
            Ok(None)
        });
        match advanced.await.map_err(log_error)? {
            None => Ok(()),
            Some(why) => Err(LogError::Cancelled { why }),
        }
    }

    async fn cancel(&self, id: &OperationId, why: &str, change: Change) -> Result<bool, LogError> {
        let (id, why, at) = (id.clone(), why.to_owned(), self.clock.now());
        let cancelled = self.catalog.transact(move |tx| {
            let Some(mut kept) = tx.operation(id.as_str())?.filter(|k| !k.status.ended()) else {
                return Ok(false);
            };
            change.apply(tx)?;
            kept.cancelled.get_or_insert(why);
            tx.update_operation(&kept, at)?;
            Ok(true)
        });
        cancelled.await.map_err(log_error)
    }

    async fn pending(&self) -> Result<Vec<Record>, LogError> {
        self.catalog
            .transact(|tx| Ok(tx.running_operations()?))
            .await
            .map_err(log_error)
    }
}
