//! The configuration file.

mod apart;
mod lvm;

use std::path::{Path, PathBuf};
use std::time::Duration;

use objstore::S3Config;
use serde::{Deserialize, Serialize};

pub(crate) use apart::on_this_host;
pub use lvm::LvmConfig;

use crate::ops::Settings;
use crate::pool::PressureRules;
use crate::pool::file::Allocation;
use crate::scrub::ScrubSettings;
use crate::volume::SizeGb;

#[cfg(test)]
mod tests;

/// `config.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API's Unix socket.
    pub socket: PathBuf,
    /// Holds `catalog.db`, `cluster.key` and the default pool.
    pub data_dir: PathBuf,
    /// The node's one region code.
    pub region: String,
    /// 1 to 16 zones of 4 hexadecimal digits.
    pub zones: Vec<String>,
    /// Socket of machine-runner; without it no guest hears of a grow.
    #[serde(default)]
    pub machine_runner: Option<PathBuf>,
    /// The bucket.
    pub object_store: S3Config,
    /// A TOML file with `access_key_id` and `secret_access_key`, when they are not in `object_store`.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Pools, the first being the default; one file pool in `data_dir` when absent.
    #[serde(default)]
    pub pools: Vec<PoolConfig>,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// Times.
    #[serde(default)]
    pub schedule: Schedule,
    /// Reading backups back.
    #[serde(default)]
    pub scrub: Scrub,
    /// Bottomless volumes.
    #[serde(default)]
    pub bottomless: Bottomless,
    /// The file itself, as the processes of bottomless volumes are told of it; absent when there is none.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// One pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// 1 to 30 characters of a-z, 0-9, - and _; `default` when absent.
    #[serde(default = "default_pool")]
    pub name: String,
    /// What it is made of; files when absent.
    #[serde(default)]
    pub kind: PoolKind,
    /// A file pool's folder; that of the pool `default` is in `data_dir` when absent.
    #[serde(default)]
    pub path: PathBuf,
    /// Sparse or preallocated files.
    #[serde(default = "sparse")]
    pub allocation: Allocation,
    /// Bytes that are never promised.
    #[serde(default = "default_reserve")]
    pub reserve_bytes: u64,
    /// How often the room may be promised; 1 promises nothing that is not there.
    #[serde(default = "no_overcommit")]
    pub overcommit_ratio: f64,
    /// From how much of its room on it warns; 80 when absent.
    #[serde(default)]
    pub warn_percent: Option<u8>,
    /// From how much of its room on it takes no new work; 90 when absent.
    #[serde(default)]
    pub refuse_percent: Option<u8>,
    /// The logical volumes of a pool of them.
    #[serde(default)]
    pub lvm: Option<LvmConfig>,
}

impl PoolConfig {
    /// Returns when it warns and refuses; none when the two make no sense.
    pub fn pressure(&self) -> Option<PressureRules> {
        let usual = PressureRules::default();
        PressureRules::new(
            self.warn_percent.unwrap_or(usual.warn_percent),
            self.refuse_percent.unwrap_or(usual.refuse_percent),
        )
    }
}

/// What a pool is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// A file a slice.
    #[default]
    File,
    /// A thin logical volume a slice.
    LvmThin,
    /// A linear logical volume a slice.
    LvmLinear,
}

/// What a bottomless volume takes on this host.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bottomless {
    /// Bytes of its journal, a multiple of 4096: for an outage of the store of T seconds at R bytes a second, R × T and a tenth.
    pub ring_bytes: u64,
    /// Bytes of its read cache, a multiple of 4096; 0 for none.
    pub cache_bytes: u64,
    /// Bytes of the data directory's file system that a new one leaves free.
    pub reserve_bytes: u64,
}

impl Default for Bottomless {
    fn default() -> Self {
        Self {
            ring_bytes: 1 << 30,
            cache_bytes: 1 << 30,
            reserve_bytes: default_reserve(),
        }
    }
}

/// Limits on requests.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest volume.
    pub size_gb_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size_gb_max: 500 }
    }
}

/// Times, in seconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Between scheduled snapshots of a volume.
    pub snapshot_interval_s: u64,
    /// From deletion to removal.
    pub destroy_grace_s: u64,
    /// How long the wall clock must have gone steadily before anything is removed on its word; 0 believes it always.
    pub clock_settle_s: u64,
    /// Between looks at what is due.
    pub sweep_interval_s: u64,
    /// Between garbage collections.
    pub gc_interval_s: u64,
    /// From mark to sweep of a backup block; longer than the longest backup.
    pub gc_grace_s: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            snapshot_interval_s: 86_400,
            destroy_grace_s: 86_400,
            clock_settle_s: 600,
            sweep_interval_s: 30,
            gc_interval_s: 3_600,
            gc_grace_s: 86_400,
        }
    }
}

