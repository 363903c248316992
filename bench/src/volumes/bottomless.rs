//! `bench bottomless`: the disk of a bottomless volume, beside the plain disk and beside a disk in memory behind NBD.

use super::{
    distant,
    fio::{self, End, Job, Outcome, Target},
};
use crate::report::{Report, median};
use anyhow::{Context, Result, ensure};
use it::disks::{Host, Served, Site};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;

const MIB: u64 = 1 << 20;
/// What NBD and the journal may add to the plain disk's own time.
const ADDED_MS: f64 = 0.040;
/// How long what is deleted may stay in the bucket.
const SHRINKS_WITHIN: Duration = Duration::from_secs(600);
/// Incompressible bytes.
const DENSE: &str = "--buffer_compress_percentage=0";

const fn write(
    name: &'static str,
    rw: &'static str,
    block: &'static str,
    depth: u32,
    flush_every: u32,
) -> Job {
    Job {
        name,
        rw,
        block,
        depth,
        flush_every,
    }
}

const L1: Job = write("L1 random write 4k, 1 at a time", "randwrite", "4k", 1, 0);
/// Two blocks a write: the journal's record of one.
const L1_RAW: Job = write("8k on the plain disk", "randwrite", "8k", 1, 0);
const L2: Job = write("L2 random write 4k, flush each", "randwrite", "4k", 1, 1);
const L2_RAW: Job = write("8k on the plain disk, fdatasync each", "randwrite", "8k", 1, 0);
const L3: Job = write(
    "L3 random write 4k, 32 at a time, flush every 32",
    "randwrite",
    "4k",
    32,
    32,
);
const L4: Job = write("L4 sequential write 16k, flush each", "write", "16k", 1, 1);
const L4_RAW: Job = write("16k on the plain disk, fdatasync each", "write", "16k", 1, 0);
const T1: Job = write("T1 sequential write 1m, 8 at a time", "write", "1m", 8, 0);
const T2: Job = write("T2 random write 4k, 32 at a time", "randwrite", "4k", 32, 0);
const R1: Job = write("R1 random read 4k, 1 at a time, warm", "randread", "4k", 1, 0);
const R2: Job = write("R2 sequential read 1m, 4 at a time", "read", "1m", 4, 0);
const TRIM: Job = write("trim 1m", "trim", "1m", 1, 0);
const FDATASYNC: [&str; 2] = ["--fdatasync=1", "--buffer_compress_percentage=50"];

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// What jobs of latency and of reads work on.
    mib: u64,
    ring_mib: u64,
    seconds: u32,
    rounds: u32,
    /// What is overwritten three times.
    collected_mib: u64,
}

/// Measures on disks, a store and directories of its own.
pub(crate) async fn run(report: &mut Report, quick: bool) -> Result<()> {
    it::node::programs();
    let scale = if quick {
        Scale {
            mib: 256,
            ring_mib: 128,
            seconds: 3,
            rounds: 1,
            collected_mib: 256,
        }
    } else {
        Scale {
            mib: 1024,
            ring_mib: 512,
            seconds: 15,
            rounds: 3,
            collected_mib: 1024,
        }
    };
    requests(report, scale).await?;
    bandwidth(report, scale).await?;
    for (name, pattern, goal) in [
        ("G1 overwritten at random", "--random_distribution=random", 2.3),
        ("G2 overwritten by a few", "--random_distribution=zipf:1.2", 1.3),
    ] {
        collection(report, scale, name, pattern, goal).await?;
    }
    openings(report, scale).await
}

/// A disk that is served, and its host.
struct Disk {
    host: Host,
    served: Served,
}

impl Disk {
    /// Makes a disk with a read cache as large as `cache_mib`.
    async fn serve(site: &Site, volume: &str, mib: u64, ring_mib: u64, cache_mib: u64) -> Result<Self> {
        let host = site.host(volume, volume, mib * MIB, ring_mib * MIB)?;
        host.set_cache(cache_mib * MIB)?;
        let served = host.serve(&[]).await?;
        Ok(Self { host, served })
    }

    fn target(&self) -> Target {
        Target::Nbd(self.host.dir().join("nbd.sock"))
    }

