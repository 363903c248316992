//! `hangar up`, `hangar doctor` and the hidden child.

use std::path::PathBuf;

use clap::Args;

use super::JsonArg;

/// Options of `up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Address of the API; port 0 takes a free one [default: node.toml's, else 127.0.0.1:4280]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Directory with vmlinux, initramfs.cpio and qboot.rom [default: $HANGAR_ASSETS, else beside the program]
    #[arg(long, value_name = "DIR")]
    pub assets: Option<PathBuf>,
    /// Leave machines running when the node stops; the next start finds them again
    #[arg(long)]
    pub keep_machines: bool,
}

/// Options of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Directory with vmlinux, initramfs.cpio and qboot.rom [default: $HANGAR_ASSETS, else beside the program]
    #[arg(long, value_name = "DIR")]
    pub assets: Option<PathBuf>,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of the embedded S3 endpoint.
#[derive(Debug, Clone, Args)]
pub struct S3ServeArgs {
    /// Directory of objects and credentials
    #[arg(long)]
    pub directory: PathBuf,
    /// Address to listen on
    #[arg(long)]
    pub listen: String,
}
