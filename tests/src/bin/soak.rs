//! Runs seeds of a simulated world on all cores: `soak WORLD --seeds N [--from SEED]`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command; its lines are its result"
)]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

/// One universe: its digest, or what went wrong.
type RunSeed = fn(u64) -> Result<String, String>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match parse(&words) {
        Ok((world, run_seed, seeds, from)) => soak(world, run_seed, seeds, from),
        Err(why) => {
            eprintln!("{why}\nusage: soak operations|disk|litefs|decoders --seeds N [--from SEED]");
            ExitCode::from(2)
        }
    }
}

fn parse(words: &[String]) -> Result<(&str, RunSeed, u64, u64), String> {
    let world = words.first().ok_or("no world given")?;
    let run_seed: RunSeed = match world.as_str() {
        "operations" => |seed| {
            it::operations_world::run_seed(seed)
                .map(|d| d.to_string())
                .map_err(|f| f.to_string())
        },
        "disk" => |seed| {
            disk_world::run_seed(seed)
                .map(|d| d.to_string())
                .map_err(|f| f.to_string())
        },
        "litefs" => |seed| {
            litefs_world::run_seed(seed)
                .map(|d| d.to_string())
                .map_err(|f| f.to_string())
        },
        // A seed is a thousand inputs.
        "decoders" => |seed| disk_world::run_decoders(seed).map(|()| String::new()),
        other => return Err(format!("no world is called `{other}`")),
    };
    let (mut seeds, mut from) = (None, None);
    for pair in words[1..].chunks(2) {
        let [flag, value] = pair else {
            return Err(format!("`{}` wants a value", pair[0]));
        };
        let value = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
        match flag.as_str() {
            "--seeds" => seeds = Some(value),
            "--from" => from = Some(value),
            other => return Err(format!("no flag is called `{other}`")),
        }
    }
    let fresh = || u64::from_le_bytes(daemon::random::bytes::<8>()) >> 16;
    Ok((
        world,
        run_seed,
        seeds.ok_or("--seeds is missing")?,
        from.unwrap_or_else(fresh),
    ))
}

fn soak(world: &str, run_seed: RunSeed, seeds: u64, from: u64) -> ExitCode {
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds {
                        return;
                    }
                    let seed = from + index;
                    if let Err(why) = run_seed(seed) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!(
                            "seed {seed}: {why}\n  replay: cargo xtask soak {world} --seeds 1 --from {seed}"
                        );
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("soak {world}: {} passed, {failed} failed", seeds - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
