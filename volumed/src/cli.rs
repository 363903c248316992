//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Host volume daemon.
#[derive(Debug, Parser)]
#[command(name = "volumed", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API on the Unix socket.
    Serve {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Have the daemon read backups back from the bucket: a sample of blocks, or all of them.
    ///
    /// Exit status 1 when something is damaged, 3 when something could not be read.
    Scrub {
        /// The daemon's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Only this volume's newest snapshot [default: of every volume].
        #[arg(long)]
        volume: Option<String>,
        /// Read all of it, as a restore would.
        #[arg(long)]
        restore: bool,
        /// Blocks of 4 MiB in a sample.
        #[arg(long)]
        blocks: Option<u32>,
        /// Print the daemon's answer.
        #[arg(long)]
        json: bool,
    },
}
