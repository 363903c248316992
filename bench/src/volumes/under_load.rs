//! What a snapshot costs a writer, on a pool that shares blocks: the same writer with and without snapshots.

use super::fio::{self, Job, Outcome, Target};
use crate::report::{Report, p50};
use anyhow::{Context, Result};
use it::volumed::Volumed;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const WRITER: Job = Job {
    name: "writer",
    rw: "randwrite",
    block: "4k",
    depth: 4,
    flush_every: 4,
};

/// Far more often than anybody does it, so that a short run holds some.
const BETWEEN: Duration = Duration::from_secs(10);

pub(crate) async fn run(report: &mut Report, quick: bool) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("snapshots under load are not measured: only root may mount");
        return Ok(());
    }
    let (mib, seconds) = if quick { (256, 12) } else { (512, 60) };
    // A snapshot is uploaded whole the first time: two of the volume and its bucket have to fit.
    let (dir, _mounted) = it::reflink::xfs(12)?;
    let mut volumed = Volumed::new_in(dir).await?;
    let _running = volumed.start().await?;
    let client = volumed.client();
    let volume = volumed
        .create(
            &client,
            &json!({"name": "data", "size_gb": 2, "encrypted": false, "fstype": "xfs"}),
        )
        .await?;
    let place = volumed.path("mounted");
    let mount = format!("/v1/volumes/{volume}/mount");
    let _: Value = client.put(&mount, &json!({"host_path": place})).await?;
    let file = place.join("file");
    fio::fill(&Target::File(file.clone()), mib)?;
    volumed.snapshot(&client, &volume).await?;

    let without = write(&file, mib, seconds).await??;
    let writer = write(&file, mib, seconds);
    tokio::pin!(writer);
    let mut captures = Vec::new();
    let mut due = tokio::time::interval(BETWEEN);
    due.tick().await;
    let with = loop {
        let begun = Instant::now();
        let snapshots = format!("/v1/volumes/{volume}/snapshots");
        let taken: Value = client.post(&snapshots, &json!({})).await?;
        captured(&client, taken["id"].as_str().context("a snapshot's id")?).await?;
        captures.push(begun.elapsed());
        tokio::select! {
            outcome = &mut writer => break outcome??,
            _ = due.tick() => {}
        }
    };
    volumed.rest(&client).await?;
    let _: Value = client.delete(&mount).await?;
    report.series("snapshot-capture", &captures);
    report.milliseconds(
        "snapshot: API call to point in time taken, p50",
        p50(&captures),
        None,
        None,
    );
    let name = format!(
        "writer beside {} snapshots and their backups: writes",
        captures.len()
    );
    report.beside_floor(
        &name,
        with.requests_per_second,
        "1/s",
        without.requests_per_second,
    );
    report.beside_floor("the same writer: write p99", with.p99_ms, "ms", without.p99_ms);
    report.beside_floor(
        "the same writer: slowest write",
        with.slowest_ms,
        "ms",
        without.slowest_ms,
    );
    Ok(())
}

fn write(file: &std::path::Path, mib: u64, seconds: u32) -> tokio::task::JoinHandle<Result<Outcome>> {
    let target = Target::File(file.to_owned());
    tokio::task::spawn_blocking(move || fio::run(&WRITER, &target, mib, seconds))
}

/// Waits until the snapshot's point in time is taken: what follows reads from it and stops nobody.
async fn captured(client: &daemon::unix_http::Client, snapshot: &str) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let path = format!("/v1/snapshots/{snapshot}");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        ticks.tick().await;
        let shown: Value = client.get(&path).await?;
        if shown["status"] != "waiting" {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "no point in time: {shown}");
    }
}