/// How backups are read back in the background.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// Seconds between samples of one snapshot; 0 takes none.
    pub sample_interval_s: u64,
    /// Blocks of 4 MiB in a sample.
    pub sample_blocks: u32,
    /// Seconds between test restores of a volume's newest snapshot; 0 makes none.
    pub restore_interval_s: u64,
    /// How fast to read at most; 0 sets no limit.
    pub bytes_per_s: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        let settings = ScrubSettings::default();
        Self {
            sample_interval_s: settings.sample_interval.as_secs(),
            sample_blocks: settings.sample_blocks,
            restore_interval_s: settings.restore_interval.as_secs(),
            bytes_per_s: settings.bytes_per_s,
        }
    }
}

impl Scrub {
    fn settings(&self) -> ScrubSettings {
        ScrubSettings {
            sample_interval: Duration::from_secs(self.sample_interval_s),
            sample_blocks: self.sample_blocks,
            restore_interval: Duration::from_secs(self.restore_interval_s),
            bytes_per_s: self.bytes_per_s,
        }
    }
}

/// What journals and caches are made of.
const PAGE: u64 = 4096;

/// Name of the pool that a node has when none is configured.
const DEFAULT_POOL: &str = "default";

fn default_pool() -> String {
    DEFAULT_POOL.to_owned()
}

fn sparse() -> Allocation {
    Allocation::Sparse
}

fn default_reserve() -> u64 {
    1 << 30
}

fn no_overcommit() -> f64 {
    1.0
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// No zone, too many, or not 4 hexadecimal digits.
    #[error("zones must be 1 to 16 different names of 4 hexadecimal digits")]
    Zones,
    /// An empty region.
    #[error("region must be 1 to 16 characters of a-z and 0-9")]
    Region,
    /// Two pools of one name, or a name that is none.
    #[error("pool name {name:?} must be unique and of 1 to 30 characters a-z, 0-9, - and _")]
    PoolName {
        /// As configured.
        name: String,
    },
    /// A ratio that promises nothing.
    #[error("pool {name}: overcommit_ratio must be between 0.1 and 100")]
    Ratio {
        /// Which pool.
        name: String,
    },
    /// A pool that lacks what its kind needs, or has what it cannot use.
    #[error("pool {name}: {what}")]
    Pool {
        /// Which pool.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Two pools that would promise the same room.
    #[error(
        "pools {first} and {second} share {shared}: both would promise its room; keep one of them, or give each its own"
    )]
    Shared {
        /// The one that comes first.
        first: String,
        /// The other.
        second: String,
        /// What both use.
        shared: String,
    },
    /// A journal or a cache of a size that it cannot have.
    #[error("bottomless.ring_bytes must be at least 16777216, and it and cache_bytes multiples of 4096")]
    Bottomless,
    /// A size limit of zero.
    #[error("limits.size_gb_max must be at least 1")]
    SizeMax,
    /// A sweep that never rests.
    #[error("schedule.{field} must be at least 1")]
    Zero {
        /// Which field.
        field: &'static str,
    },
}

/// How long a request waits for its operation.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

