//! The catalog: organizations, apps, tokens and secrets in SQLite, behind one owner thread.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

mod apps;
mod schema;
mod secrets;
mod tokens;

pub use apps::{AppRow, CreateApp, NewApp, Organization};
pub use secrets::SecretRow;

/// How many calls may wait for the owner thread; callers beyond that wait for a place.
const QUEUE_CALLS: usize = 256;

/// Why the catalog could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite said no.
    #[error("catalog query")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer program.
    #[error("catalog schema {found} is newer than {known}, the newest this program knows")]
    TooNew {
        /// In the file.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A stored value is not what was written.
    #[error("catalog value {field} is unreadable")]
    Corrupt {
        /// Which.
        field: &'static str,
    },
    /// The owner thread ended.
    #[error("the catalog's thread has ended")]
    Gone,
    /// The owner thread could not be started.
    #[error("start of the catalog's thread")]
    Thread(#[source] std::io::Error),
}

type Call = Box<dyn FnOnce(&mut Connection) + Send>;

/// Handle on the catalog; clones share the one owner thread, which ends with the last handle.
#[derive(Debug, Clone)]
pub struct Store {
    calls: mpsc::Sender<Call>,
}

impl Store {
    /// Opens or creates the catalog at `path` (WAL, `synchronous=FULL`) and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be opened or is newer than this program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        schema::prepare(&mut connection)?;
        let (calls, mut inbox) = mpsc::channel::<Call>(QUEUE_CALLS);
        std::thread::Builder::new()
            .name("flaps-store".to_owned())
            .spawn(move || {
                while let Some(call) = inbox.blocking_recv() {
                    call(&mut connection);
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { calls })
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        let call: Call = Box::new(move |connection| {
            // Nobody may be waiting any more (a client hung up); the work is done all the same.
            let _ = answer.send(work(connection));
        });
        self.calls.send(call).await.map_err(|_| StoreError::Gone)?;
        result.await.map_err(|_| StoreError::Gone)?
    }
}

fn timestamp(field: &'static str, text: &str) -> Result<jiff::Timestamp, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { field })
}

#[cfg(test)]
mod tests;