    /// Waits until the bucket has everything, and for as long as the collector has something to do.
    async fn settled(&self) -> Result<Value> {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let deadline = Instant::now() + SHRINKS_WITHIN;
        let (mut last, mut same) = (Value::Null, 0);
        loop {
            ticks.tick().await;
            let status = self.served.status().await?;
            let calm = status["lag_bytes"] == 0 && status["stored_bytes"] == last["stored_bytes"];
            same = if calm { same + 1 } else { 0 };
            if same > 10 {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the disk never rests: {status}");
            last = status;
        }
    }
}

/// A disk in memory behind NBD: what the protocol alone costs.
struct Memory {
    child: Child,
    socket: PathBuf,
}

impl Memory {
    async fn serve(site: &Site, mib: u64) -> Result<Self> {
        let socket = site.path("memory.sock");
        let child = Command::new("nbdkit")
            .args(["--foreground", "--exit-with-parent", "--unix"])
            .arg(&socket)
            .args(["memory", &format!("{mib}M")])
            .stdin(Stdio::null())
            .spawn()
            .context("nbdkit is in Debian's nbdkit")?;
        let memory = Self { child, socket };
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&memory.socket).is_err() {
            ticks.tick().await;
            ensure!(Instant::now() < deadline, "nbdkit does not listen");
        }
        Ok(memory)
    }

