//! `GET /export`: a database as a file of SQLite.

use std::{sync::Arc, sync::atomic::Ordering, thread};

use http::{Response, StatusCode};
use tokio::sync::mpsc;

use super::{Answer, Api, Query, Refused, channel};
use crate::replication::sender::{self, Parts};

/// Sends a database.
pub(super) async fn export(api: &Arc<Api>, query: &Query) -> Answer {
    let name = query.get("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refused::bad("name required"))?;
    let not_found = || Refused::new(StatusCode::NOT_FOUND, "database not found");
    let name = name.parse().map_err(|_| not_found())?;
    let slot = api.store.get(&name).ok_or_else(not_found)?;
    let stopping = Arc::clone(&api.stopping);
    let taken = tokio::task::spawn_blocking(move || {
        sender::take_snapshot(&slot, &|| stopping.load(Ordering::Acquire))
    });
    let snapshot = taken
        .await
        .map_err(|error| Refused::internal(&error))?
        .map_err(|error| Refused::internal(&error))?
        .ok_or_else(|| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the node stops"))?;
    if snapshot.pages() == 0 {
        return Err(not_found());
    }
    let (parts, body) = mpsc::channel(sender::CHUNKS_WAITING);
    let started = thread::Builder::new().name("export".to_owned()).spawn(move || {
        if let Err(error) = snapshot.write_database(Parts::new(&parts)) {
            let _gone = parts.blocking_send(Err(error));
        }
    });
    started.map_err(|error| Refused::internal(&error))?;
    Ok(Response::new(channel(body)))
}
