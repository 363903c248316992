//! `hangar images`.

use clap::{Args, Subcommand};

use super::JsonArg;

/// What to do with images.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import an OCI layout, a docker-archive, or an image of a registry
    Import(Import),
    /// List images
    #[command(alias = "ls")]
    List(List),
    /// Remove an image that no machine uses
    #[command(aliases = ["remove", "delete"])]
    Rm(Rm),
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// A path on the node's host, or a reference like docker.io/library/nginx:1.27
    pub source: String,
    /// Name to store it under
    #[arg(long, value_name = "REF")]
    pub name: Option<String>,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// References or digests
    #[arg(required = true)]
    pub images: Vec<String>,
}
