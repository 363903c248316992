//! Processor time of processes, as the kernel counts it.

use anyhow::{Context, Result};
use std::time::Duration;

/// Fields of `/proc/<pid>/stat`, counted from after the name in parentheses: user and system time.
const OWN: (usize, usize) = (11, 12);
/// The same of children that ended and were waited for.
const CHILDREN: (usize, usize) = (13, 14);

/// Returns what the running process `pid` used so far.
pub(crate) fn of(pid: u32) -> Result<Duration> {
    read(&pid.to_string(), OWN)
}

/// Returns what the children of this process used that were waited for.
pub(crate) fn children() -> Result<Duration> {
    read("self", CHILDREN)
}

fn read(pid: &str, (user, system): (usize, usize)) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a name in parentheses")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64> { Ok(fields.get(index).context("a field")?.parse()?) };
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(
        (ticks(user)? + ticks(system)?) * 1000 / per_second,
    ))
}
