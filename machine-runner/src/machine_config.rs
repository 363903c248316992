//! The configuration of a machine as this runner understands it, checked field by field.
//!
//! What is asked for and cannot be done is refused with its name; nothing is silently left out. An empty value
//! (`null`, `""`, `[]`, `{}`, `false`, `0`) asks for nothing and is always accepted; but no processors and no memory are
//! asked for by mistake.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::checks::{CheckKind, CheckSpec};
use crate::restart::{Mode, Policy, RETRIES_DEFAULT};

mod fields;
mod guest;
mod parts;

pub use fields::InvalidConfig;
use fields::{Fields, is_empty};
pub(crate) use parts::signal_number;

/// Volumes that one machine may mount.
pub const MOUNTS_MAX: usize = 8;
/// Longest stop timeout.
pub const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Stop timeout when the configuration names none.
pub const STOP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Memory up to which a machine can be suspended, in MiB.
pub const SUSPEND_MEMORY_MB_MAX: u32 = 2048;
/// Size of the writable layer when `rootfs.size_gb` is not given, in GiB; the file is sparse.
pub const ROOTFS_GB_DEFAULT: u32 = 8;

/// A checked machine configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineConfig {
    /// Image reference.
    pub image: String,
    /// Environment of the workload.
    pub env: BTreeMap<String, String>,
    /// Overrides of the image's command.
    pub init: Init,
    /// Virtual hardware.
    pub guest: Guest,
    /// Volumes and where they go.
    pub mounts: Vec<Mount>,
    /// Ports that the machine serves.
    pub services: Vec<Service>,
    /// Checks, machine and service ones, with the name that the API shows.
    pub checks: Vec<CheckSpec>,
    /// Files written before the workload starts.
    pub files: Vec<FileSpec>,
    /// What follows an exit.
    pub restart: Policy,
    /// Destroys the machine once it exits for good.
    pub auto_destroy: bool,
    /// Signal number of a stop, from the configuration or the image or `SIGINT`.
    pub stop_signal: Option<i32>,
    /// Time between the stop signal and the kill.
    pub stop_timeout: Duration,
    /// Labels of the machine; a part of them are read by clients.
    pub metadata: BTreeMap<String, String>,
    /// Machines that this one stands by for: it is created but not started.
    pub standbys: Vec<String>,
    /// Host name in the guest, when not the machine id.
    pub hostname: Option<String>,
    /// Whether the machine stays out of the network's names.
    pub skip_dns_registration: bool,
    /// Size of the writable layer, in GiB.
    pub rootfs_gb: u32,
}

/// Overrides of the image's command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Init {
    /// Replaces entrypoint and command.
    pub exec: Vec<String>,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub cmd: Option<Vec<String>>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Swap on a disk of its own, in MiB; 0 is none.
    pub swap_mb: u32,
    /// Whether the workload gets a terminal.
    pub tty: bool,
}

/// Virtual hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Virtual CPUs.
    pub cpus: u32,
    /// `shared` or `performance`.
    pub cpu_kind: String,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Words appended to the kernel's command line.
    pub kernel_args: Vec<String>,
}

/// One mounted volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Volume id.
    pub volume: String,
    /// Absolute directory in the guest.
    pub path: String,
    /// How the volume is to grow by itself.
    pub auto_extend: Option<AutoExtend>,
}

/// How a volume is to grow by itself; volumed decides when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AutoExtend {
    /// How full its file system is then, in per cent.
    pub threshold_percent: u32,
    /// By how much it grows, in GB.
    pub add_size_gb: u32,
    /// The size that it does not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb_limit: Option<u32>,
}

/// One service: a port of the guest that is reachable from the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Service {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port in the guest.
    pub internal_port: u16,
}

/// A file written into the guest before the workload starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute path.
    pub guest_path: String,
    /// Where the bytes come from.
    pub source: FileSource,
    /// Permission bits.
    pub mode: u32,
}

/// Where the bytes of a file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// Bytes of the request.
    Raw(Vec<u8>),
    /// A secret of the app, base64 as the platform keeps such secrets.
    Secret(String),
}

const KNOWN: [&str; 28] = [
    "image",
    "env",
    "init",
    "guest",
    "mounts",
    "services",
    "checks",
    "metrics",
    "metadata",
    "files",
    "restart",
    "schedule",
    "auto_destroy",
    "stop_config",
    "dns",
    "processes",
    "statics",
    "standbys",
    "rootfs",
    "cache_drive",
    "spot",
    "containers",
    "volumes",
    "size",
    "disable_machine_autostart",
    "primary_region",
    "persist_rootfs",
    "user",
];

const UNSUPPORTED: [(&str, &str); 9] = [
    ("metrics", "this node does not scrape machines"),
    (
        "schedule",
        "scheduled machines are not offered here; start it from cron through the API",
    ),
    (
        "processes",
        "one process a machine; use init.entrypoint and init.cmd",
    ),
    ("statics", "there is no proxy that could serve them"),
    ("cache_drive", "use a volume"),
    ("spot", "there is no spot market here"),
    ("containers", "one container a machine"),
    (
        "volumes",
        "temporary volumes belong to containers, which are not offered here",
    ),
    (
        "persist_rootfs",
        "the root file system is fresh at each start; use a volume",
    ),
];

