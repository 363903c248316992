//! What a disk's process is told: `settings.json` in its directory.

use std::path::{Path, PathBuf};

use crashsafe::Disk;
use log_disk::{
    BLOCK_BYTES, Compression, Config, DiskId, Durability, OnOutage, PAGE_BYTES, SUPERBLOCK_PAGES,
};
use serde::{Deserialize, Serialize};

use crate::keys::WrappedKey;
use crate::volume::VolumeId;

/// Least bytes of a ring: room for four of the longest records.
pub const RING_BYTES_MIN: u64 = 16 << 20;
/// What zstd spends: its own default.
const ZSTD_LEVEL: i32 = 3;
/// Bytes of a page, as sizes are counted.
const PAGE: u64 = PAGE_BYTES as u64;

/// `settings.json`. Written by whoever starts the process; the process itself keeps there what is changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The volume.
    pub volume_id: VolumeId,
    /// Its size when it was made, a multiple of 4 KiB. Later HEAD alone says how large it is.
    pub size_bytes: u64,
    /// Its data key, as it stands in HEAD.
    pub wrapped_key: WrappedKey,
    /// Where journal, map and cache lie on this host.
    pub slice: SliceSettings,
    /// What a flush promises.
    #[serde(default)]
    pub durability: DurabilityClass,
    /// What happens while the store does not answer.
    #[serde(default)]
    pub on_outage: OutageRule,
    /// Bound of what only this host has, in bytes.
    #[serde(default = "lag_bytes_max")]
    pub lag_bytes_max: u64,
    /// Bound of the age of what only this host has, in milliseconds.
    #[serde(default = "lag_ms_max")]
    pub lag_ms_max: u64,
    /// How new data is compressed.
    #[serde(default)]
    pub compression: CompressionKind,
}

/// The slice: one file or block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceSettings {
    /// Where it is. A file is made when it is missing, a block device never.
    pub path: PathBuf,
    /// Bytes of the journal's ring.
    pub ring_bytes: u64,
    /// Bytes for leaves of the map that memory has no room for; what does not fit there either stays in memory.
    #[serde(default = "map_bytes")]
    pub map_bytes: u64,
    /// Bytes of the read cache; 0 for none.
    #[serde(default)]
    pub cache_bytes: u64,
}

/// What a flush promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityClass {
    /// It survives a power cut of this host.
    #[default]
    Local,
    /// It survives this host.
    Remote,
    /// Nothing.
    None,
}

/// What happens while the object store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageRule {
    /// Writes go on until the ring is full; another host claims by force only.
    #[default]
    Ride,
    /// Answers cease after ten seconds, so that another host may claim.
    Stop,
}

/// How new data is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionKind {
    /// Not.
    None,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What may be changed while a disk is served; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// See [`Settings::durability`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<DurabilityClass>,
    /// See [`Settings::on_outage`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_outage: Option<OutageRule>,
    /// See [`Settings::lag_bytes_max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_bytes_max: Option<u64>,
    /// See [`Settings::lag_ms_max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_ms_max: Option<u64>,
}

fn lag_bytes_max() -> u64 {
    1 << 30
}

fn lag_ms_max() -> u64 {
    30_000
}

fn map_bytes() -> u64 {
    64 << 20
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file could not be read or written.
    #[error("settings {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("settings {}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A size that is no multiple of a page, or too small.
    #[error("settings: {field} must be a multiple of 4096 and at least {min}, not {value}")]
    Size {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What it must be at least.
        min: u64,
    },
    /// A bound that allows nothing.
    #[error("settings: {field} must be at least 1")]
    Zero {
        /// Which field.
        field: &'static str,
    },
    /// The settings are another volume's.
    #[error("settings of volume {found}, not of {wanted}")]
    Volume {
        /// Whose they are.
        found: VolumeId,
        /// Whose they should be.
        wanted: VolumeId,
    },
}

impl Settings {
    /// Returns settings with everything else by default.
    #[must_use]
    pub fn new(volume_id: VolumeId, size_bytes: u64, wrapped_key: WrappedKey, slice: SliceSettings) -> Self {
        Self {
            volume_id,
            size_bytes,
            wrapped_key,
            slice,
            durability: DurabilityClass::default(),
            on_outage: OutageRule::default(),
            lag_bytes_max: lag_bytes_max(),
            lag_ms_max: lag_ms_max(),
            compression: CompressionKind::default(),
        }
    }

