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
}
