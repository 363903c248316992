//! `bench machines`: our share of a machine's start beyond bare QEMU, the exec round trip, a grow under a writer.

mod bare;

use bare::{Bare, Networks};

use crate::report::{Report, p50};
use anyhow::{Context, Result, ensure};
use it::{image, node::Node};
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

const APP: &str = "bench";
/// How often a volume grows under a suspended machine.
const SUSPENDED_GROWS: u32 = 5;
/// What we aim at for our share of a start, in milliseconds.
const START_SHARE_GOAL_MS: f64 = 50.0;
/// Appends to a file on the volume, for ever.
const WRITER: &str = "while true; do dd if=/dev/zero of=/data/w bs=64k count=16 conv=fsync 2>/dev/null; done";

/// Measures on a node of its own.
pub(crate) async fn run(report: &mut Report, quick: bool) -> Result<()> {
    let rounds = if quick { 5 } else { 20 };
    let node = Node::start()?;
    node.ok(
        "POST",
        "/v1/apps",
        Some(&json!({"app_name": APP, "name": APP, "org_slug": "personal"})),
    )
    .await?;
    image::import(&node)?;
    starts(&node, report, rounds).await?;
    execs_and_grows(&node, report, rounds).await?;
    suspended_grows(&node, report).await
}

/// One start.
#[derive(Clone, Copy)]
struct Start {
    /// Until QEMU listened on its sockets: the guest's boot begins there.
    until_qemu: Duration,
    /// Until the workload ran, as far as whoever asked for it can tell.
    whole: Duration,
}

/// Starts of a stopped machine through the API and of the same QEMU by hand, in turn.
async fn starts(node: &Node, report: &mut Report, rounds: usize) -> Result<()> {
    let id = image::run(node, APP, json!({})).await?;
    let dir = node.path("machine-runner/m").join(&id);
    let bare = Bare::of_running_machine(&dir, Networks::Least)?;
    let with_networks = Bare::of_running_machine(&dir, Networks::Both)?;
    stop(node, &id).await?;
    let (mut ours, mut floor, mut floor_networks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Whatever a start leaves behind, it burdens each as often.
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => ours.push(start(node, &id, &dir).await?),
                1 => floor.push(bare.start().await?),
                _ => floor_networks.push(with_networks.start().await?),
            }
        }
    }
    let column = |starts: &[Start], part: fn(&Start) -> Duration| starts.iter().map(part).collect::<Vec<_>>();
    let (whole, floor_whole) = (column(&ours, |s| s.whole), column(&floor, |s| s.whole));
    report.series("start", &whole);
    report.series("start-bare-qemu", &floor_whole);
    let (with_us, without_us) = (p50(&whole), p50(&floor_whole));
    let same_guest = p50(&column(&floor_networks, |s| s.whole));
    report.milliseconds(
        "start: API call to workload running, p50",
        with_us,
        Some(without_us),
        None,
    );
    let before = p50(&column(&ours, |s| s.until_qemu));
    let before_floor = p50(&column(&floor, |s| s.until_qemu));
    report.milliseconds("start: until QEMU listens, p50", before, Some(before_floor), None);
    report.milliseconds(
        "our share of a start, difference of medians",
        with_us - without_us,
        None,
        Some(START_SHARE_GOAL_MS),
    );
    report.milliseconds(
        "of it: the guest sets up its networks",
        same_guest - without_us,
        None,
        None,
    );
    report.milliseconds("of it: our daemons", with_us - same_guest, None, None);
    report.milliseconds(
        "of that: before the guest boots",
        before - before_floor,
        None,
        None,
    );
    node.ok(
        "DELETE",
        &format!("/v1/apps/{APP}/machines/{id}?force=true"),
        None,
    )
    .await?;
    Ok(())
}

/// Starts a stopped machine through the API, measures, and stops it.
async fn start(node: &Node, id: &str, dir: &Path) -> Result<Start> {
    let (called, begun) = (SystemTime::from(daemon::wall_clock::now()), Instant::now());
    node.ok("POST", &format!("/v1/apps/{APP}/machines/{id}/start"), None)
        .await?;
    image::wait(node, APP, id, "started").await?;
    let whole = begun.elapsed();
    let until_qemu = bare::listening_since(dir)?.duration_since(called)?;
    stop(node, id).await?;
    Ok(Start { until_qemu, whole })
}