impl Config {
    /// Checks values and returns what operations need to know.
    ///
    /// # Errors
    /// [`CheckError`] names the first wrong field.
    pub fn settings(&self) -> Result<Settings, CheckError> {
        let hex =
            |zone: &String| zone.len() == 4 && zone.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut unique = self.zones.clone();
        unique.sort();
        unique.dedup();
        if !(1..=16).contains(&self.zones.len())
            || unique.len() != self.zones.len()
            || !self.zones.iter().all(hex)
        {
            return Err(CheckError::Zones);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !(1..=16).contains(&self.region.len()) || !self.region.bytes().all(plain) {
            return Err(CheckError::Region);
        }
        let pools = self.pools_or_default();
        for (index, pool) in pools.iter().enumerate() {
            let name = &pool.name;
            let valid =
                (1..=30).contains(&name.len()) && name.bytes().all(|b| plain(b) || b == b'-' || b == b'_');
            if !valid || pools[..index].iter().any(|p| p.name == *name) {
                return Err(CheckError::PoolName { name: name.clone() });
            }
            if name == crate::pool::bottomless::NAME {
                return Err(CheckError::Pool {
                    name: name.clone(),
                    what: "the name is that of the pool of bottomless volumes, which is always there",
                });
            }
            if !(0.1..=100.0).contains(&pool.overcommit_ratio) {
                return Err(CheckError::Ratio { name: name.clone() });
            }
            let given = self.pools.iter().find(|given| given.name == *name);
            if given.is_some_and(|given| !given.path.as_os_str().is_empty() && given.path.is_relative()) {
                return Err(CheckError::Pool {
                    name: name.clone(),
                    what: "path must begin with /: volumed's own directory may be another at its next start",
                });
            }
            lvm::check(pool)?;
        }
        let Bottomless {
            ring_bytes,
            cache_bytes,
            ..
        } = self.bottomless;
        if ring_bytes < crate::disk::RING_BYTES_MIN || ring_bytes % PAGE != 0 || cache_bytes % PAGE != 0 {
            return Err(CheckError::Bottomless);
        }
        let s = &self.schedule;
        let intervals = [
            ("snapshot_interval_s", s.snapshot_interval_s),
            ("sweep_interval_s", s.sweep_interval_s),
            ("gc_interval_s", s.gc_interval_s),
        ];
        if let Some((field, _)) = intervals.into_iter().find(|(_, seconds)| *seconds == 0) {
            return Err(CheckError::Zero { field });
        }
        Ok(Settings {
            region: self.region.clone(),
            zones: self.zones.clone(),
            size_max: SizeGb::new(self.limits.size_gb_max).ok_or(CheckError::SizeMax)?,
            snapshot_interval: Duration::from_secs(s.snapshot_interval_s),
            destroy_grace: Duration::from_secs(s.destroy_grace_s),
            clock_settle: Duration::from_secs(s.clock_settle_s),
            gc_grace: Duration::from_secs(s.gc_grace_s),
            gc_interval: Duration::from_secs(s.gc_interval_s),
            sweep_interval: Duration::from_secs(s.sweep_interval_s),
            scrub: self.scrub.settings(),
            answer_within: ANSWER_WITHIN,
        })
    }

    /// Checks that no two pools have their bytes in one place, as this host resolves their paths.
    ///
    /// # Errors
    /// [`CheckError::Shared`] names both.
    pub fn check_places(&self) -> Result<(), CheckError> {
        apart::check(&self.pools_or_default(), on_this_host)
    }

    /// Returns the configured pools, or the default one. A pool `default` of files is where it is without any
    /// configuration, unless that says otherwise.
    pub fn pools_or_default(&self) -> Vec<PoolConfig> {
        let default_path = self.data_dir.join("pool");
        if !self.pools.is_empty() {
            let mut pools = self.pools.clone();
            let unplaced = pools.iter_mut().filter(|pool| {
                pool.name == DEFAULT_POOL && pool.kind == PoolKind::File && pool.path.as_os_str().is_empty()
            });
            unplaced.for_each(|pool| pool.path.clone_from(&default_path));
            return pools;
        }
        vec![PoolConfig {
            name: default_pool(),
            kind: PoolKind::File,
            path: default_path,
            allocation: sparse(),
            reserve_bytes: default_reserve(),
            overcommit_ratio: no_overcommit(),
            warn_percent: None,
            refuse_percent: None,
            lvm: None,
        }]
    }

    /// Returns the bucket's configuration with the credentials of `credentials_file`.
    ///
    /// # Errors
    /// [`daemon::config_file::ConfigError`] when that file cannot be read.
    pub fn store(&self) -> Result<S3Config, daemon::config_file::ConfigError> {
        #[derive(Deserialize)]
        struct Credentials {
            access_key_id: String,
            secret_access_key: String,
        }
        let mut store = self.object_store.clone();
        if let Some(path) = &self.credentials_file {
            let found: Credentials = daemon::config_file::load(path)?;
            store.access_key_id = Some(found.access_key_id);
            store.secret_access_key = Some(found.secret_access_key);
        }
        Ok(store)
    }

    /// Returns the catalog's path.
    pub fn catalog(&self) -> PathBuf {
        self.data_dir.join("catalog.db")
    }

    /// Returns the cluster key's path.
    pub fn cluster_key(&self) -> PathBuf {
        self.data_dir.join("cluster.key")
    }
}

/// Loads a configuration.
///
/// # Errors
/// [`daemon::config_file::ConfigError`] names the file and the line.
pub fn load(path: &Path) -> Result<Config, daemon::config_file::ConfigError> {
    let config: Config = daemon::config_file::load(path)?;
    Ok(Config {
        file: Some(path.to_owned()),
        ..config
    })
}
