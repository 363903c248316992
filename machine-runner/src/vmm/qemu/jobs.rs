//! Block jobs: the point-in-time copy of a disk.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::vmm::VmmError;
use crate::vmm::qmp::{Qmp, QmpError};

const JOB: &str = "copy";
const TARGET: &str = "copy-target";
const POLL: Duration = Duration::from_millis(20);

fn refused(reason: String) -> VmmError {
    VmmError::Job {
        what: "copy a disk",
        reason,
    }
}

/// Copies the node `source` as it is at the start of the job: what the guest overwrites meanwhile is copied
/// before. Broken off when it is given up. One copy at a time; the caller sees to that.
pub(super) async fn backup(
    qmp: &Qmp,
    source: &str,
    target: &Path,
    given_up: &CancellationToken,
) -> Result<(), VmmError> {
    clear(qmp).await?;
    let node = json!({
        "driver": "file", "node-name": TARGET, "filename": target.to_string_lossy(), "discard": "unmap",
    });
    qmp.execute("blockdev-add", node).await?;
    let result = run(qmp, source, given_up).await;
    // Closes the file, whatever became of the job. A file that stays open makes no copy worse, and the next one
    // closes it.
    if let Err(error) = close(qmp).await {
        tracing::warn!(%error, "the file of a copy was not closed");
    }
    result
}

/// Removes what a copy left behind when QEMU did not answer in time: with its names taken, no disk of this guest could
/// be copied any more.
async fn clear(qmp: &Qmp) -> Result<(), VmmError> {
    if job(qmp).await?.is_some() {
        let given_up = CancellationToken::new();
        given_up.cancel();
        let error = conclude(qmp, &given_up).await?;
        tracing::warn!(error, "an earlier copy of a disk was cleared away");
    }
    let nodes = qmp
        .execute("query-named-block-nodes", json!({"flat": true}))
        .await?;
    let mut nodes = nodes.as_array().into_iter().flatten();
    if nodes.any(|node| node["node-name"] == TARGET) {
        close(qmp).await?;
    }
    Ok(())
}

async fn close(qmp: &Qmp) -> Result<(), QmpError> {
    qmp.execute("blockdev-del", json!({"node-name": TARGET}))
        .await
        .map(drop)
}

async fn run(qmp: &Qmp, source: &str, given_up: &CancellationToken) -> Result<(), VmmError> {
    let job = json!({
        "job-id": JOB, "device": source, "target": TARGET, "sync": "full",
        "auto-dismiss": false, "on-target-error": "report", "on-source-error": "report",
    });
    qmp.execute("blockdev-backup", job).await?;
    match conclude(qmp, given_up).await? {
        None => Ok(()),
        Some(reason) => Err(refused(reason)),
    }
}

async fn job(qmp: &Qmp) -> Result<Option<Value>, QmpError> {
    let jobs = qmp.execute("query-jobs", json!({})).await?;
    let mut jobs = jobs.as_array().into_iter().flatten();
    Ok(jobs.find(|job| job["id"] == JOB).cloned())
}

/// Waits for the job's end, which it hastens when nobody wants the copy any more, and removes the job. Returns why it
/// failed; nothing when it did what it should.
async fn conclude(qmp: &Qmp, given_up: &CancellationToken) -> Result<Option<String>, VmmError> {
    let mut cancelled = false;
    loop {
        let Some(job) = job(qmp).await? else {
            return Err(refused("the job is gone".to_owned()));
        };
        if job["status"] == "concluded" {
            qmp.execute("job-dismiss", json!({"id": JOB})).await?;
            let error = job["error"].as_str().map(str::to_owned);
            // One that was told to stop is no copy, whatever it says of itself.
            return Ok(error.or_else(|| cancelled.then(|| "it was given up".to_owned())));
        }
        if given_up.is_cancelled() && !cancelled {
            cancelled = true;
            match qmp.execute("job-cancel", json!({"id": JOB})).await {
                // One that ends at this moment cannot be cancelled, and need not be.
                Ok(_) | Err(QmpError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests;
