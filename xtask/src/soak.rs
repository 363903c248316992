//! `cargo xtask soak WORLD --seeds N [--from SEED]`: a simulated world, one universe a seed.

use crate::shell;
use anyhow::Result;
use std::process::Command;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The world: `operations`, `disk`, `litefs`, or `decoders`, whose seeds are a thousand inputs each
    pub(crate) world: String,
    /// How many seeds
    #[arg(long)]
    pub(crate) seeds: u64,
    /// The first seed; a fresh random one when absent
    #[arg(long)]
    pub(crate) from: Option<u64>,
}

/// How the world is compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Build {
    /// Optimized: for soaks, where the seeds cost more than the build.
    Release,
    /// As it was built with the tests a moment ago: for the gate, where a second build of every dependency costs more.
    Dev,
}

/// Runs the seeds; the last line on standard output is `soak WORLD: N passed, M failed`.
pub(crate) fn run(args: &Args, build: Build) -> Result<()> {
    let seeds = args.seeds.to_string();
    let from = args.from.map(|seed| seed.to_string());
    let profile = match build {
        Build::Release => {
            shell::must(&mut shell::cargo(&[
                "build",
                "--release",
                "--workspace",
                "--bin",
                "soak",
            ]))?;
            "release"
        }
        Build::Dev => "debug",
    };
    let mut soak = Command::new(shell::target_dir().join(profile).join("soak"));
    soak.args([&args.world, "--seeds", &seeds]);
    if let Some(from) = &from {
        soak.args(["--from", from]);
    }
    shell::must(&mut soak)
}
