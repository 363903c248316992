//! Settings of flaps, read from TOML and checked as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::app_name;

/// Where the API listens unless the configuration says otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:4280";

/// The file as written, before any check.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// TCP address of the API. Default `127.0.0.1:4280`; port 0 takes any free one.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Unix socket of the same API, mode 0600, with `/metrics` beside it.
    pub socket: PathBuf,
    /// SQLite catalog of organizations, apps, tokens and secrets.
    pub catalog: PathBuf,
    /// File that holds the root token in the clear, mode 0600; made when missing.
    pub token_file: PathBuf,
    /// File to which the bound TCP address is written, for those who asked for port 0.
    #[serde(default)]
    pub address_file: Option<PathBuf>,
    /// volumed's Unix socket.
    pub volumed_socket: PathBuf,
    /// machine-runner's Unix socket.
    pub machine_runner_socket: PathBuf,
    /// Slug of the one organization made at the first start. Default `personal`.
    #[serde(default = "default_organization")]
    pub organization: String,
    /// The regions that this node answers for; the first is the default. Default: one, `local`.
    #[serde(default = "default_regions")]
    pub regions: Vec<Region>,
    /// Largest accepted request body in bytes, 1 KiB to 256 MiB. Default 4 MiB.
    #[serde(default = "default_body_bytes_max")]
    pub body_bytes_max: usize,
    /// Seconds to wait for a plain answer of volumed or machine-runner, 1 to 600. Default 30.
    /// Calls that wait by design (wait, exec, extend, create) have their own, longer limits.
    #[serde(default = "default_call_timeout_s")]
    pub call_timeout_s: u64,
}

/// One region as `GET /v1/platform/regions` shows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Short code, `^[a-z][a-z0-9-]*$`.
    pub code: String,
    /// Name for people; the code when missing.
    #[serde(default)]
    pub name: String,
    /// Degrees north.
    #[serde(default)]
    pub latitude: f64,
    /// Degrees east.
    #[serde(default)]
    pub longitude: f64,
    /// Continent heading of the client's table, e.g. `europe`.
    #[serde(default)]
    pub geo_region: String,
}

/// The settings after every check.
#[derive(Debug, Clone)]
pub struct Config {
    /// TCP address of the API.
    pub listen: SocketAddr,
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// SQLite catalog.
    pub catalog: PathBuf,
    /// Root token file.
    pub token_file: PathBuf,
    /// Where to write the bound address.
    pub address_file: Option<PathBuf>,
    /// volumed's Unix socket.
    pub volumed_socket: PathBuf,
    /// machine-runner's Unix socket.
    pub machine_runner_socket: PathBuf,
    /// Slug of the default organization.
    pub organization: String,
    /// Regions, never empty; the first is the default.
    pub regions: Vec<Region>,
    /// Largest accepted request body.
    pub body_bytes_max: usize,
    /// Limit of a plain upstream call.
    pub call_timeout: Duration,
}

/// Everything that is wrong with a configuration, in one answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("configuration: {}", problems.join("; "))]
pub struct InvalidConfig {
    /// One sentence each.
    pub problems: Vec<String>,
}

impl TryFrom<RawConfig> for Config {
    type Error = InvalidConfig;

    fn try_from(raw: RawConfig) -> Result<Self, Self::Error> {
        let mut problems = Vec::new();
        let listen = raw.listen.parse().unwrap_or_else(|_| {
            problems.push(format!(
                "listen must be an address and a port, not {:?}",
                raw.listen
            ));
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        if raw.regions.is_empty() {
            problems.push("regions must hold at least one region".to_owned());
        }
        for region in &raw.regions {
            if !is_region_code(&region.code) {
                problems.push(format!(
                    "region code {:?} must match ^[a-z][a-z0-9-]*$",
                    region.code
                ));
            }
        }
        if !app_name::is_valid(&raw.organization) {
            problems.push(format!(
                "organization {:?} must match ^[a-z0-9][a-z0-9-]*$",
                raw.organization
            ));
        }
        if !(1 << 10..=256 << 20).contains(&raw.body_bytes_max) {
            problems.push(format!(
                "body_bytes_max {} must be 1024 to 268435456",
                raw.body_bytes_max
            ));
        }
        if !(1..=600).contains(&raw.call_timeout_s) {
            problems.push(format!("call_timeout_s {} must be 1 to 600", raw.call_timeout_s));
        }
        if !problems.is_empty() {
            return Err(InvalidConfig { problems });
        }
        Ok(Self {
            listen,
            socket: raw.socket,
            catalog: raw.catalog,
            token_file: raw.token_file,
            address_file: raw.address_file,
            volumed_socket: raw.volumed_socket,
            machine_runner_socket: raw.machine_runner_socket,
            organization: raw.organization,
            regions: raw.regions,
            body_bytes_max: raw.body_bytes_max,
            call_timeout: Duration::from_secs(raw.call_timeout_s),
        })
    }
}

fn is_region_code(code: &str) -> bool {
    code.starts_with(|first: char| first.is_ascii_lowercase())
        && code.len() <= 32
        && code
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn default_listen() -> String {
    DEFAULT_LISTEN.to_owned()
}

fn default_organization() -> String {
    "personal".to_owned()
}

fn default_regions() -> Vec<Region> {
    vec![Region {
        code: "local".to_owned(),
        name: "This node".to_owned(),
        latitude: 0.0,
        longitude: 0.0,
        geo_region: "local".to_owned(),
    }]
}

fn default_body_bytes_max() -> usize {
    4 << 20
}

fn default_call_timeout_s() -> u64 {
    30
}

#[cfg(test)]
mod tests;