    fn target(&self) -> Target {
        Target::Nbd(self.socket.clone())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // One that ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// L1 to L4 and R1, against a store next door.
async fn requests(report: &mut Report, scale: Scale) -> Result<()> {
    let site = Site::new().await?;
    let disk = Disk::serve(
        &site,
        "vol_requests00000000",
        scale.mib * 2,
        scale.ring_mib,
        scale.mib * 2,
    )
    .await?;
    let memory = Memory::serve(&site, scale.mib).await?;
    let (ours, nbd, raw) = (disk.target(), memory.target(), Target::File(site.path("raw")));
    fio::fill(&raw, scale.mib)?;
    for target in [&ours, &nbd] {
        fio::run_until(&T1, target, scale.mib, End::Mib(scale.mib), &[])?;
    }
    let seconds = scale.seconds;
    let on = |job: &Job, target: &Target| fio::run(job, target, scale.mib, seconds);
    let synced = |job: &Job| fio::run_until(job, &raw, scale.mib, End::Seconds(seconds), &FDATASYNC);
    let mut rounds: [Vec<f64>; 12] = Default::default();
    for _ in 0..scale.rounds {
        let rate = |outcome: Outcome| outcome.requests_per_second;
        let round = [
            on(&L1, &ours)?.p50_ms,
            on(&L1_RAW, &raw)?.p50_ms + on(&L1, &nbd)?.p50_ms,
            rate(on(&L2, &ours)?),
            rate(synced(&L2_RAW)?),
            rate(on(&L3, &ours)?),
            rate(on(&L3, &nbd)?),
            rate(on(&L4, &ours)?),
            rate(synced(&L4_RAW)?),
            rate(on(&T2, &ours)?),
            rate(on(&T2, &nbd)?),
            {
                // Warm: behind the collector, and read once.
                disk.settled().await?;
                fio::run_until(&R2, &ours, scale.mib, End::Mib(scale.mib), &[])?;
                rate(on(&R1, &ours)?)
            },
            rate(on(&R1, &raw)?).min(rate(on(&R1, &nbd)?)),
        ];
        for (all, value) in rounds.iter_mut().zip(round) {
            all.push(value);
        }
    }
    let [
        l1,
        l1_floor,
        l2,
        l2_floor,
        l3,
        l3_floor,
        l4,
        l4_floor,
        t2,
        t2_floor,
        r1,
        r1_floor,
    ] = rounds.map(median);
    report.milliseconds(L1.name, l1, Some(l1_floor), Some(l1_floor + ADDED_MS));
    report.at_least(L2.name, l2, "1/s", l2_floor, 0.7);
    report.at_least(L3.name, l3, "1/s", l3_floor, 0.6);
    report.beside_floor(L4.name, l4, "1/s", l4_floor);
    report.beside_floor(T2.name, t2, "1/s", t2_floor);
    report.at_least(R1.name, r1, "1/s", r1_floor, 0.7);
    snapshots(report, &disk, scale).await?;
    isolation(report, &site, &disk, scale).await
}

/// S1: L2 with a snapshot every few seconds.
async fn snapshots(report: &mut Report, disk: &Disk, scale: Scale) -> Result<()> {
    let without = fio::run(&L2, &disk.target(), scale.mib, scale.seconds)?;
    let (target, mib, seconds) = (disk.target(), scale.mib, scale.seconds.max(12));
    let writer = tokio::task::spawn_blocking(move || fio::run(&L2, &target, mib, seconds));
    let mut taken = Vec::new();
    let mut due = tokio::time::interval(Duration::from_secs(10));
    while !writer.is_finished() {
        let name = format!("s{}", taken.len());
        let begun = Instant::now();
        let _: Value = disk
            .served
            .control()
            .post("/v1/snapshots", &json!({ "name": name }))
            .await?;
        taken.push(begun.elapsed());
        due.tick().await;
    }
    let with = writer.await??;
    report.beside_floor(
        "S1 as L2, with a snapshot every 10 s",
        with.requests_per_second,
        "1/s",
        without.requests_per_second,
    );
    report.milliseconds(
        "S1 a snapshot, in the middle",
        crate::report::p50(&taken),
        None,
        None,
    );
    Ok(())
}

/// X1: L2 on one disk while another does T2.
async fn isolation(report: &mut Report, site: &Site, disk: &Disk, scale: Scale) -> Result<()> {
    let other = Disk::serve(
        site,
        "vol_other00000000000",
        scale.mib * 2,
        scale.ring_mib,
        scale.mib,
    )
    .await?;
    let alone = fio::run(&L2, &disk.target(), scale.mib, scale.seconds)?;
    let (target, mib, seconds) = (other.target(), scale.mib, scale.seconds + 1);
    let busy = tokio::task::spawn_blocking(move || fio::run(&T2, &target, mib, seconds));
    let beside = fio::run(&L2, &disk.target(), scale.mib, scale.seconds)?;
    busy.await??;
    report.beside_floor(
        "X1 as L2, while another disk does T2",
        beside.requests_per_second,
        "1/s",
        alone.requests_per_second,
    );
    Ok(())
}

/// T1 in bursts and without end, and R2 without a cache, against a store far away.
async fn bandwidth(report: &mut Report, scale: Scale) -> Result<()> {
    let mut site = Site::new().await?;
    let store = site.address().url;
    let store = store
        .strip_prefix("http://")
        .context("a store without encryption")?;
    let line = distant::open(store.parse()?).await?;
    site.behind(line);
    let mib = scale.ring_mib * 6;
    let disk = Disk::serve(&site, "vol_bandwidth0000000", mib, scale.ring_mib, 0).await?;
    let memory = Memory::serve(&site, mib).await?;
    let raw = Target::File(site.path("raw"));
    let on = |target: &Target, mib: u64| fio::run_until(&T1, target, mib, End::Mib(mib), &[DENSE]);
    let burst_mib = scale.ring_mib / 2;
    fio::fill(&raw, burst_mib)?;
    let floor = on(&raw, burst_mib)?
        .bytes_per_second
        .min(on(&memory.target(), burst_mib)?.bytes_per_second);
    let (target, ring_mib) = (disk.target(), scale.ring_mib);
    let work = move || {
        let on = |mib: u64| fio::run_until(&T1, &target, mib, End::Mib(mib), &[DENSE]);
        let burst = on(burst_mib)?;
        // The ring is full behind this.
        on(ring_mib * 2)?;
        Ok::<_, anyhow::Error>((burst, on(ring_mib * 2)?))
    };
    let (burst, sustained) = tokio::task::spawn_blocking(work).await??;
    let in_mib = |bytes: f64| bytes / MIB as f64;
    report.at_least(
        "T1 sequential write 1m, 8 at a time, half a ring",
        in_mib(burst.bytes_per_second),
        "MiB/s",
        in_mib(floor),
        0.5,
    );
    report.at_least(
        "T1 without end, beside the line to the store",
        in_mib(sustained.bytes_per_second),
        "MiB/s",
        in_mib(distant::BYTES_PER_SECOND),
        0.8,
    );
    disk.settled().await?;
    let (target, mib) = (disk.target(), scale.ring_mib);
    let cold =
        tokio::task::spawn_blocking(move || fio::run_until(&R2, &target, mib, End::Mib(mib), &[])).await??;
    report.beside_floor(
        "R2 sequential read 1m, 4 at a time, no cache, beside the line",
        in_mib(cold.bytes_per_second),
        "MiB/s",
        in_mib(distant::BYTES_PER_SECOND),
    );
    Ok(())
}

/// G1, G2 and D1: overwritten three times, and half of it trimmed.
async fn collection(report: &mut Report, scale: Scale, name: &str, pattern: &str, goal: f64) -> Result<()> {
    let site = Site::new().await?;
    let mib = scale.collected_mib;
    let disk = Disk::serve(&site, "vol_collected0000000", mib, scale.ring_mib, 0).await?;
    let used = mib * 8 / 10;
    fio::run_until(&T1, &disk.target(), used, End::Mib(used), &[DENSE])?;
    disk.settled().await?;
    let before = (
        disk.served.counted("disk_put_bytes_total").await?,
        disk.served.counted("disk_written_bytes_total").await?,
    );
    fio::run_until(&T2, &disk.target(), used, End::Mib(mib * 3), &[DENSE, pattern])?;
    let status = disk.settled().await?;
    let put = disk.served.counted("disk_put_bytes_total").await? - before.0;
    let written = disk.served.counted("disk_written_bytes_total").await? - before.1;
    ensure!(written > 0.0, "nothing was written: {status}");
    let bytes = |status: &Value, field: &str| status[field].as_f64().context("bytes of a status");
    report.at_most(
        &format!("{name}: bytes put for one written"),
        put / written,
        "",
        goal,
    );
    let space = bytes(&status, "stored_bytes")? / bytes(&status, "live_bytes")?;
    report.at_most(&format!("{name}: bytes stored for one needed"), space, "", 1.35);

    let half = used / 2;
    let stored = bytes(&status, "stored_bytes")?;
    let begun = Instant::now();
    fio::run_until(&TRIM, &disk.target(), half, End::Mib(half), &[])?;
    let wanted = stored - 0.9 * (half * MIB) as f64;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let shrunk = loop {
        ticks.tick().await;
        let left = bytes(&disk.served.status().await?, "stored_bytes")?;
        if left <= wanted || begun.elapsed() > SHRINKS_WITHIN {
            break stored - left;
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    report.at_least(
        &format!("D1 after {name}: bytes gone for one trimmed"),
        shrunk / (half * MIB) as f64,
        "",
        1.0,
        0.9,
    );
    report.alone(&format!("D1 after {name}: until then"), seconds, "s");
    Ok(())
}

/// How soon a disk is there again.
async fn openings(report: &mut Report, scale: Scale) -> Result<()> {
    let site = Site::new().await?;
    let mut disk = Disk::serve(&site, "vol_opened0000000000", scale.mib, scale.ring_mib, 0).await?;
    // Nothing leaves the journal while the store is silent.
    site.pause()?;
    let journaled = scale.ring_mib / 2;
    fio::run_until(&T2, &disk.target(), scale.mib, End::Mib(journaled), &[DENSE])?;
    let lag = disk.served.status().await?["lag_bytes"]
        .as_f64()
        .context("a lag")?;
    disk.served.kill()?;
    site.resume()?;
    let begun = Instant::now();
    disk.served = disk.host.serve(&[]).await?;
    let per_gib = begun.elapsed().as_secs_f64() * 1e3 * (1024.0 * MIB as f64) / lag;
    report.milliseconds(
        "opened behind a kill, for 1 GiB of journal",
        per_gib,
        None,
        Some(3000.0),
    );
    disk.settled().await?;
    disk.served.kill()?;
    std::fs::remove_file(disk.host.dir().join("slice"))?;
    let begun = Instant::now();
    disk.served = disk.host.serve(&["--force"]).await?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    report.milliseconds("opened from the store alone", took, None, Some(10_000.0));
    Ok(())
}
