//! Guests at a clean stop and at the next start.
//!
//! machine-runner drains itself when it can; it then starts those machines by itself. Where it cannot, the machines
//! that run are stopped one by one, written down, and started again after the next `ready`.

use std::path::PathBuf;
use std::time::Duration;

use daemon::unix_http::{CallError, Client};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config_files::write_file;
use crate::node::Layout;

/// Longest a guest may take to stop (300 s) and a little more.
const STOP_WITHIN: Duration = Duration::from_secs(330);

/// One machine to start again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Guest {
    app: String,
    id: String,
}

/// Stops every guest so that the next start brings it back.
pub(super) async fn stop(layout: &Layout) {
    let runner = runner(layout);
    match runner.post::<Value>("/v1/drain", &json!({})).await {
        Ok(_) => tracing::info!("machines stopped; the next start brings them back"),
        Err(CallError::Status {
            status: 404 | 405, ..
        }) => stop_one_by_one(layout, &runner).await,
        Err(error) => {
            tracing::warn!(error = %error, "machines could not be stopped and go on under their shims")
        }
    }
}

/// Starts the machines that an earlier stop wrote down.
pub(super) async fn resume(layout: &Layout) {
    let path = record(layout);
    let Ok(text) = std::fs::read_to_string(&path) else {
        return;
    };
    let Ok(guests) = serde_json::from_str::<Vec<Guest>>(&text) else {
        tracing::error!(path = %path.display(), "the list of machines to start is unreadable");
        return;
    };
    let runner = runner(layout);
    let starts = guests.iter().map(|guest| start_one(&runner, guest));
    let started = join_all(starts).await;
    let left: Vec<Guest> = guests
        .iter()
        .zip(started)
        .filter(|(_, done)| !done)
        .map(|(guest, _)| guest.clone())
        .collect();
    keep(layout, &left);
}

/// Tells whether there is nothing left to do about the machine.
async fn start_one(runner: &Client, guest: &Guest) -> bool {
    match runner.post::<Value>(&guest.path("/start"), &json!({})).await {
        Ok(_) => {
            tracing::info!(machine_id = guest.id, "machine started again");
            true
        }
        // Destroyed meanwhile, or in a state of somebody's choice.
        Err(CallError::Status {
            status: 404 | 412, ..
        }) => true,
        Err(error) => {
            tracing::warn!(machine_id = guest.id, error = %error, "machine was not started again");
            false
        }
    }
}

async fn stop_one_by_one(layout: &Layout, runner: &Client) {
    let guests = match running(runner).await {
        Ok(guests) => guests,
        Err(error) => {
            tracing::warn!(error = %error, "running machines could not be listed and go on under their shims");
            return;
        }
    };
    // Written before the first is stopped: a stop that is cut short forgets none.
    keep(layout, &guests);
    join_all(guests.iter().map(|guest| stop_one(runner, guest))).await;
}

async fn stop_one(runner: &Client, guest: &Guest) {
    if let Err(error) = runner.post::<Value>(&guest.path("/stop"), &json!({})).await {
        tracing::warn!(machine_id = guest.id, error = %error, "machine did not stop");
        return;
    }
    let waiting = guest.path("/wait?state=stopped&timeout=60");
    let waited = async {
        while let Err(CallError::Status { status: 408, .. }) = runner.get::<Value>(&waiting).await {}
    };
    match tokio::time::timeout(STOP_WITHIN, waited).await {
        Ok(()) => tracing::info!(machine_id = guest.id, "machine stopped"),
        Err(_) => tracing::warn!(machine_id = guest.id, "machine did not stop in time"),
    }
}

async fn running(runner: &Client) -> Result<Vec<Guest>, CallError> {
    let machines: Vec<Value> = runner
        .get("/v1/machines?state=started,starting,restarting")
        .await?;
    let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(machines
        .iter()
        .map(|machine| Guest {
            app: field(&machine["hangar"]["app"]),
            id: field(&machine["id"]),
        })
        .collect())
}

impl Guest {
    fn path(&self, suffix: &str) -> String {
        format!("/v1/apps/{}/machines/{}{suffix}", self.app, self.id)
    }
}

fn runner(layout: &Layout) -> Client {
    Client::new(layout.socket("machine-runner")).with_timeout(STOP_WITHIN)
}

fn record(layout: &Layout) -> PathBuf {
    layout.below("run/resume.json")
}

fn keep(layout: &Layout, guests: &[Guest]) {
    let path = record(layout);
    if guests.is_empty() {
        // There is usually none to remove.
        let _gone = std::fs::remove_file(&path);
        return;
    }
    let text = serde_json::to_string_pretty(guests).unwrap_or_default();
    if let Err(error) = write_file(&path, &text) {
        tracing::error!(error = %error, "the list of machines to start again could not be written");
    }
}

#[cfg(test)]
mod tests;
