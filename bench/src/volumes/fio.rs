//! fio runs: one job against one target, its figures out of fio's JSON.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How one job reads or writes.
#[derive(Debug)]
pub(crate) struct Job {
    /// What a person calls it.
    pub(crate) name: &'static str,
    /// fio's `rw`.
    pub(crate) rw: &'static str,
    /// Bytes a request, as fio writes it.
    pub(crate) block: &'static str,
    /// Requests under way at once.
    pub(crate) depth: u32,
    /// Writes between two flushes; 0 for none.
    pub(crate) flush_every: u32,
}

/// What a job reads or writes.
#[derive(Debug)]
pub(crate) enum Target {
    /// A file, past the page cache.
    File(PathBuf),
    /// An NBD export on a Unix socket.
    Nbd(PathBuf),
}

/// What came out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Requests a second.
    pub(crate) requests_per_second: f64,
    /// Bytes a second.
    pub(crate) bytes_per_second: f64,
    /// Completion of a request in the middle, in milliseconds.
    pub(crate) p50_ms: f64,
    /// Completion of a request at the 99th percentile, in milliseconds.
    pub(crate) p99_ms: f64,
    /// The slowest request, in milliseconds.
    pub(crate) slowest_ms: f64,
}

/// When a job ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// After so many seconds.
    Seconds(u32),
    /// After so many MiB.
    Mib(u64),
}

/// Runs `job` for so many seconds on the first `mib` MiB of the target, with the same addresses each time, and bytes that
/// compress to a half.
pub(crate) fn run(job: &Job, target: &Target, mib: u64, seconds: u32) -> Result<Outcome> {
    let half = "--buffer_compress_percentage=50";
    run_until(job, target, mib, End::Seconds(seconds), &[half])
}

/// Runs `job` until `end`, with more of fio's options.
pub(crate) fn run_until(job: &Job, target: &Target, mib: u64, end: End, more: &[&str]) -> Result<Outcome> {
    let mut command = Command::new("fio");
    command.args(["--name=job", "--output-format=json", "--randseed=7"]);
    command.args(["--refill_buffers", "--group_reporting"]).args(more);
    match end {
        End::Seconds(seconds) => command.args(["--time_based".to_owned(), format!("--runtime={seconds}")]),
        End::Mib(mib) => command.arg(format!("--io_size={mib}m")),
    };
    match target {
        Target::File(path) => {
            command
                .args(["--ioengine=io_uring", "--direct=1"])
                .arg(named("--filename=", path));
        }
        Target::Nbd(socket) => {
            command
                .arg("--ioengine=nbd")
                .arg(named("--uri=nbd+unix:///?socket=", socket));
        }
    }
    command.args([
        format!("--rw={}", job.rw),
        format!("--bs={}", job.block),
        format!("--iodepth={}", job.depth),
        format!("--fsync={}", job.flush_every),
        format!("--size={mib}m"),
    ]);
    let out = command
        .stdin(Stdio::null())
        .output()
        .context("fio is in Debian's fio")?;
    ensure!(
        out.status.success(),
        "fio {}: {}",
        job.name,
        String::from_utf8_lossy(&out.stderr)
    );
    parse(&out.stdout, job)
}

/// Writes the first `mib` MiB once, so that nothing is read or written that was never allocated.
pub(crate) fn fill(target: &Target, mib: u64) -> Result<()> {
    let Target::File(path) = target else {
        anyhow::bail!("only files are filled")
    };
    let status = Command::new("fio")
        .args([
            "--name=fill",
            "--output-format=json",
            "--ioengine=io_uring",
            "--direct=1",
        ])
        .args([
            "--rw=write",
            "--bs=1m",
            "--iodepth=4",
            "--end_fsync=1",
            "--refill_buffers",
        ])
        .arg(format!("--size={mib}m"))
        .arg(named("--filename=", path))
        .stdout(Stdio::null())
        .status()
        .context("fio is in Debian's fio")?;
    ensure!(status.success(), "fio cannot fill {}", path.display());
    Ok(())
}

fn named(option: &str, path: &Path) -> std::ffi::OsString {
    let mut word = std::ffi::OsString::from(option);
    word.push(path);
    word
}

fn parse(json: &[u8], job: &Job) -> Result<Outcome> {
    // fio may print a warning before its JSON.
    let begin = json.iter().position(|byte| *byte == b'{').context("fio's JSON")?;
    let whole: Value = serde_json::from_slice(&json[begin..])?;
    let sides = ["read", "trim"];
    let side = sides.into_iter().find(|side| job.rw.contains(side));
    let side = side.unwrap_or("write");
    let figures = &whole["jobs"][0][side];
    let number = |value: &Value| {
        value
            .as_f64()
            .with_context(|| format!("a figure of {}", job.name))
    };
    let requests_per_second = number(&figures["iops"])?;
    ensure!(requests_per_second > 0.0, "{} did nothing: {figures}", job.name);
    let milliseconds = |value: &Value| Ok::<f64, anyhow::Error>(number(value)? / 1e6);
    Ok(Outcome {
        requests_per_second,
        bytes_per_second: number(&figures["bw_bytes"])?,
        p50_ms: milliseconds(&figures["clat_ns"]["percentile"]["50.000000"])?,
        p99_ms: milliseconds(&figures["clat_ns"]["percentile"]["99.000000"])?,
        slowest_ms: milliseconds(&figures["clat_ns"]["max"])?,
    })
}
