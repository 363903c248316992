//! The part of a pool's configuration that is about logical volumes.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lvm::group::{GroupSettings, Scope};
use crate::lvm::thin_pool::Policy;
use crate::pool::lvm::{LvmKind, NewThinPool};

use super::{CheckError, PoolConfig, PoolKind};

const MAPPER: &str = "/dev/mapper";
const GIB: u64 = 1 << 30;
const CHUNK_STEP_BYTES: u64 = 64 << 10;

/// `[pools.lvm]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LvmConfig {
    /// The volume group; volumed never makes one.
    pub vg: String,
    /// The group's disks: LVM looks at nothing else.
    #[serde(default)]
    pub devices: Vec<PathBuf>,
    /// Instead of `devices`: a file below /etc/lvm/devices.
    #[serde(default)]
    pub devices_file: Option<String>,
    /// Whether a udev daemon answers on this host; none does in a container.
    #[serde(default = "yes")]
    pub udev: bool,
    /// Whether encrypted volumes can be made; needs cryptsetup.
    #[serde(default = "yes")]
    pub encryption: bool,
    /// Thin: the thin pool.
    #[serde(default)]
    pub thin_pool: Option<String>,
    /// Thin: makes the thin pool when it is not there.
    #[serde(default)]
    pub create: bool,
    /// Thin: bytes of data of a new thin pool; it grows by itself.
    #[serde(default = "data_bytes")]
    pub data_bytes: u64,
    /// Thin: bytes of metadata of a new thin pool, and of its spare; it grows by itself.
    #[serde(default = "metadata_bytes")]
    pub metadata_bytes: u64,
    /// Thin: bytes of a chunk of a new thin pool, a multiple of 64 KiB.
    #[serde(default = "chunk_bytes")]
    pub chunk_bytes: u64,
    /// Thin: data grows when this much of it is used.
    #[serde(default = "grow_percent")]
    pub grow_percent: u64,
    /// Thin: data grows when less than this is free in it.
    #[serde(default = "headroom_bytes")]
    pub headroom_bytes: u64,
    /// Thin: data grows when it would be full in less than this.
    #[serde(default = "full_in_s")]
    pub full_in_s: u64,
    /// Thin: metadata grows when this much of it is used.
    #[serde(default = "metadata_grow_percent")]
    pub metadata_grow_percent: u64,
    /// Linear: room of a temporary snapshot, in per cent of its volume.
    #[serde(default = "snapshot_percent")]
    pub snapshot_percent: u64,
}

fn yes() -> bool {
    true
}

fn data_bytes() -> u64 {
    16 * GIB
}

fn metadata_bytes() -> u64 {
    GIB
}

fn chunk_bytes() -> u64 {
    CHUNK_STEP_BYTES
}

fn grow_percent() -> u64 {
    Policy::default().data_percent
}

fn headroom_bytes() -> u64 {
    Policy::default().headroom_bytes
}

fn full_in_s() -> u64 {
    Policy::default().full_in.as_secs()
}

fn metadata_grow_percent() -> u64 {
    Policy::default().metadata_percent
}

fn snapshot_percent() -> u64 {
    20
}

impl LvmConfig {
    /// Returns how the volume group is driven.
    pub fn group(&self) -> GroupSettings {
        let scope = match &self.devices_file {
            Some(file) => Scope::File(file.clone()),
            None => Scope::Devices(self.devices.clone()),
        };
        GroupSettings {
            vg: self.vg.clone(),
            scope,
            udev: self.udev,
            mapper: MAPPER.into(),
        }
    }

    /// Returns what the slices are.
    pub fn kind(&self) -> LvmKind {
        let Some(thin_pool) = &self.thin_pool else {
            return LvmKind::Linear {
                snapshot_percent: self.snapshot_percent,
            };
        };
        let new = NewThinPool {
            data_bytes: self.data_bytes,
            metadata_bytes: self.metadata_bytes,
            chunk_bytes: self.chunk_bytes,
        };
        LvmKind::Thin {
            thin_pool: thin_pool.clone(),
            create: self.create.then_some(new),
            policy: Policy {
                data_percent: self.grow_percent,
                full_in: Duration::from_secs(self.full_in_s),
                headroom_bytes: self.headroom_bytes,
                metadata_percent: self.metadata_grow_percent,
                ..Policy::default()
            },
        }
    }

    fn check(&self, kind: PoolKind) -> Result<(), &'static str> {
        let percent = |value: u64| (1..=99).contains(&value);
        if !is_name(&self.vg) {
            return Err("lvm.vg must be the name of a volume group");
        }
        if self.devices.is_empty() == self.devices_file.is_none() {
            return Err("either lvm.devices or lvm.devices_file is required, not both");
        }
        if !self.devices.iter().all(|device| device.is_absolute()) {
            return Err("lvm.devices must be absolute paths");
        }
        match (kind, &self.thin_pool) {
            (PoolKind::LvmThin, Some(name)) if is_name(name) => {}
            (PoolKind::LvmThin, _) => return Err("lvm.thin_pool must be the name of a thin pool"),
            (PoolKind::LvmLinear | PoolKind::File, None) => {}
            (PoolKind::LvmLinear | PoolKind::File, Some(_)) => {
                return Err("lvm.thin_pool is for pools of kind lvm-thin");
            }
        }
        if !self.chunk_bytes.is_multiple_of(CHUNK_STEP_BYTES)
            || !(CHUNK_STEP_BYTES..=GIB).contains(&self.chunk_bytes)
        {
            return Err("lvm.chunk_bytes must be a multiple of 64 KiB, up to 1 GiB");
        }
        if !(2 << 20..=15 * GIB).contains(&self.metadata_bytes) {
            return Err("lvm.metadata_bytes must be between 2 MiB and 15 GiB");
        }
        if !percent(self.grow_percent) || !percent(self.metadata_grow_percent) {
            return Err("lvm.grow_percent and lvm.metadata_grow_percent must be between 1 and 99");
        }
        if !(1..=100).contains(&self.snapshot_percent) {
            return Err("lvm.snapshot_percent must be between 1 and 100");
        }
        Ok(())
    }
}

/// LVM's rule for names, and none that it would take for an option.
fn is_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+_.-".contains(&b);
    (1..=64).contains(&name.len())
        && !name.starts_with('-')
        && !matches!(name, "." | "..")
        && name.bytes().all(legal)
}

/// Checks that a pool has what its kind needs.
pub(super) fn check(pool: &PoolConfig) -> Result<(), CheckError> {
    let wrong = |what| CheckError::Pool {
        name: pool.name.clone(),
        what,
    };
    if pool.pressure().is_none() {
        return Err(wrong(
            "warn_percent must be less than refuse_percent, both between 1 and 100",
        ));
    }
    match (pool.kind, &pool.lvm) {
        (PoolKind::File, None) if pool.path.as_os_str().is_empty() => {
            Err(wrong("a pool of kind file needs a path"))
        }
        (PoolKind::File, None) => Ok(()),
        (PoolKind::File, Some(_)) => Err(wrong("a pool of kind file has no lvm table")),
        (PoolKind::LvmThin | PoolKind::LvmLinear, Some(_)) if !pool.path.as_os_str().is_empty() => {
            Err(wrong("a pool of logical volumes has no path"))
        }
        (PoolKind::LvmThin | PoolKind::LvmLinear, Some(lvm)) => lvm.check(pool.kind).map_err(wrong),
        (PoolKind::LvmThin | PoolKind::LvmLinear, None) => {
            Err(wrong("a pool of logical volumes needs a [pools.lvm] table"))
        }
    }
}
