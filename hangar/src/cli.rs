//! The command line, without behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub mod apps;
pub mod images;
pub mod key;
pub mod machine;
pub mod up;
pub mod volumes;

/// Runs and drives a Hangar node: volumes that follow their machines, with the words of `fly`.
#[derive(Debug, Parser)]
#[command(
    name = "hangar",
    version,
    after_help = "Exit codes: 0 done, 1 no, 2 misuse, 3 try again.\nFirst steps: `hangar doctor`, `hangar up`, `hangar apps create NAME`."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// Data directory of the node [default: $HANGAR_DATA, /var/lib/hangar for root, else ~/.local/share/hangar]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address of the node's API [default: $HANGAR_ENDPOINT, $FLY_FLAPS_BASE_URL, else the local node's]
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Token [default: $FLY_API_TOKEN, else the local node's]
    #[arg(
        short = 't',
        long,
        global = true,
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub access_token: Option<String>,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole node below one data directory until SIGTERM or SIGINT
    Up(up::UpArgs),
    /// Say what this host can and cannot do, and what follows
    Doctor(up::DoctorArgs),
    /// Apps: what machines, volumes and secrets belong to
    #[command(alias = "app")]
    Apps {
        /// What to do.
        #[command(subcommand)]
        command: apps::Command,
    },
    /// Volumes: disks that outlive their machines
    #[command(visible_aliases = ["volume", "vol", "v"])]
    Volumes {
        /// What to do.
        #[command(subcommand)]
        command: volumes::Command,
    },
    /// Machines: guests with volumes attached
    #[command(visible_aliases = ["machines", "m"])]
    Machine {
        /// What to do.
        #[command(subcommand)]
        command: machine::Command,
    },
    /// The node's image store
    #[command(alias = "image")]
    Images {
        /// What to do.
        #[command(subcommand)]
        command: images::Command,
    },
    /// The cluster key: with it and the bucket, any host restores everything
    Key {
        /// What to do.
        #[command(subcommand)]
        command: key::Command,
    },
    /// Print a shell's completion script
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Serve the embedded S3 endpoint; a child of `up`
    #[command(name = "s3-serve", hide = true)]
    S3Serve(up::S3ServeArgs),
}

/// The app that a command is about.
#[derive(Debug, Clone, Default, Args)]
pub struct AppArg {
    /// App name [default: $FLY_APP, $HANGAR_APP]
    #[arg(short, long, value_name = "APP")]
    pub app: Option<String>,
}

/// Machine-readable output.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct JsonArg {
    /// Print JSON
    #[arg(short, long)]
    pub json: bool,
}

/// Consent given ahead.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct YesArg {
    /// Answer yes to every question
    #[arg(short, long)]
    pub yes: bool,
}

#[cfg(test)]
mod tests;
