//! `hangar volumes`.

use clap::{ArgAction, Args, Subcommand};

use super::{AppArg, JsonArg, YesArg};

/// What to do with volumes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a volume: empty, or from a snapshot
    Create(Create),
    /// List an app's volumes
    #[command(alias = "ls")]
    List(List),
    /// Show one volume
    Show(One),
    /// Make a volume larger while its machine runs
    Extend(Extend),
    /// Change a volume's snapshot settings
    Update(Update),
    /// Copy a volume as it is now into a new one
    Fork(Fork),
    /// Mount a volume on a directory of this host
    Attach(Attach),
    /// Unmount a volume from this host
    Detach(Detach),
    /// Upload what only this node has of a bottomless volume, and give it up for another node to claim
    Drain(Drain),
    /// Take up a bottomless volume that was drained elsewhere, or whose host is lost
    Claim(Claim),
    /// Destroy volumes; they can be recovered for a while
    #[command(aliases = ["delete", "rm"])]
    Destroy(Destroy),
    /// Bring a destroyed volume back
    Recover(One),
    /// Points in time of a volume
    #[command(visible_aliases = ["snapshot", "snaps"])]
    Snapshots {
        /// What to do.
        #[command(subcommand)]
        command: Snapshots,
    },
}

/// Scheduled snapshots kept beyond their days.
#[derive(Debug, Args)]
pub struct Counts {
    /// Hours to keep a scheduled snapshot of; more than 0 takes one every hour
    #[arg(long, value_name = "HOURS")]
    pub snapshot_retention_hourly: Option<u32>,
    /// Days to keep a scheduled snapshot of, beside --snapshot-retention
    #[arg(long, value_name = "DAYS")]
    pub snapshot_retention_daily: Option<u32>,
    /// Weeks to keep a scheduled snapshot of
    #[arg(long, value_name = "WEEKS")]
    pub snapshot_retention_weekly: Option<u32>,
}

/// Options of `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name: lower-case letters, digits and underscores
    pub name: String,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Region [default: the node's]
    #[arg(short, long)]
    pub region: Option<String>,
    /// Size in GB [default: 1, or the snapshot's]
    #[arg(short, long, value_name = "GB", allow_hyphen_values = true)]
    pub size: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub count: u32,
    /// Days to keep snapshots, 1 to 60 [default: 5]
    #[arg(long, value_name = "DAYS")]
    pub snapshot_retention: Option<u32>,
    /// Kept beyond those days.
    #[command(flatten)]
    pub counts: Counts,
    /// Take a snapshot every day [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub scheduled_snapshots: Option<bool>,
    /// Do not encrypt
    #[arg(long)]
    pub no_encryption: bool,
    /// Not in a zone with a volume of the same name
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = ArgAction::Set, value_name = "BOOL")]
    pub require_unique_zone: bool,
    /// Not in a zone with any volume of the app
    #[arg(long)]
    pub unique_zone_app_wide: bool,
    /// Snapshot to fill it from
    #[arg(long, value_name = "SNAPSHOT")]
    pub snapshot_id: Option<String>,
    /// File system: ext4, xfs or raw
    #[arg(long, value_name = "TYPE")]
    pub fs_type: Option<String>,
    /// Kind of volume: local or bottomless
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// A volume whose home is the bucket: of any size, kept by no host alone
    #[arg(long, conflicts_with = "kind")]
    pub bottomless: bool,
    /// Pool of the node
    #[arg(long)]
    pub pool: Option<String>,
    /// Consent.
    #[command(flatten)]
    pub yes: YesArg,
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
    /// Destroyed ones too
    #[arg(long)]
    pub all: bool,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of a command about one volume.
#[derive(Debug, Args)]
pub struct One {
    /// Volume id
    pub volume: String,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `extend`.
#[derive(Debug, Args)]
pub struct Extend {
    /// Volume id
    pub volume: String,
    /// New size in GB, or +GB to add
    #[arg(short, long, value_name = "GB", allow_hyphen_values = true)]
    pub size: Option<String>,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Consent; nothing is asked.
    #[command(flatten)]
    pub yes: YesArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Volume id
    pub volume: String,
    /// Directory to mount it on: absolute; made when missing, else empty
    #[arg(long, value_name = "PATH")]
    pub host: std::path::PathBuf,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `detach`.
#[derive(Debug, Args)]
pub struct Detach {
    /// Volume id
    pub volume: String,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Volume id
    pub volume: String,
    /// Days to keep new snapshots, 1 to 60
    #[arg(long, value_name = "DAYS")]
    pub snapshot_retention: Option<u32>,
    /// Kept beyond those days.
    #[command(flatten)]
    pub counts: Counts,
    /// Take a snapshot every day
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub scheduled_snapshots: Option<bool>,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `fork`.
#[derive(Debug, Args)]
pub struct Fork {
    /// Volume id of the source
    pub volume: String,
    /// Name of the new volume [default: the source's]
    #[arg(short, long)]
    pub name: Option<String>,
    /// Region [default: the source's]
    #[arg(short, long)]
    pub region: Option<String>,
    /// Not in a zone with a volume of the same name
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = ArgAction::Set, value_name = "BOOL")]
    pub require_unique_zone: bool,
    /// Not in a zone with any volume of the app
    #[arg(long)]
    pub unique_zone_app_wide: bool,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Volume id; nobody may have it attached
    pub volume: String,
    /// Keep the volume after all, if it is being drained and not given up yet
    #[arg(long)]
    pub give_up: bool,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `claim`.
#[derive(Debug, Args)]
pub struct Claim {
    /// Volume id; this node needs the bucket and the cluster key of the one that had it
    pub volume: String,
    /// Although its host has not given it up: what that host had not uploaded is lost
    #[arg(long)]
    pub force: bool,
    /// App, which must be here too.
    #[command(flatten)]
    pub app: AppArg,
    /// Consent.
    #[command(flatten)]
    pub yes: YesArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Volume ids
    #[arg(required = true)]
    pub volumes: Vec<String>,
    /// For good and at once: no grace period, no way back; snapshots stay for their retention, and a bottomless volume that has any is kept
    #[arg(long)]
    pub purge: bool,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Consent.
    #[command(flatten)]
    pub yes: YesArg,
}

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
pub enum Snapshots {
    /// Take a snapshot now
    Create(One),
    /// List a volume's snapshots, or without a volume all that the node and its bucket know
    #[command(alias = "ls")]
    List(SnapshotList),
    /// Read a snapshot back from the bucket and compare it
    Verify(SnapshotVerify),
    /// Remove a snapshot before its days are over
    #[command(alias = "rm")]
    Delete(SnapshotDelete),
}

/// Options of `snapshots delete`.
#[derive(Debug, Args)]
pub struct SnapshotDelete {
    /// Snapshot id
    pub snapshot: String,
    /// App that it must be of.
    #[command(flatten)]
    pub app: AppArg,
    /// Consent.
    #[command(flatten)]
    pub yes: YesArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `snapshots list`.
#[derive(Debug, Args)]
pub struct SnapshotList {
    /// Volume id
    pub volume: Option<String>,
    /// App.
    #[command(flatten)]
    pub app: AppArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Options of `snapshots verify`.
#[derive(Debug, Args)]
pub struct SnapshotVerify {
    /// Snapshot id
    pub snapshot: String,
    /// App that it must be of.
    #[command(flatten)]
    pub app: AppArg,
    /// Output.
    #[command(flatten)]
    pub json: JsonArg,
}
