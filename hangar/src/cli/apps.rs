//! `hangar apps`.

use clap::{Args, Subcommand};

use super::{JsonArg, YesArg};

/// What to do with apps.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an app
    Create(Create),
    /// List apps
    #[command(alias = "ls")]
    List(List),
    /// Destroy apps with their machines; their volumes can be recovered for a while
    #[command(aliases = ["delete", "remove", "rm"])]
    Destroy(Destroy),
}

/// Options of `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name: lower-case letters, digits and dashes
    #[arg(required_unless_present = "generate_name", conflicts_with = "generate_name")]
    pub name: Option<String>,
    /// Make a name up
    #[arg(long)]
    pub generate_name: bool,
    /// Organization
    #[arg(short, long, default_value = "personal")]
    pub org: String,
    /// Private network to share with other apps that name the same one
    #[arg(long)]
    pub network: Option<String>,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Organization
    #[arg(short, long, default_value = "personal")]
    pub org: String,
    /// Names only
    #[arg(short, long)]
    pub quiet: bool,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Names
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Even when someone holds a lease on one of its machines
    #[arg(long)]
    pub force: bool,
    /// Consent.
    #[command(flatten)]
    pub yes: YesArg,
}
