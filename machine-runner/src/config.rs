//! Configuration of the daemon.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest path of a Unix socket, in bytes, with some room below the kernel's 107.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// The configuration file as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Directory of the catalog, images and machines.
    pub data_dir: PathBuf,
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// Unix socket of volumed; without it, machines with volumes are refused.
    pub volumed_socket: Option<PathBuf>,
    /// Directory with `vmlinux`, `initramfs.cpio` and `qboot.rom`.
    pub assets_dir: PathBuf,
    /// Region of this node.
    #[serde(default = "region")]
    pub region: String,
    /// Which accelerator to use.
    #[serde(default)]
    pub accel: AccelPolicy,
    /// QEMU's program.
    #[serde(default = "qemu")]
    pub qemu: PathBuf,
    /// Number of this host, part of each machine's private address.
    #[serde(default = "host_number")]
    pub host_number: u32,
    /// Seconds between two reports of the volumes' usage to volumed.
    #[serde(default = "usage_interval_s")]
    pub usage_interval_s: u64,
}

/// Which accelerator machines use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelPolicy {
    /// KVM where a probe shows that it runs code as hardware does, TCG elsewhere.
    #[default]
    Auto,
    /// KVM, whatever the probe says.
    Kvm,
    /// TCG.
    Tcg,
}

fn region() -> String {
    "local".to_owned()
}

fn qemu() -> PathBuf {
    PathBuf::from("/usr/bin/qemu-system-x86_64")
}

fn host_number() -> u32 {
    1
}

fn usage_interval_s() -> u64 {
    30
}

/// A configuration that cannot be used; all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {}", .0.join("; "))]
pub struct BadConfig(Vec<String>);

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// As written.
    pub raw: RawConfig,
}

impl TryFrom<RawConfig> for Config {
    type Error = BadConfig;

    fn try_from(raw: RawConfig) -> Result<Self, BadConfig> {
        let mut problems = Vec::new();
        let longest = raw.data_dir.join("m/00000000000000/shim.sock");
        for path in [&longest, &raw.socket] {
            let bytes = path.as_os_str().len();
            if bytes > SOCKET_PATH_BYTES_MAX {
                problems.push(format!(
                    "socket path {} has {bytes} bytes, the limit is {SOCKET_PATH_BYTES_MAX}: use a shorter directory",
                    path.display()
                ));
            }
        }
        for (name, path) in [
            ("data_dir", &raw.data_dir),
            ("assets_dir", &raw.assets_dir),
            ("socket", &raw.socket),
        ] {
            if !path.is_absolute() {
                problems.push(format!("{name} must be an absolute path, got {}", path.display()));
            }
        }
        // QEMU separates its options by commas, and both paths go into options.
        if raw.data_dir.to_string_lossy().contains(',') || raw.assets_dir.to_string_lossy().contains(',') {
            problems.push("data_dir and assets_dir must not contain a comma".to_owned());
        }
        if raw.region.is_empty() || !raw.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            problems.push(format!(
                "region must be letters, digits and -, got {:?}",
                raw.region
            ));
        }
        if raw.usage_interval_s == 0 {
            problems.push("usage_interval_s must be at least 1".to_owned());
        }
        if problems.is_empty() {
            Ok(Self { raw })
        } else {
            Err(BadConfig(problems))
        }
    }
}

impl Config {
    /// Directory of one machine.
    #[must_use]
    pub fn machine_dir(&self, id: &crate::ids::MachineId) -> PathBuf {
        self.raw.data_dir.join("m").join(id.as_str())
    }

    /// Directory of one app network.
    #[must_use]
    pub fn network_dir(&self, number: u32) -> PathBuf {
        self.raw.data_dir.join("net").join(number.to_string())
    }
}

#[cfg(test)]
mod tests;
