use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{CatalogError, OpenError, Tx, TxError, schema};

/// Called after each commit of an in-memory catalog with the whole database.
pub type CommitHook = Arc<dyn Fn(&[u8]) + Send + Sync>;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The handle on the catalog; clones share it.
#[derive(Clone)]
pub struct Catalog {
    backend: Arc<Backend>,
}

enum Backend {
    Thread(mpsc::Sender<Job>),
    Inline {
        connection: Mutex<Connection>,
        hook: Option<CommitHook>,
    },
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.backend {
            Backend::Thread(_) => "Catalog(thread)",
            Backend::Inline { .. } => "Catalog(inline)",
        })
    }
}

impl Catalog {
    /// Opens or makes the catalog at `path` on a thread of its own; `queue_len` bounds the transactions that wait.
    ///
    /// # Errors
    /// [`OpenError`] when SQLite does not open it, or a newer program wrote it.
    pub fn open(path: &Path, queue_len: usize) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(sqlite)?;
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(sqlite)?;
        prepare(&mut connection, path)?;
        let (sender, mut jobs) = mpsc::channel::<Job>(queue_len);
        std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || {
                while let Some(job) = jobs.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self {
            backend: Arc::new(Backend::Thread(sender)),
        })
    }

    /// Makes a catalog in memory, from the bytes of an earlier one if given. Transactions run in the caller.
    ///
    /// # Errors
    /// [`OpenError`] when the bytes are not a catalog.
    pub fn in_memory(image: Option<&[u8]>, hook: Option<CommitHook>) -> Result<Self, OpenError> {
        let path = Path::new(":memory:");
        let sqlite = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open_in_memory().map_err(sqlite)?;
        if let Some(image) = image {
            connection
                .deserialize_read_exact("main", image, image.len(), false)
                .map_err(sqlite)?;
        }
        prepare(&mut connection, path)?;
        let catalog = Self {
            backend: Arc::new(Backend::Inline {
                connection: Mutex::new(connection),
                hook,
            }),
        };
        catalog.publish();
        Ok(catalog)
    }

    /// Runs one transaction: commits when `work` returns `Ok`, rolls everything back otherwise.
    ///
    /// # Errors
    /// What `work` returned, or what the database said.
    pub async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, TxError> + Send + 'static,
    ) -> Result<T, TxError> {
        match &*self.backend {
            Backend::Inline { connection, .. } => {
                let (result, changed) = {
                    let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                    let before = connection.total_changes();
                    let result = transact_on(&mut connection, work);
                    (result, connection.total_changes() != before)
                };
                if changed {
                    self.publish();
                }
                result
            }
            Backend::Thread(jobs) => {
                let (reply, answer) = oneshot::channel();
                let job: Job = Box::new(move |connection| {
                    // The asker may be gone; the transaction counts all the same.
                    let _ = reply.send(transact_on(connection, work));
                });
                jobs.send(job).await.map_err(|_| CatalogError::Stopped)?;
                answer
                    .await
                    .unwrap_or(Err(TxError::Catalog(CatalogError::Stopped)))
            }
        }
    }

    fn publish(&self) {
        if let Backend::Inline {
            connection,
            hook: Some(hook),
        } = &*self.backend
        {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            match connection.serialize("main") {
                Ok(image) => hook(&image),
                Err(source) => tracing::error!(error = %source, "in-memory catalog not serialized"),
            }
        }
    }
}

fn transact_on<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Tx<'_>) -> Result<T, TxError>,
) -> Result<T, TxError> {
    let sqlite = |doing| move |source| CatalogError::Sqlite { doing, source };
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sqlite("begin"))?;
    let value = work(&Tx::new(&tx))?;
    tx.commit().map_err(sqlite("commit"))?;
    Ok(value)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    connection
        .pragma_update(None, "foreign_keys", "ON")
        .map_err(sqlite)?;
    let found = schema::found(connection).map_err(sqlite)?;
    if found > schema::VERSION {
        return Err(OpenError::TooNew {
            path: path.to_owned(),
            found,
            known: schema::VERSION,
        });
    }
    schema::migrate(connection, found).map_err(sqlite)
}
