//! `cargo xtask bench SET`: measures against a floor in the same run and writes JSON beside a table.

use crate::{setup, shell};
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// Debian packages that measure.
const TOOLS: &[(&str, &str)] = &[
    ("fio", "benchmarks of volumes"),
    ("nbdkit", "the floor of what an NBD server can do"),
];
/// Debian packages that are measured beside us.
const PEERS: &[(&str, &str)] = &[
    ("borgbackup", "a peer of backups"),
    ("restic", "a peer of backups"),
];

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set: `machines`, `volumes`, `bottomless` or `litefs`
    pub(crate) set: String,
    /// Fewer repetitions
    #[arg(long)]
    pub(crate) quick: bool,
    /// Beside the programs that others use for the same job; installs them
    #[arg(long)]
    pub(crate) peers: bool,
    /// Upstream's program of LiteFS, to be measured beside ours
    #[arg(long)]
    pub(crate) litefs: Option<PathBuf>,
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
    shell::must(&mut shell::cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bins",
    ]))?;
    let json = std::path::absolute(&args.json)?;
    // The program itself, not `cargo run`: that would resolve other features and build the dependencies again.
    let mut command = Command::new(shell::target_dir().join("release/bench"));
    command
        .args([&args.set, "--json"])
        .arg(json)
        .env("HANGAR_ASSETS", guest_boot::assets_dir());
    if args.quick {
        command.arg("--quick");
    }
    if args.peers {
        command.arg("--peers");
    }
    if let Some(program) = &args.litefs {
        command.arg("--litefs").arg(std::path::absolute(program)?);
    }
    shell::must(&mut command)
}
