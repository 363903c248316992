//! The catalog: SQLite in WAL mode with `synchronous=FULL`, owned by one thread.
//!
//! Everyone else sends closures to that thread; what a closure writes is one transaction.

use std::path::Path;

use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::ids::MachineId;
use crate::lease::Lease;
use crate::record::{Event, MachineRecord, Version};

mod rows;
mod schema;

/// Requests that may wait for the catalog's thread.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Why the catalog did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// SQLite refused.
    #[error("catalog")]
    Sqlite(#[from] rusqlite::Error),
    /// A row holds something that this version cannot read.
    #[error("catalog row of {what}")]
    Row {
        /// Which row.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file was written by a newer version.
    #[error("catalog has schema {found}, this version knows up to {known}; install the newer version again")]
    Newer {
        /// In the file.
        found: i64,
        /// Known here.
        known: i64,
    },
    /// The thread could not be started.
    #[error("start the catalog's thread")]
    Thread(#[source] std::io::Error),
    /// The thread has ended.
    #[error("catalog is closed")]
    Closed,
}

/// Handle to the catalog's thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    jobs: mpsc::Sender<Job>,
}

/// What one change writes, in one transaction.
#[derive(Debug, Default)]
pub struct Change {
    /// The whole record.
    pub machine: Option<MachineRecord>,
    /// Events of that machine.
    pub events: Vec<Event>,
    /// A new version of its configuration.
    pub version: Option<Version>,
}

impl Catalog {
    /// Opens the file, creates or migrates its tables, and starts the owner thread.
    ///
    /// # Errors
    /// [`CatalogError`] when the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let mut connection = Connection::open(path)?;
        schema::prepare(&mut connection)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(CatalogError::Thread)?;
        Ok(Self { jobs })
    }

    /// Runs `work` in a transaction on the owner thread; commits when it is `Ok`.
    ///
    /// # Errors
    /// What `work` returns, and [`CatalogError::Closed`] at shutdown.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = (|| {
                let transaction = connection.transaction().map_err(CatalogError::from)?;
                let value = work(&transaction)?;
                transaction.commit().map_err(CatalogError::from)?;
                Ok(value)
            })();
            // The asker may have gone; what was written stays written.
            let _gone = answer.send(result);
        });
        self.jobs.send(job).await.map_err(|_| CatalogError::Closed)?;
        answered.await.map_err(|_| CatalogError::Closed)?
    }

    /// Writes a change.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn commit(&self, id: &MachineId, change: Change) -> Result<(), CatalogError> {
        let id = id.clone();
        self.write(move |transaction| rows::apply(transaction, &id, &change))
            .await
    }

    /// All machines, destroyed ones included, oldest first.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn machines(&self) -> Result<Vec<MachineRecord>, CatalogError> {
        self.write(rows::machines).await
    }

    /// Events of a machine, newest first.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn events(&self, id: &MachineId, limit: u32) -> Result<Vec<Event>, CatalogError> {
        let id = id.clone();
        self.write(move |transaction| rows::events(transaction, &id, limit))
            .await
    }

    /// Events of several machines, newest first, at most `limit` each; one pass.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn events_of(&self, ids: Vec<MachineId>, limit: u32) -> Result<Vec<Vec<Event>>, CatalogError> {
        self.write(move |transaction| {
            ids.iter()
                .map(|id| rows::events(transaction, id, limit))
                .collect()
        })
        .await
    }

    /// Versions of a machine's configuration, newest first.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn versions(&self, id: &MachineId) -> Result<Vec<Version>, CatalogError> {
        let id = id.clone();
        self.write(move |transaction| rows::versions(transaction, &id))
            .await
    }

    /// The lease as stored, expired or not.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn lease(&self, id: &MachineId) -> Result<Option<Lease>, CatalogError> {
        let id = id.clone();
        self.write(move |transaction| rows::lease(transaction, &id)).await
    }

    /// Reads the lease, lets `decide` choose what stands there afterwards, and writes it, as one transaction.
    ///
    /// # Errors
    /// What `decide` returns, and [`CatalogError`].
    pub async fn change_lease<E, F>(&self, id: &MachineId, decide: F) -> Result<Option<Lease>, E>
    where
        E: From<CatalogError> + Send + 'static,
        F: FnOnce(Option<Lease>) -> Result<Option<Lease>, E> + Send + 'static,
    {
        let id = id.clone();
        self.write(move |transaction| {
            let lease = decide(rows::lease(transaction, &id)?)?;
            rows::set_lease(transaction, &id, lease.as_ref())?;
            Ok(lease)
        })
        .await
    }

    /// The number of an app network, given out once and kept for ever.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn network_number(&self, network: &str) -> Result<u32, CatalogError> {
        let network = network.to_owned();
        self.write(move |transaction| rows::network_number(transaction, &network))
            .await
    }
}

#[cfg(test)]
mod tests;