impl MachineConfig {
    /// Checks a configuration as it came in a request.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that is wrong or asks for something that is not offered.
    pub fn parse(config: &Value) -> Result<Self, InvalidConfig> {
        let Value::Object(map) = config else {
            return Err(InvalidConfig::new(
                "config",
                "must be an object; send {\"config\": {\"image\": …}}",
            ));
        };
        refuse_unknown(map)?;
        let fields = Fields::of("config", map);
        let image = fields.text("image")?.filter(|image| !image.is_empty());
        let image = image.ok_or_else(|| {
            InvalidConfig::new("config.image", "is required: name an image, e.g. debian:12")
        })?;
        let services = parts::services(map)?;
        let (stop_signal, stop_timeout) = parts::stop_config(&fields)?;
        let dns = parts::dns(&fields)?;
        let auto_destroy = fields.flag("auto_destroy")?;
        Ok(Self {
            image,
            env: fields.text_map("env")?,
            init: parts::init(&fields)?,
            guest: guest::parse(map)?,
            mounts: parts::mounts(map)?,
            checks: parts::checks(map, &services.specs)?,
            services: services.ports,
            files: parts::files(map)?,
            restart: restart(&fields, auto_destroy)?,
            auto_destroy,
            stop_signal,
            stop_timeout,
            metadata: fields.text_map("metadata")?,
            standbys: fields.texts("standbys")?.unwrap_or_default(),
            hostname: dns.hostname,
            skip_dns_registration: dns.skip_registration,
            rootfs_gb: rootfs(&fields)?,
        })
    }

    /// Whether the machine can be suspended, or the sentence that says why not.
    ///
    /// # Errors
    /// The reason.
    pub fn suspendable(&self) -> Result<(), String> {
        if self.guest.memory_mb > SUSPEND_MEMORY_MB_MAX {
            return Err(format!(
                "machines with more than {SUSPEND_MEMORY_MB_MAX} MB of memory cannot be suspended, this one has {} MB; stop it instead",
                self.guest.memory_mb
            ));
        }
        if self.init.swap_mb > 0 {
            return Err("machines with swap cannot be suspended; stop it instead".to_owned());
        }
        Ok(())
    }

    /// Ports of the guest that services and checks reach, each once, in order.
    #[must_use]
    pub fn forwarded_ports(&self) -> Vec<Service> {
        let mut ports = self.services.clone();
        ports.extend(self.checks.iter().map(|check| {
            let (CheckKind::Tcp | CheckKind::Http(_)) = &check.kind;
            Service {
                protocol: "tcp".to_owned(),
                internal_port: check.port,
            }
        }));
        ports.sort();
        ports.dedup();
        ports
    }
}

fn refuse_unknown(map: &Map<String, Value>) -> Result<(), InvalidConfig> {
    for (key, value) in map {
        if is_empty(value) {
            continue;
        }
        if let Some((_, why)) = UNSUPPORTED.iter().find(|(name, _)| name == key) {
            return Err(InvalidConfig::new(
                format!("config.{key}"),
                format!("is not supported: {why}"),
            ));
        }
        if !KNOWN.contains(&key.as_str()) {
            return Err(InvalidConfig::new(
                format!("config.{key}"),
                "is not a field of a machine configuration",
            ));
        }
    }
    Ok(())
}

fn restart(fields: &Fields<'_>, auto_destroy: bool) -> Result<Policy, InvalidConfig> {
    let default = if auto_destroy { Mode::No } else { Mode::OnFailure };
    let Some(restart) = fields.object("restart")? else {
        return Ok(Policy {
            mode: default,
            retries_max: RETRIES_DEFAULT,
        });
    };
    restart.only(&["policy", "max_retries", "gpu_bid_price"])?;
    let mode = match restart.text("policy")?.as_deref() {
        None | Some("") => default,
        Some("no") => Mode::No,
        Some("on-failure" | "on-fail") => Mode::OnFailure,
        Some("always") => Mode::Always,
        Some(other) => {
            let sentence = format!("must be no, on-failure or always, got {other:?}");
            return Err(InvalidConfig::new("config.restart.policy", sentence));
        }
    };
    let retries_max = restart.integer("max_retries", 0..=1000)?;
    Ok(Policy {
        mode,
        retries_max: retries_max.filter(|tries| *tries > 0).unwrap_or(RETRIES_DEFAULT),
    })
}

fn rootfs(fields: &Fields<'_>) -> Result<u32, InvalidConfig> {
    let Some(rootfs) = fields.object("rootfs")? else {
        return Ok(ROOTFS_GB_DEFAULT);
    };
    rootfs.only(&["persist", "size_gb", "fs_size_gb"])?;
    match rootfs.text("persist")?.as_deref() {
        None | Some("" | "never") => {}
        Some(_) => {
            let sentence = "is not supported: the root file system is fresh at each start; use a volume";
            return Err(InvalidConfig::new("config.rootfs.persist", sentence));
        }
    }
    Ok(rootfs
        .integer("size_gb", 0..=500)?
        .filter(|size| *size > 0)
        .unwrap_or(ROOTFS_GB_DEFAULT))
}

#[cfg(test)]
mod tests;
