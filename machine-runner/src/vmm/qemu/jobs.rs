//! Block jobs: the point-in-time copy of a disk.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::vmm::VmmError;
use crate::vmm::qmp::Qmp;

const JOB: &str = "copy";
const TARGET: &str = "copy-target";
const POLL: Duration = Duration::from_millis(20);

/// Copies the node `source` as it is at the start of the job: what the guest overwrites meanwhile is copied
/// before. One copy at a time; the caller sees to that.
pub(super) async fn backup(qmp: &Qmp, source: &str, target: &Path) -> Result<(), VmmError> {
    let node = json!({
        "driver": "file", "node-name": TARGET, "filename": target.to_string_lossy(), "discard": "unmap",
    });
    qmp.execute("blockdev-add", node).await?;
    let result = run(qmp, source).await;
    // Closes the file, whatever became of the job.
    let closed = qmp.execute("blockdev-del", json!({"node-name": TARGET})).await;
    result?;
    closed?;
    Ok(())
}

async fn run(qmp: &Qmp, source: &str) -> Result<(), VmmError> {
    let job = json!({
        "job-id": JOB, "device": source, "target": TARGET, "sync": "full",
        "auto-dismiss": false, "on-target-error": "report", "on-source-error": "report",
    });
    qmp.execute("blockdev-backup", job).await?;
    loop {
        let jobs = qmp.execute("query-jobs", json!({})).await?;
        let job = jobs.as_array().into_iter().flatten().find(|job| job["id"] == JOB);
        let Some(job) = job else {
            return Err(VmmError::Job {
                what: "copy a disk",
                reason: "the job is gone".to_owned(),
            });
        };
        if job["status"] == "concluded" {
            let error = job["error"].as_str().map(str::to_owned);
            qmp.execute("job-dismiss", json!({"id": JOB})).await?;
            return match error {
                None => Ok(()),
                Some(reason) => Err(VmmError::Job {
                    what: "copy a disk",
                    reason,
                }),
            };
        }
        tokio::time::sleep(POLL).await;
    }
}
