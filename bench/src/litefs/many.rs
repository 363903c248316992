//! A node with many databases.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Program, Served, open};
use crate::{cpu, report::Report};

/// A start may take so long, in seconds.
const START_GOAL_S: f64 = 10.0;
/// The process may use so much, in MiB.
const MEMORY_GOAL_MIB: f64 = 500.0;
/// Of one processor, while nobody does anything, in percent.
const IDLE_GOAL_PERCENT: f64 = 1.0;
const IDLE: Duration = Duration::from_secs(5);

pub(super) async fn run(report: &mut Report, quick: bool, ours: &Program) -> Result<()> {
    let count = if quick { 500 } else { 10_000 };
    let mut node = Served::primary(ours).await?;
    for number in 0..count {
        open(&node.mount(), &format!("many-{number}"), "WAL", "NORMAL")?;
    }
    let start = node.restart().await?;
    report.at_most(
        &format!("start with {count} databases"),
        start.as_secs_f64(),
        "s",
        START_GOAL_S,
    );
    let before = cpu::of(node.pid())?;
    sleep(IDLE).await;
    let used = cpu::of(node.pid())?.checked_sub(before).unwrap_or_default();
    report.at_most(
        &format!("processor while {count} databases are idle"),
        used.as_secs_f64() / IDLE.as_secs_f64() * 100.0,
        "%",
        IDLE_GOAL_PERCENT,
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = resident.context("VmRSS of the node")?.trim().parse()?;
    report.at_most(
        &format!("memory with {count} databases"),
        kib / 1024.0,
        "MiB",
        MEMORY_GOAL_MIB,
    );
    Ok(())
}
