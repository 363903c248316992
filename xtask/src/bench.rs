//! `cargo xtask bench SET`: measures against a floor in the same run and writes JSON beside a table.

use crate::{setup, shell};
use anyhow::Result;
use std::path::PathBuf;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set: `machines`
    pub(crate) set: String,
    /// Fewer repetitions
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where the results go
    #[arg(long)]
    pub(crate) json: PathBuf,
}

/// Builds in release mode and runs the set.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run()?;
    shell::must(&mut shell::cargo(&["build", "--release", "--bins"]))?;
    let json = std::path::absolute(&args.json)?;
    let mut command = shell::cargo(&[
        "run",
        "--quiet",
        "--release",
        "-p",
        "bench",
        "--",
        &args.set,
        "--json",
    ]);
    command.arg(json);
    if args.quick {
        command.arg("--quick");
    }
    shell::must(&mut command)
}
