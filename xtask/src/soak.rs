//! `cargo xtask soak WORLD --seeds N [--from SEED]`: a simulated world, one universe a seed, in release mode.

use crate::shell;
use anyhow::Result;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The world: `operations`
    pub(crate) world: String,
    /// How many seeds
    #[arg(long)]
    pub(crate) seeds: u64,
    /// The first seed; a fresh random one when absent
    #[arg(long)]
    pub(crate) from: Option<u64>,
}

/// Runs the seeds; the last line on standard output is `soak WORLD: N passed, M failed`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let seeds = args.seeds.to_string();
    let mut words = vec![
        "run",
        "--quiet",
        "--release",
        "-p",
        "it",
        "--bin",
        "soak",
        "--",
        &args.world,
        "--seeds",
        &seeds,
    ];
    let from = args.from.map(|seed| seed.to_string());
    if let Some(from) = &from {
        words.extend(["--from", from]);
    }
    shell::must(&mut shell::cargo(&words))
}
