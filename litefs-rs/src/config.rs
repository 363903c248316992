//! The configuration file of a node, as LiteFS has it.

mod duration;
mod expand;
mod leases;
mod proxy;
mod raw;

pub use duration::{DurationError, parse as parse_duration};
pub use expand::expand;
pub use leases::LeaseConfig;
pub use raw::{Exec, RawConfig};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::proxy::ProxySettings;

/// Where the API listens when nothing is said.
pub const HTTP_PORT: u16 = 20202;

/// What a node does: a file that was read, with everything it leaves open filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether a start that fails ends the process.
    pub exit_on_error: bool,
    /// Whether commands start before the node is in sync.
    pub skip_sync: bool,
    /// The commands, the last of which is kept running.
    pub exec: Vec<Command>,
    /// Where the databases lie.
    pub data: PathBuf,
    /// Whether LTX files are compressed.
    pub compress: bool,
    /// How old LTX files get; nothing: they stay.
    pub retention: Option<Duration>,
    /// How often that is looked at; nothing: never.
    pub retention_interval: Option<Duration>,
    /// Where they are mounted.
    pub mount: PathBuf,
    /// Whether other users may use the mount.
    pub allow_other: bool,
    /// Where the API listens.
    pub http: SocketAddr,
    /// How long one snapshot may take; nothing: as long as it takes.
    pub snapshot_timeout: Option<Duration>,
    /// What is in front of the application; nothing: nothing is.
    pub proxy: Option<ProxySettings>,
    /// Who is primary.
    pub lease: LeaseConfig,
    /// Whether this node may be.
    pub candidate: bool,
    /// Whether it asks to be, once it is in sync.
    pub promote: bool,
    /// The host name of this node, or with a static lease, of the primary.
    pub hostname: String,
    /// Where that node's API is; nothing: on that host, at the port of this one.
    pub advertise_url: Option<String>,
    /// How long this node does not want the lease after it was asked to step down.
    pub demote_delay: Duration,
    /// How long a replica waits before it connects again.
    pub reconnect_delay: Duration,
    /// How long a replica has the write lock of a database of this node's, unless it asks again.
    pub halt_lasts: Duration,
    /// Databases that are replicated; all when there are none.
    pub databases: Vec<String>,
    /// Whether the log is JSON.
    pub log_json: bool,
    /// Whether the log tells requests.
    pub log_debug: bool,
}

/// A command of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The command line, split as a shell splits it.
    pub line: String,
    /// Whether it runs only where the node may become primary.
    pub if_candidate: bool,
}

/// Gives the value of an environment variable.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Why a configuration cannot be used: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Reads the text of a file.
    ///
    /// * `lookup`: gives the value of an environment variable; nothing to leave the text as it is.
    ///
    /// # Errors
    /// The text is no configuration; line and key are named.
    pub fn parse(text: &str, lookup: Option<&Lookup<'_>>) -> Result<Self, ConfigError> {
        let text = match lookup {
            Some(lookup) => expand(text, lookup),
            None => text.to_owned(),
        };
        let raw: RawConfig = if text.trim().is_empty() {
            RawConfig::default()
        } else {
            serde_saphyr::from_str(&text).map_err(|error| ConfigError(vec![error.to_string()]))?
        };
        Self::try_from(raw)
    }
}

