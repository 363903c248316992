//! The command line, without behaviour.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Runs machines: QEMU guests with volumes attached.
#[derive(Clone, Debug, Parser)]
#[command(name = "machine-runner", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the machine API on a Unix socket.
    Serve {
        /// Configuration file, TOML.
        #[arg(long)]
        config: PathBuf,
    },
    /// Hold one machine; started by `serve`, never by hand.
    #[command(hide = true)]
    Shim {
        /// Directory of the machine.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Carry the frames of one app network; started by `serve`, never by hand.
    #[command(hide = true)]
    Switch {
        /// Directory of the network.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Try whether KVM runs code, in this process; started as a child, never by hand.
    #[command(hide = true)]
    ProbeKvm,
    /// Say what this host can do for machines.
    Doctor {
        /// Configuration file, TOML; defaults otherwise.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Answer as JSON.
        #[arg(long)]
        json: bool,
    },
}
