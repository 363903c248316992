//! The command line of the daemon.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The public API of a Hangar node.
#[derive(Debug, Parser)]
#[command(name = "flaps", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The daemon's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves the API until SIGTERM or SIGINT.
    Serve {
        /// The configuration file (TOML).
        #[arg(long)]
        config: PathBuf,
    },
}
