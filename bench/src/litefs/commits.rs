//! Commits per second, one row each, by one writer and by several.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::{Program, Served, open, upstream};
use crate::report::{Report, median};

/// Of the rate of plain SQLite, so much.
const OF_PLAIN: f64 = 0.6;
/// Of upstream's rate, so much.
const OF_UPSTREAM: f64 = 3.0;
const MODES: [(&str, &str); 5] = [
    ("DELETE", "FULL"),
    ("TRUNCATE", "FULL"),
    ("PERSIST", "FULL"),
    ("WAL", "FULL"),
    ("WAL", "NORMAL"),
];

pub(super) async fn run(
    report: &mut Report,
    quick: bool,
    ours: &Program,
    peer: Option<&Program>,
) -> Result<()> {
    let (rounds, lasts) = if quick { (1, 2) } else { (3, 5) };
    let lasts = Duration::from_secs(lasts);
    let ours = Served::primary(ours).await?;
    let peer = match peer {
        Some(program) => Some(Served::primary(program).await?),
        None => None,
    };
    let plain = tempfile::tempdir()?;
    for (mode, synchronous) in MODES {
        for writers in [1, 8] {
            let (mut here, mut floor, mut there) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..rounds {
                let name = format!("{mode}-{synchronous}-{writers}-{round}");
                let rate = async |dir: &Path| commits(dir, &name, (mode, synchronous), writers, lasts).await;
                floor.push(rate(plain.path()).await?);
                here.push(rate(&ours.mount()).await?);
                if let Some(peer) = &peer {
                    there.push(rate(&peer.mount()).await?);
                }
            }
            let (here, floor) = (median(here), median(floor));
            let there = (!there.is_empty()).then(|| median(there));
            let of_plain = (synchronous == "FULL").then_some(floor * OF_PLAIN);
            let goals = [of_plain, there.map(|there| there * OF_UPSTREAM)];
            let goal = goals.into_iter().flatten().reduce(f64::min);
            let name = format!("commits, {mode} {synchronous}, {writers} at once");
            report.more(&name, here, "1/s", floor, goal, there.map(upstream));
        }
    }
    Ok(())
}

/// Commits for a while, and returns how many there were in a second.
async fn commits(
    dir: &Path,
    name: &str,
    (mode, synchronous): (&str, &str),
    writers: usize,
    lasts: Duration,
) -> Result<f64> {
    let (count, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let connections = (0..writers).map(|_| open(dir, name, mode, synchronous));
    let connections = connections.collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let workers: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            let (count, over) = (Arc::clone(&count), Arc::clone(&over));
            std::thread::spawn(move || -> rusqlite::Result<()> {
                let mut insert = connection.prepare("INSERT INTO t (v) VALUES (randomblob(100))")?;
                while !over.load(Ordering::Relaxed) {
                    insert.execute([])?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    sleep(lasts).await;
    let (done, took) = (count.load(Ordering::Relaxed), begun.elapsed());
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        let ended = worker.join().ok().context("a writer panicked")?;
        ended.with_context(|| format!("{name} in {}", dir.display()))?;
    }
    Ok(done as f64 / took.as_secs_f64())
}
