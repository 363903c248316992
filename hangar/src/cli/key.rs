//! `hangar key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with the cluster key.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the cluster key out; keep it away from this host and from the bucket
    Export(Export),
    /// Take a cluster key in, on a fresh node
    Import(Import),
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// File to write (0600) [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// File whose first line protects the exported key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// File with the exported key, `-` for standard input
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// File whose first line protects the exported key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}
