//! `bench litefs`: commits, reads, loads, replicas and starts of litefs, beside SQLite on the same disk; and beside upstream's
//! program, where one is named.

mod commits;
mod many;
mod replica;
mod served;

use std::path::Path;

use anyhow::Result;
use rusqlite::Connection;
use tokio::time::Instant;

use crate::report::{Peer, Report};
use served::{Program, Served};

/// A warm read of one row may take so long, in microseconds.
const READ_GOAL_US: f64 = 40.0;
/// Of the rate of a load into plain SQLite, so much.
const LOAD_GOAL: f64 = 0.5;
const ROWS: u32 = 10_000;

/// Measures on directories and nodes of its own.
///
/// * `upstream`: its program.
pub(crate) async fn run(report: &mut Report, quick: bool, upstream: Option<&Path>) -> Result<()> {
    let ours = Program::Ours(it::node::programs().join("litefs"));
    let upstream = upstream.map(|path| Program::Upstream(path.to_path_buf()));
    commits::run(report, quick, &ours, upstream.as_ref()).await?;
    reads(report, quick, &ours).await?;
    load(report, quick, &ours).await?;
    replica::run(report, quick, &ours).await?;
    many::run(report, quick, &ours).await
}

/// Opens a database in a mode of its own, and makes a table.
pub(crate) fn open(dir: &Path, name: &str, mode: &str, synchronous: &str) -> Result<Connection> {
    let connection = Connection::open(dir.join(name))?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    connection.query_row(&format!("PRAGMA journal_mode={mode}"), [], |_| Ok(()))?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous={synchronous};
         CREATE TABLE IF NOT EXISTS t (k INTEGER PRIMARY KEY, v BLOB)"
    ))?;
    Ok(connection)
}

/// Fills a table in one transaction.
fn fill(connection: &Connection, rows: u32) -> Result<()> {
    connection.execute_batch(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{rows})
         INSERT INTO t (v) SELECT randomblob(100) FROM n"
    ))?;
    Ok(())
}

/// Reads of one row each, of a database that was read before.
async fn reads(report: &mut Report, quick: bool, ours: &Program) -> Result<()> {
    let count = if quick { 5_000 } else { 50_000 };
    let node = Served::primary(ours).await?;
    let plain = tempfile::tempdir()?;
    for mode in ["WAL", "DELETE"] {
        let p50_us = |dir: &Path| -> Result<f64> {
            let connection = open(dir, &format!("reads-{mode}"), mode, "NORMAL")?;
            fill(&connection, ROWS)?;
            let mut statement = connection.prepare("SELECT v FROM t WHERE k = ?1")?;
            let mut taken = Vec::new();
            for number in 0..count {
                // Every page was read in the first rounds.
                let k = number * 7919 % ROWS + 1;
                let begun = Instant::now();
                let _: Vec<u8> = statement.query_row([k], |row| row.get(0))?;
                taken.push(begun.elapsed());
            }
            Ok(crate::report::p50(&taken) * 1e3)
        };
        let (ours, floor) = (p50_us(&node.mount())?, p50_us(plain.path())?);
        report.microseconds(
            &format!("warm read of a row, {mode}, p50"),
            ours,
            floor,
            READ_GOAL_US,
        );
    }
    Ok(())
}

/// One large transaction.
async fn load(report: &mut Report, quick: bool, ours: &Program) -> Result<()> {
    let rows = if quick { 100_000 } else { 500_000 };
    let node = Served::primary(ours).await?;
    let plain = tempfile::tempdir()?;
    for mode in ["WAL", "DELETE"] {
        let rate = |dir: &Path| -> Result<f64> {
            let connection = open(dir, &format!("load-{mode}"), mode, "FULL")?;
            let begun = Instant::now();
            fill(&connection, rows)?;
            Ok(f64::from(rows) / begun.elapsed().as_secs_f64())
        };
        let (ours, floor) = (rate(&node.mount())?, rate(plain.path())?);
        let name = format!("rows of a load in one transaction, {mode} FULL");
        report.at_least(&name, ours, "1/s", floor, LOAD_GOAL);
    }
    Ok(())
}

/// What upstream's program reached.
fn upstream(value: f64) -> Peer {
    Peer {
        name: "LiteFS",
        value,
    }
}