async fn stop(node: &Node, id: &str) -> Result<()> {
    let path = format!("/v1/apps/{APP}/machines/{id}/stop");
    node.ok("POST", &path, Some(&json!({"signal": "SIGKILL"})))
        .await?;
    image::wait(node, APP, id, "stopped").await
}

async fn execs_and_grows(node: &Node, report: &mut Report, rounds: usize) -> Result<()> {
    let volume = json!({"name": "data", "region": "local", "size_gb": 1});
    let volume = node
        .ok("POST", &format!("/v1/apps/{APP}/volumes"), Some(&volume))
        .await?;
    let volume = volume["id"].as_str().context("a volume's id")?;
    let exec = ["/bin/sh", "-c", WRITER];
    let config = json!({"init": {"exec": exec}, "mounts": [{"volume": volume, "path": "/data"}]});
    let id = image::run(node, APP, config).await?;
    let mut grows = Vec::new();
    for round in 0..rounds {
        let size_gb = 2 + round;
        let begun = Instant::now();
        let path = format!("/v1/apps/{APP}/volumes/{volume}/extend");
        let answer = node.ok("PUT", &path, Some(&json!({"size_gb": size_gb}))).await?;
        grows.push(begun.elapsed());
        ensure!(
            answer["needs_restart"] == false,
            "the guest did not see the larger volume: {answer}"
        );
        let kib: usize = image::exec(node, APP, &id, "df -k /data | tail -n 1 | awk '{print $2}'")
            .await?
            .parse()?;
        ensure!(kib > size_gb * 950_000, "df shows {kib} KiB of {size_gb} GiB");
    }
    let errors = image::exec(node, APP, &id, "dmesg | grep -ci 'i/o error' || true").await?;
    ensure!(errors == "0", "the guest's kernel saw {errors} I/O errors");
    report.series("grow", &grows);
    report.milliseconds(
        "grow: API call to larger statfs, writer running, p50",
        p50(&grows),
        None,
        Some(2_000.0),
    );
    report.milliseconds(
        "exec `true`: API round trip, p50",
        p50(&execs(node, &id, rounds * 5).await?),
        None,
        None,
    );
    Ok(())
}

/// Extends while the machine is suspended; what counts is the size that its guest sees right after it goes on.
async fn suspended_grows(node: &Node, report: &mut Report) -> Result<()> {
    let volume = json!({"name": "rest", "region": "local", "size_gb": 1});
    let volume = node
        .ok("POST", &format!("/v1/apps/{APP}/volumes"), Some(&volume))
        .await?;
    let volume = volume["id"].as_str().context("a volume's id")?;
    let id = image::run(
        node,
        APP,
        json!({"mounts": [{"volume": volume, "path": "/data"}]}),
    )
    .await?;
    let machine = format!("/v1/apps/{APP}/machines/{id}");
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let mut failures = 0;
    for round in 0..SUSPENDED_GROWS {
        let before = image::exec(node, APP, &id, boot).await?;
        node.ok("POST", &format!("{machine}/suspend"), None).await?;
        image::wait(node, APP, &id, "suspended").await?;
        let size_gb = 2 + u64::from(round);
        let path = format!("/v1/apps/{APP}/volumes/{volume}/extend");
        node.ok("PUT", &path, Some(&json!({"size_gb": size_gb}))).await?;
        node.ok("POST", &format!("{machine}/start"), None).await?;
        image::wait(node, APP, &id, "started").await?;
        let kib: u64 = image::exec(node, APP, &id, "df -k /data | tail -n 1 | awk '{print $2}'")
            .await?
            .parse()?;
        let same_boot = image::exec(node, APP, &id, boot).await? == before;
        if kib <= size_gb * 950_000 || !same_boot {
            eprintln!("suspended grow {round}: {kib} KiB of {size_gb} GiB, same boot: {same_boot}");
            failures += 1;
        }
    }
    report.failures(
        &format!("grown while suspended, not seen right after resume, of {SUSPENDED_GROWS}"),
        failures,
    );
    Ok(())
}

async fn execs(node: &Node, id: &str, count: usize) -> Result<Vec<Duration>> {
    let body: Value = json!({"command": ["/bin/true"], "timeout": 30});
    let path = format!("/v1/apps/{APP}/machines/{id}/exec");
    let mut samples = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let answer = node.ok("POST", &path, Some(&body)).await?;
        samples.push(begun.elapsed());
        ensure!(answer["exit_code"] == 0, "exec: {answer}");
    }
    Ok(samples)
}
