//! `cargo xtask bench SET`: measures against a floor in the same run and writes JSON beside a table.

use crate::{setup, shell};
use anyhow::Result;
use std::path::PathBuf;

/// Debian packages that measure.
const TOOLS: &[(&str, &str)] = &[("fio", "benchmarks of volumes")];
/// Debian packages that are measured beside us.
const PEERS: &[(&str, &str)] = &[
    ("borgbackup", "a peer of backups"),
    ("restic", "a peer of backups"),
];

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set: `machines` or `volumes`
    pub(crate) set: String,
    /// Fewer repetitions
    #[arg(long)]
    pub(crate) quick: bool,
    /// Beside the programs that others use for the same job; installs them
    #[arg(long)]
    pub(crate) peers: bool,
    /// Where the results go
    #[arg(long)]
    pub(crate) json: PathBuf,
}

/// Builds in release mode and runs the set.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run()?;
    setup::install(TOOLS)?;
    if args.peers {
        setup::install(PEERS)?;
    }
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
    if args.peers {
        command.arg("--peers");
    }
    shell::must(&mut command)
}
