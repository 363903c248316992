//! How long after its commit a row is seen on a replica.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use super::{Program, Served, open};
use crate::report::{Report, p50};

/// Half of all rows are seen within so long, in milliseconds.
const P50_GOAL_MS: f64 = 2.0;
/// 99 of 100 rows are.
const P99_GOAL_MS: f64 = 10.0;
/// How long a row may take before the replica is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between commits.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn run(report: &mut Report, quick: bool, ours: &Program) -> Result<()> {
    let rows = if quick { 100 } else { 1_000 };
    let primary = Served::primary(ours).await?;
    let replica = Served::follow(ours, &primary).await?;
    for mode in ["WAL", "DELETE"] {
        let name = format!("seen-{mode}");
        let writer = open(&primary.mount(), &name, mode, "FULL")?;
        let deadline = Instant::now() + PATIENCE;
        let path = replica.mount().join(&name);
        while !path.exists() {
            ensure!(Instant::now() < deadline, "{name} does not come to the replica");
            sleep(PAUSE).await;
        }
        let reader = rusqlite::Connection::open(&path)?;
        reader.busy_timeout(PATIENCE)?;
        let mut last = reader.prepare("SELECT coalesce(max(k), 0) FROM t")?;
        let mut insert = writer.prepare("INSERT INTO t VALUES (?1, randomblob(100))")?;
        let mut taken = Vec::new();
        for k in 1..=rows {
            insert.execute([k])?;
            let begun = Instant::now();
            while last.query_row([], |row| row.get::<_, i64>(0))? < k {
                ensure!(begun.elapsed() < PATIENCE, "row {k} does not come to the replica");
                std::thread::yield_now();
            }
            taken.push(begun.elapsed());
            sleep(PAUSE).await;
        }
        let name = format!("row seen on a replica, {mode} FULL");
        report.at_most(&format!("{name}, p50"), p50(&taken), "ms", P50_GOAL_MS);
        taken.sort();
        let p99 = taken[taken.len() * 99 / 100].as_secs_f64() * 1e3;
        report.at_most(&format!("{name}, p99"), p99, "ms", P99_GOAL_MS);
        report.series(&format!("replica-{mode}"), &taken);
    }
    Ok(())
}