/// Collects everything that is wrong.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    fn duration(&mut self, key: &str, text: &str) -> Duration {
        parse_duration(text).unwrap_or_else(|error| {
            self.add(format!("{key}: {error}"));
            Duration::ZERO
        })
    }

    /// A duration of which nothing or less means "never".
    fn limit(&mut self, key: &str, text: &str) -> Option<Duration> {
        if text.trim_start().starts_with('-') {
            return None;
        }
        Some(self.duration(key, text)).filter(|limit| !limit.is_zero())
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        check_unbuilt(&raw, &mut problems);
        if raw.fuse.dir.is_empty() {
            problems.add("fuse directory required");
        }
        if raw.data.dir.is_empty() {
            problems.add("data directory required");
        }
        if !raw.data.dir.is_empty() && raw.fuse.dir == raw.data.dir {
            problems.add("fuse directory and data directory cannot be the same path");
        }
        if raw.lease.candidate && !raw.lease.databases.is_empty() {
            problems.add("cannot specify a database replication filter on candidate nodes");
        }
        let lease = leases::read(&raw.lease, &mut problems);
        let hostname = match lease {
            LeaseConfig::Static => raw.lease.hostname,
            LeaseConfig::Consul(_) | LeaseConfig::Etcd(_) | LeaseConfig::Object { .. }
                if raw.lease.hostname.is_empty() =>
            {
                rustix::system::uname().nodename().to_string_lossy().into_owned()
            }
            LeaseConfig::Consul(_) | LeaseConfig::Etcd(_) | LeaseConfig::Object { .. } => raw.lease.hostname,
        };
        let retention = problems.limit("data.retention", &raw.data.retention);
        let proxy = proxy::read(raw.proxy, proxy::is_on_platform(), &mut problems);
        let http = address("http.addr", &raw.http.addr).unwrap_or_else(|problem| {
            problems.add(problem);
            SocketAddr::from(([0; 4], HTTP_PORT))
        });
        let snapshot_timeout = problems
            .limit("http.snapshot-timeout", &raw.http.snapshot_timeout)
            .or(retention);
        let config = Self {
            exit_on_error: raw.exit_on_error,
            skip_sync: raw.skip_sync,
            exec: commands(raw.exec),
            data: raw.data.dir.into(),
            compress: raw.data.compress,
            retention,
            retention_interval: problems.limit(
                "data.retention-monitor-interval",
                &raw.data.retention_monitor_interval,
            ),
            mount: raw.fuse.dir.into(),
            allow_other: raw.fuse.allow_other,
            http,
            snapshot_timeout,
            proxy,
            lease,
            candidate: raw.lease.candidate,
            promote: raw.lease.promote,
            hostname,
            advertise_url: Some(raw.lease.advertise_url).filter(|url| !url.is_empty()),
            demote_delay: problems.duration("lease.demote-delay", &raw.lease.demote_delay),
            reconnect_delay: problems.duration("lease.reconnect-delay", &raw.lease.reconnect_delay),
            halt_lasts: problems.duration("lease.halt-lock-ttl", &raw.lease.halt_lock_ttl),
            databases: raw.lease.databases,
            log_json: raw.log.format == "json",
            log_debug: raw.log.debug || raw.fuse.debug,
        };
        if problems.0.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(problems.0))
        }
    }
}

/// What LiteFS has and this program has not is refused, and not left out in silence.
fn check_unbuilt(raw: &RawConfig, problems: &mut Problems) {
    if !raw.backup.kind.is_empty() {
        problems.add("backup.type: backups are not there yet");
    }
    if raw.strict_verify {
        problems.add("strict-verify: a check of the whole database after each commit is not there yet");
    }
    if !raw.tracing.path.is_empty() {
        problems.add("tracing.path: there is no trace log, see log.debug");
    }
    if !matches!(raw.log.format.as_str(), "text" | "json") {
        problems.add(format!(
            "log.format: '{}' is neither 'text' nor 'json'",
            raw.log.format
        ));
    }
}

fn commands(exec: Exec) -> Vec<Command> {
    match exec {
        Exec::None => Vec::new(),
        Exec::One(line) if line.trim().is_empty() => Vec::new(),
        Exec::One(line) => vec![Command {
            line,
            if_candidate: false,
        }],
        Exec::Several(list) => list
            .into_iter()
            .map(|entry| Command {
                line: entry.cmd,
                if_candidate: entry.if_candidate,
            })
            .collect(),
    }
}

/// Reads `host:port`, where the host may be left out.
fn address(key: &str, text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("{key}: '{text}' is no address with a port");
    match text.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().map_err(|_| wrong())?;
            Ok(SocketAddr::from(([0; 4], port)))
        }
        None if text.starts_with("localhost:") => {
            let port = text["localhost:".len()..].parse().map_err(|_| wrong())?;
            Ok(SocketAddr::from(([127, 0, 0, 1], port)))
        }
        None => text.parse().map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests;