    /// Reads and checks the settings of `volume` in `path`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(path: &Path, volume: &VolumeId) -> Result<Self, SettingsError> {
        let text = std::fs::read(path).map_err(|source| SettingsError::Io {
            path: path.to_owned(),
            source,
        })?;
        let settings: Self = serde_json::from_slice(&text).map_err(|source| SettingsError::Parse {
            path: path.to_owned(),
            source,
        })?;
        if settings.volume_id != *volume {
            return Err(SettingsError::Volume {
                found: settings.volume_id,
                wanted: volume.clone(),
            });
        }
        settings.check()?;
        Ok(settings)
    }

    /// Writes them durably.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn save(&self, disk: &dyn Disk, path: &Path) -> Result<(), SettingsError> {
        self.check()?;
        let io = |source| SettingsError::Io {
            path: path.to_owned(),
            source,
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        crashsafe::write_atomic(disk, "disk:settings", path, &text, 0o600).map_err(io)
    }

    /// Checks values.
    ///
    /// # Errors
    /// [`SettingsError`] names the first wrong one.
    pub fn check(&self) -> Result<(), SettingsError> {
        let SliceSettings {
            ring_bytes,
            map_bytes,
            cache_bytes,
            ..
        } = self.slice;
        let sizes = [
            ("size_bytes", self.size_bytes, PAGE),
            ("slice.ring_bytes", ring_bytes, RING_BYTES_MIN),
            ("slice.map_bytes", map_bytes, 0),
            ("slice.cache_bytes", cache_bytes, 0),
        ];
        let wrong = sizes
            .into_iter()
            .find(|(_, value, min)| value % PAGE != 0 || value < min);
        if let Some((field, value, min)) = wrong {
            return Err(SettingsError::Size { field, value, min });
        }
        let bounds = [
            ("lag_bytes_max", self.lag_bytes_max),
            ("lag_ms_max", self.lag_ms_max),
        ];
        match bounds.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(SettingsError::Zero { field }),
            None => Ok(()),
        }
    }

    /// Returns the settings with `changes`.
    #[must_use]
    pub fn with(&self, changes: &Changes) -> Self {
        Self {
            durability: changes.durability.unwrap_or(self.durability),
            on_outage: changes.on_outage.unwrap_or(self.on_outage),
            lag_bytes_max: changes.lag_bytes_max.unwrap_or(self.lag_bytes_max),
            lag_ms_max: changes.lag_ms_max.unwrap_or(self.lag_ms_max),
            ..self.clone()
        }
    }

    /// Returns the disk's name in its formats.
    #[must_use]
    pub fn disk_id(&self) -> DiskId {
        disk_id(&self.volume_id)
    }

    /// Returns the size in blocks.
    #[must_use]
    pub fn size_blocks(&self) -> u64 {
        self.size_bytes / BLOCK_BYTES as u64
    }

    /// Returns what the engine is to know.
    #[must_use]
    pub fn engine(&self) -> Config {
        Config {
            durability: self.durability.into(),
            on_outage: self.on_outage.into(),
            lag_bytes_max: self.lag_bytes_max,
            lag_us_max: self.lag_ms_max.saturating_mul(1000),
            compression: match self.compression {
                CompressionKind::None => Compression::None,
                CompressionKind::Lz4 => Compression::Lz4,
                CompressionKind::Zstd => Compression::Zstd { level: ZSTD_LEVEL },
            },
            ..Config::default()
        }
    }
}

impl SliceSettings {
    /// Returns a slice with the usual room for the map.
    #[must_use]
    pub fn new(path: PathBuf, ring_bytes: u64, cache_bytes: u64) -> Self {
        Self {
            path,
            ring_bytes,
            map_bytes: map_bytes(),
            cache_bytes,
        }
    }

    /// Returns the pages of the ring.
    #[must_use]
    pub fn ring_pages(&self) -> u64 {
        self.ring_bytes / PAGE
    }

    /// Returns where the map's pages begin, in bytes.
    #[must_use]
    pub fn map_at(&self) -> u64 {
        SUPERBLOCK_PAGES * PAGE + self.ring_bytes
    }

    /// Returns where the cache begins, in bytes.
    #[must_use]
    pub fn cache_at(&self) -> u64 {
        self.map_at() + self.map_bytes
    }

    /// Returns how large the slice is at least, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.cache_at() + self.cache_bytes
    }
}

/// Returns the name of a volume's disk in its formats: the id's 16 random digits.
#[must_use]
pub fn disk_id(volume: &VolumeId) -> DiskId {
    let digits = volume.as_str().as_bytes().last_chunk::<16>();
    DiskId(*digits.unwrap_or(&[0; 16]))
}

/// Returns the volume whose disk has this name; `None` when that is no volume's.
#[must_use]
pub fn volume_id(disk: DiskId) -> Option<VolumeId> {
    let digits = std::str::from_utf8(&disk.0).ok()?;
    VolumeId::parse(&format!("vol_{digits}")).ok()
}

impl From<DurabilityClass> for Durability {
    fn from(class: DurabilityClass) -> Self {
        match class {
            DurabilityClass::Local => Self::Local,
            DurabilityClass::Remote => Self::Remote,
            DurabilityClass::None => Self::None,
        }
    }
}

impl From<OutageRule> for OnOutage {
    fn from(rule: OutageRule) -> Self {
        match rule {
            OutageRule::Ride => Self::Ride,
            OutageRule::Stop => Self::Stop,
        }
    }
}

#[cfg(test)]
mod tests;
