//! `hangar machine`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

use super::{AppArg, JsonArg, YesArg};

/// What to do with machines.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a machine and start it
    Run(Box<Run>),
    /// Make a machine without starting it
    Create(Box<Run>),
    /// List an app's machines
    #[command(alias = "ls")]
    List(List),
    /// Show one machine
    #[command(alias = "show")]
    Status(Status),
    /// Start machines, or resume suspended ones
    Start(Many),
    /// Stop machines
    Stop(Stop),
    /// Suspend machines: memory to disk
    Suspend(Suspend),
    /// Restart machines
    Restart(Restart),
    /// Change a machine's configuration; it restarts
    Update(Box<Update>),
    /// Run a command in a machine
    Exec(Exec),
    /// Print a machine's output
    Logs(Logs),
    /// End a machine's process at once
    Kill(One),
    /// Destroy machines; their volumes stay
    #[command(aliases = ["remove", "rm", "delete"])]
    Destroy(Destroy),
    /// Wait until a machine is in a state
    Wait(Wait),
}

/// What a machine is made of, shared by `run`, `create` and `update`.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Environment, NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Metadata, NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub metadata: Vec<String>,
    /// Port of the service, port of the guest: 8080:80/tcp. This host reaches it at an address of the machine's own,
    /// which `machine status` shows
    #[arg(short, long, value_name = "PORT:PORT[/PROTOCOL[:HANDLER...]]")]
    pub port: Vec<String>,
    /// Preset, like shared-cpu-1x
    #[arg(long, value_name = "SIZE")]
    pub vm_size: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "N")]
    pub vm_cpus: Option<u64>,
    /// Memory in MB, or with gb
    #[arg(long, value_name = "MB")]
    pub vm_memory: Option<String>,
    /// shared or performance
    #[arg(long, value_name = "KIND")]
    pub vm_cpu_kind: Option<String>,
    /// no, on-fail or always
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// hourly, daily, weekly or monthly
    #[arg(long, value_name = "INTERVAL")]
    pub schedule: Option<String>,
    /// Program to run instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Swap in MB
    #[arg(long, value_name = "MB")]
    pub swap_size: Option<u64>,
    /// Local file to put into the guest, /path/in/guest=file
    #[arg(long, value_name = "PATH=FILE")]
    pub file_local: Vec<String>,
    /// Text to put into the guest, /path/in/guest=text
    #[arg(long, value_name = "PATH=TEXT")]
    pub file_literal: Vec<String>,
    /// JSON file (or JSON itself) with a whole configuration to begin with
    #[arg(long, value_name = "FILE")]
    pub machine_config: Option<String>,
    /// Stay out of the app's DNS
    #[arg(long)]
    pub skip_dns_registration: bool,
}

/// Options of `run` and `create`.
#[derive(Debug, Args)]
pub struct Run {
    /// Image: a name in the node's store, or a registry's reference
    pub image: String,
    /// Command to run instead of the image's
    #[arg(trailing_var_arg = true)]
    pub command: Vec<String>,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Region [default: the node's]
    #[arg(short, long)]
    pub region: Option<String>,
    /// Name [default: made up]
    #[arg(short, long)]
    pub name: Option<String>,
    /// Volume id or name, and where to mount it: data:/data
    #[arg(short, long, value_name = "VOLUME:PATH")]
    pub volume: Option<String>,
    /// Destroy it when it has exited
    #[arg(long)]
    pub rm: bool,
    /// Do not wait until it has started
    #[arg(short, long)]
    pub detach: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of a command about one machine.
#[derive(Debug, Args)]
pub struct One {
    /// Machine id
    pub machine: String,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
}

/// Options of a command about some machines.
#[derive(Debug, Args)]
pub struct Many {
    /// Machine ids
    #[arg(required = true)]
    pub machines: Vec<String>,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// With its configuration
    #[arg(short, long)]
    pub display_config: bool,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Which.
    #[command(flatten)]
    pub many: Many,
    /// Signal to begin with
    #[arg(short, long)]
    pub signal: Option<String>,
    /// Seconds until it is killed
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Wait until it has stopped, at most this long (20s, 5m)
    #[arg(short, long, value_name = "DURATION")]
    pub wait_timeout: Option<String>,
}

/// Options of `suspend`.
#[derive(Debug, Args)]
pub struct Suspend {
    /// Which.
    #[command(flatten)]
    pub many: Many,
    /// Wait until it is suspended, at most this long (20s, 5m)
    #[arg(short, long, value_name = "DURATION")]
    pub wait_timeout: Option<String>,
}

/// Options of `restart`.
#[derive(Debug, Args)]
pub struct Restart {
    /// Which.
    #[command(flatten)]
    pub many: Many,
    /// Signal to begin with
    #[arg(short, long)]
    pub signal: Option<String>,
    /// Seconds until it is killed
    #[arg(long = "time", value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Kill it at once
    #[arg(long)]
    pub force_stop: bool,
}

/// Options of `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// New image
    #[arg(short, long)]
    pub image: Option<String>,
    /// New command, as one text
    #[arg(short = 'C', long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// Settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Consent.
    #[command(flatten)]
    pub yes: YesArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Machine id
    pub machine: String,
    /// Command, as one text
    pub command: String,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Seconds until it is given up
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Local file to feed to it, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// Go on with new lines
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines to begin with
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    pub tail: u64,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Which.
    #[command(flatten)]
    pub many: Many,
    /// Even when it runs
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub force: bool,
}

/// Options of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// started, stopped, suspended, destroyed or settled
    #[arg(long, default_value = "settled")]
    pub state: String,
    /// At most this long
    #[arg(short, long, default_value = "5m", value_name = "DURATION")]
    pub wait_timeout: String,
}
