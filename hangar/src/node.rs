//! A node's data directory and its one configuration file.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Longest socket path that the kernel takes, less some room.
pub const SOCKET_BYTES_MAX: usize = 100;

/// Where everything of a node lies.
#[derive(Debug, Clone)]
pub struct Layout {
    data: PathBuf,
}

impl Layout {
    /// The layout below `data`, an absolute path.
    pub fn new(data: PathBuf) -> Self {
        Self { data }
    }

    /// The data directory itself.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A path below the data directory.
    pub fn below(&self, relative: &str) -> PathBuf {
        self.data.join(relative)
    }

    /// A daemon's Unix socket.
    pub fn socket(&self, daemon: &str) -> PathBuf {
        self.data.join("run").join(format!("{daemon}.sock"))
    }

    /// A daemon's log.
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.data.join("log").join(format!("{daemon}.log"))
    }

    /// A daemon's generated configuration.
    pub fn config(&self, daemon: &str) -> PathBuf {
        self.data.join(daemon).join("config.toml")
    }

    /// The operator's configuration.
    pub fn node_toml(&self) -> PathBuf {
        self.below("node.toml")
    }

    /// The longest socket path that will lie below the data directory.
    pub fn longest_socket(&self) -> PathBuf {
        self.below("machine-runner/m/00000000000000/shim.sock")
    }
}

/// `node.toml`: all that an operator sets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's region code.
    #[serde(default = "default_region")]
    pub region: String,
    /// Address of the public API.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Zones of this node, 4 hexadecimal digits each; several on one host are virtual.
    #[serde(default = "default_zones")]
    pub zones: Vec<String>,
    /// An object store to use instead of the embedded one.
    #[serde(default)]
    pub s3: Option<objstore::S3Config>,
    /// Address of the embedded object store; port 0 keeps the one it had, or takes a free one.
    #[serde(default = "default_s3_listen")]
    pub s3_listen: String,
    /// Settings that go over volumed's generated ones.
    #[serde(default)]
    pub volumed: toml::Table,
    /// Settings that go over machine-runner's generated ones.
    #[serde(default, rename = "machine-runner")]
    pub machine_runner: toml::Table,
    /// Settings that go over flaps' generated ones.
    #[serde(default)]
    pub flaps: toml::Table,
}

impl NodeConfig {
    /// Returns the folders of volumed's file pools; where none is said, it is `default`.
    #[must_use]
    pub fn pool_folders(&self, default: &Path) -> Vec<PathBuf> {
        let Some(pools) = self.volumed.get("pools").and_then(toml::Value::as_array) else {
            return vec![default.to_owned()];
        };
        let text = |pool: &toml::Value, field: &str| pool.get(field)?.as_str().map(str::to_owned);
        let of_files = pools
            .iter()
            .filter(|pool| text(pool, "kind").is_none_or(|kind| kind == "file"));
        of_files
            .map(|pool| text(pool, "path").map_or_else(|| default.to_owned(), PathBuf::from))
            .collect()
    }
}

/// Of a configuration that somebody wrote without them; the same after each start.
fn default_zones() -> Vec<String> {
    ["0a01", "0a02", "0a03"].map(str::to_owned).to_vec()
}

fn default_region() -> String {
    "local".to_owned()
}

fn default_listen() -> String {
    "127.0.0.1:4280".to_owned()
}

fn default_s3_listen() -> String {
    "127.0.0.1:0".to_owned()
}

/// Writes the first `node.toml` of a node, with three virtual zones of the given names.
pub fn first_config(zones: &[String; 3]) -> String {
    let [a, b, c] = zones;
    format!(
        r#"# This node. Change it, then restart `hangar up`.

region = "local"
listen = "127.0.0.1:4280"

# Three virtual zones: clients ask for volumes in different zones, and one host has only one.
zones = ["{a}", "{b}", "{c}"]

# Another object store instead of the embedded one, so that backups survive this host's disk:
# [s3]
# endpoint = "https://s3.example.com"
# region = "us-east-1"
# bucket = "hangar"
# prefix = "node-1"
# access_key_id = "..."
# secret_access_key = "..."

# Anything of a daemon's own configuration can be set here and wins over what `hangar up` generates:
# [volumed.limits]
# size_gb_max = 1000
# [machine-runner]
# accel = "tcg"
"#
    )
}

/// The programs of a node, found beside this one.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Looks beside the running program.
    ///
    /// # Errors
    /// When the system does not say where that is.
    pub fn beside_this_one() -> std::io::Result<Self> {
        let own = std::env::current_exe()?;
        Ok(Self {
            directory: own.parent().unwrap_or(Path::new("/")).to_owned(),
        })
    }

    /// Path of a program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// Those of volumed, machine-runner and flaps that are not there.
    pub fn missing(&self) -> Vec<PathBuf> {
        DAEMONS
            .iter()
            .map(|daemon| self.path(daemon))
            .filter(|path| !path.is_file())
            .collect()
    }

    /// Where guest kernel and initramfs are: as given, else the first known place that has a kernel.
    ///
    /// Falls back to the place where `cargo xtask setup` puts them.
    pub fn assets(&self, given: Option<PathBuf>) -> PathBuf {
        if let Some(given) = given {
            return std::path::absolute(&given).unwrap_or(given);
        }
        let built = self.directory.join("../assets");
        let places = [
            built.clone(),
            self.directory.join("../share/hangar/assets"),
            "/usr/share/hangar/assets".into(),
        ];
        let found = places
            .into_iter()
            .find(|place| place.join("vmlinux").is_file())
            .unwrap_or(built);
        found.canonicalize().unwrap_or(found)
    }
}

/// The daemons that `hangar up` starts, besides the object store.
pub const DAEMONS: [&str; 3] = ["volumed", "machine-runner", "flaps"];

/// The files that a guest boots from.
pub const ASSETS: [&str; 3] = ["vmlinux", "initramfs.cpio", "qboot.rom"];

#[cfg(test)]
mod tests;
