//! Bottomless volumes: each a log-structured disk whose home is the bucket, served on this host by a process of its own.
//!
//! The pool's slices are directories below `disks` in the data directory, see [`DiskDir`]. A disk whose volume somebody holds is
//! marked `wanted` and kept running by [`Pool::tend`], whatever restarts; another is ended once the bucket has all of it.

mod moves;
mod processes;
mod snapshots;
mod teller;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use crashsafe::Disk;
use objstore::ObjectStore;

use self::moves::Moving;
use self::processes::Processes;
use self::teller::Teller;
use super::moves::Moves;
use super::{
    Capabilities, Capacity, Copied, Device, DiskSnapshots, Found, Pool, PoolError, PoolUsage, Reading, Shed,
    Slice, SliceId, ZeroEnd,
};
use crate::bulk::{ImageSink, ImageSource, Layout};
use crate::disk::{self, DiskDir, Family, Phase, Settings, SliceSettings, VolumeFacts};
use crate::keys::{ClusterKey, WrappedKey};
use crate::ops::chain;
use crate::volume::VolumeId;

/// Its name, and its kind.
pub const NAME: &str = "bottomless";
/// In a disk's directory while somebody holds its volume.
const WANTED: &str = "wanted";
const LABEL: &str = "bottomless";
/// For how long an open of a disk is waited for: a claim takes ten seconds, and a journal has to be read.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Where the pool learns what the catalog says of a volume: under which key its disk is sealed, and what is told to other nodes.
#[async_trait]
pub trait DiskKeys: Send + Sync + Debug {
    /// Returns the cluster key and the volume's own, wrapped by it.
    ///
    /// # Errors
    /// A sentence.
    async fn of(&self, volume: &VolumeId) -> Result<(ClusterKey, WrappedKey), String>;

    /// Returns what its record says of a volume; `None` of one that is not here any more.
    ///
    /// # Errors
    /// A sentence.
    async fn facts(&self, volume: &VolumeId) -> Result<Option<VolumeFacts>, String>;
}

/// What the pool is told.
#[derive(Clone, Debug)]
pub struct BottomlessConfig {
    /// The program `volumed`.
    pub program: PathBuf,
    /// Its configuration file, which every disk's process reads.
    pub config_file: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Bytes of a new disk's journal.
    pub ring_bytes: u64,
    /// Bytes of a new disk's read cache.
    pub cache_bytes: u64,
    /// Bytes of the file system that a new disk must leave free.
    pub reserve_bytes: u64,
}

/// The pool.
#[derive(Debug)]
pub struct BottomlessPool {
    config: BottomlessConfig,
    disk: Arc<dyn Disk>,
    store: Arc<dyn ObjectStore>,
    keys: Arc<dyn DiskKeys>,
    processes: Processes,
    teller: Teller,
    moving: Moving,
}

fn unfit(why: impl Into<String>) -> PoolError {
    PoolError::Unfit {
        pool: NAME.to_owned(),
        why: why.into(),
    }
}

fn later(why: impl Into<String>) -> PoolError {
    PoolError::Closed {
        pool: NAME.to_owned(),
        why: why.into(),
    }
}

fn io(doing: &'static str, id: &VolumeId) -> impl FnOnce(std::io::Error) -> PoolError {
    let slice = id.to_string();
    move |source| PoolError::Io {
        pool: NAME.to_owned(),
        slice,
        doing,
        source,
    }
}

/// The bytes of these volumes are not read and written by volumed itself.
fn not_here() -> PoolError {
    unfit("the bytes of a bottomless volume are the data plane's; it is copied by its snapshots alone")
}

fn volume(id: &SliceId) -> Result<&VolumeId, PoolError> {
    match id {
        SliceId::Volume(id) => Ok(id),
        SliceId::Capture(_) => Err(not_here()),
    }
}

impl BottomlessPool {
    /// Opens the pool; its disks stay as they are until somebody wants them.
    pub fn new(
        config: BottomlessConfig,
        disk: Arc<dyn Disk>,
        store: Arc<dyn ObjectStore>,
        keys: Arc<dyn DiskKeys>,
    ) -> Self {
        let processes = Processes::new(&config.program, &config.config_file);
        let teller = Teller::new(
            Arc::clone(&disk),
            Arc::clone(&store),
            Arc::clone(&keys),
            config.data_dir.clone(),
        );
        Self {
            config,
            disk,
            store,
            keys,
            processes,
            teller,
            moving: Moving::default(),
        }
    }

    fn dir(&self, id: &VolumeId) -> DiskDir {
        DiskDir::new(&self.config.data_dir, id)
    }

    fn wanted_mark(&self, id: &VolumeId) -> PathBuf {
        self.dir(id).path().join(WANTED)
    }

    fn is_made(&self, id: &VolumeId) -> bool {
        self.dir(id).settings().exists()
    }

    /// The volumes that have a directory here.
    fn ids(&self) -> Result<Vec<VolumeId>, PoolError> {
        let all = self.config.data_dir.join("disks");
        let entries = match self.disk.list(&all) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(PoolError::Io {
                    pool: NAME.to_owned(),
                    slice: all.display().to_string(),
                    doing: "list",
                    source,
                });
            }
        };
        let names = entries.iter().filter(|entry| entry.is_dir);
        Ok(names
            .filter_map(|entry| VolumeId::parse(&entry.name).ok())
            .collect())
    }

    /// Makes a disk's directory, and says what its slice on this host will be.
    fn prepare(&self, id: &VolumeId) -> Result<SliceSettings, PoolError> {
        let dir = self.dir(id);
        crashsafe::create_dir_durable(&*self.disk, LABEL, dir.path()).map_err(io("make", id))?;
        let local = SliceSettings::new(
            dir.path().join("slice"),
            self.config.ring_bytes,
            self.config.cache_bytes,
        );
        let (_, free_bytes) = self.free_bytes(dir.path()).map_err(io("measure", id))?;
        if free_bytes < local.total_bytes().saturating_add(self.config.reserve_bytes) {
            return Err(PoolError::NoSpace {
                pool: NAME.to_owned(),
                wanted_bytes: local.total_bytes(),
            });
        }
        Ok(local)
    }

    /// Notes that a disk is there. Last of all: what has settings is whole.
    async fn is_whole(&self, settings: &Settings) -> Result<(), PoolError> {
        // Before anybody is told that it is there: its host may be lost at any time from then on.
        self.teller.tell(&settings.volume_id, settings).await?;
        settings
            .save(&*self.disk, &self.dir(&settings.volume_id).settings())
            .map_err(|error| later(chain(&error)))
    }

    async fn serving(&self, id: &VolumeId) -> Result<disk::Status, PoolError> {
        if !self.is_made(id) {
            return Err(PoolError::Missing {
                pool: NAME.to_owned(),
                slice: id.to_string(),
            });
        }
        self.processes
            .serving(id, &self.dir(id), OPEN_WITHIN)
            .await
            .map_err(later)
    }

    fn free_bytes(&self, path: &Path) -> Result<(u64, u64), std::io::Error> {
        let stat = rustix::fs::statvfs(path)?;
        Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
    }

    /// Looks after one disk: starts it when it should run and does not, ends it when nobody wants it and the bucket has all.
    async fn tend_one(&self, id: &VolumeId) {
        if self.moving.contains(id) {
            return;
        }
        if self.is_made(id) {
            self.teller.tell_soon(id);
        }
        let dir = self.dir(id);
        let status = self.processes.status(&dir).await;
        let wanted = self.wanted_mark(id).exists();
        match status {
            None if wanted && self.processes.may_start(id) => {
                if let Err(error) = self.processes.start(id, &dir) {
                    tracing::error!(volume_id = %id, %error, "the disk's process was not started");
                }
            }
            Some(status) if !wanted && status.state == Phase::Serving => {
                let idle = status
                    .figures
                    .is_some_and(|figures| figures.lag_bytes == 0 && figures.clients == 0);
                if idle {
                    self.processes.ask_to_end(id, status.pid);
                }
            }
            Some(_) | None => {}
        }
    }
}

#[async_trait]
impl Pool for BottomlessPool {
    fn name(&self) -> &str {
        NAME
    }

    fn kind(&self) -> &'static str {
        NAME
    }

    fn is_bottomless(&self) -> bool {
        true
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            reflink: true,
            atomic_snapshot: true,
            encryption: true,
            deltas: false,
        }
    }

    async fn usage(&self) -> Result<PoolUsage, PoolError> {
        let (total_bytes, free_bytes) =
            self.free_bytes(&self.config.data_dir)
                .map_err(|source| PoolError::Io {
                    pool: NAME.to_owned(),
                    slice: self.config.data_dir.display().to_string(),
                    doing: "measure",
                    source,
                })?;
        let allocated_bytes = self.list().await?.iter().map(|found| found.allocated_bytes).sum();
        Ok(PoolUsage {
            total_bytes,
            free_bytes,
            allocated_bytes,
        })
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            reserve_bytes: self.config.reserve_bytes,
            overcommit_ratio: 1.0,
        }
    }

    /// Nothing of this host fills up with what is written: the journal has its room from the first start on.
    async fn reading(&self) -> Result<Reading, PoolError> {
        Ok(Reading {
            gauges: Vec::new(),
            fault: None,
        })
    }

    async fn create(&self, slice: &Slice) -> Result<(), PoolError> {
        let id = volume(&slice.id)?;
        if self.is_made(id) {
            return Ok(());
        }
        let local = self.prepare(id)?;
        let (cluster_key, wrapped_key) = self.keys.of(id).await.map_err(later)?;
        let settings = Settings::new(id.clone(), slice.size_bytes, wrapped_key, local);
        disk::create(Arc::clone(&self.store), &cluster_key, &settings)
            .await
            .map_err(|error| later(chain(&error)))?;
        self.is_whole(&settings).await
    }

    async fn grow(&self, slice: &Slice, _from_bytes: u64, _zero_end: ZeroEnd) -> Result<(), PoolError> {
        let id = volume(&slice.id)?;
        let status = self.serving(id).await?;
        let now_bytes = status.figures.map_or(0, |figures| figures.size_now_bytes);
        if now_bytes >= slice.size_bytes {
            return Ok(());
        }
        self.processes
            .extend(&self.dir(id), slice.size_bytes)
            .await
            .map_err(later)
    }

    async fn copy(&self, _source: &Slice, _target: &Slice) -> Result<Copied, PoolError> {
        Err(not_here())
    }

    async fn copy_begin(&self, _slice: &Slice) -> Result<PathBuf, PoolError> {
        Err(not_here())
    }

    async fn copy_finish(&self, _slice: &Slice, _source_layout: &Layout) -> Result<(), PoolError> {
        Err(not_here())
    }

    async fn delete(&self, id: &SliceId) -> Result<(), PoolError> {
        let SliceId::Volume(id) = id else {
            return Ok(());
        };
        let dir = self.dir(id);
        match self.disk.remove_file(LABEL, &self.wanted_mark(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("delete", id)(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.processes.end(id, &dir).await.map_err(later)?;
        let (cluster_key, _) = self.keys.of(id).await.map_err(later)?;
        let family = Family::new(Arc::clone(&self.store), cluster_key);
        family.erase(id).await.map_err(|error| later(chain(&error)))?;
        let path = dir.path().to_owned();
        let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        });
        removed
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(io("delete", id))
    }

    async fn exists(&self, id: &SliceId) -> Result<bool, PoolError> {
        Ok(match id {
            SliceId::Volume(id) => self.is_made(id),
            SliceId::Capture(_) => false,
        })
    }

    async fn list(&self) -> Result<Vec<Found>, PoolError> {
        let mut found = Vec::new();
        for id in self.ids()? {
            let slice = self.dir(&id).path().join("slice");
            let stat = self.disk.stat(&slice).map_err(io("measure", &id))?;
            found.push(Found {
                complete: self.is_made(&id),
                allocated_bytes: stat.map_or(0, |stat| stat.allocated_bytes),
                id: SliceId::Volume(id),
                size_bytes: None,
                encrypted: Some(true),
            });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    async fn activate(&self, slice: &Slice) -> Result<Device, PoolError> {
        let id = volume(&slice.id)?;
        crashsafe::write_atomic(&*self.disk, LABEL, &self.wanted_mark(id), b"", 0o600)
            .map_err(io("mark", id))?;
        self.serving(id).await?;
        Ok(Device {
            path: self.dir(id).export(),
            layout: Layout::Raw,
            export: Some(id.to_string()),
        })
    }

    async fn deactivate(&self, slice: &Slice) -> Result<(), PoolError> {
        let id = volume(&slice.id)?;
        match self.disk.remove_file(LABEL, &self.wanted_mark(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("unmark", id)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn open_source(&self, _slice: &Slice) -> Result<Box<dyn ImageSource>, PoolError> {
        Err(not_here())
    }

    async fn open_sink(&self, _slice: &Slice) -> Result<Box<dyn ImageSink>, PoolError> {
        Err(not_here())
    }

    async fn tend(&self, _now: Instant) -> Vec<Shed> {
        match self.ids() {
            Ok(ids) => {
                for id in ids {
                    self.tend_one(&id).await;
                }
            }
            Err(error) => tracing::warn!(error = %chain(&error), "disks not looked after"),
        }
        Vec::new()
    }

    fn disk_snapshots(&self) -> Option<&dyn DiskSnapshots> {
        Some(self)
    }

    fn moves(&self) -> Option<&dyn Moves> {
        Some(self)
    }

    async fn figures(&self, id: &SliceId) -> Option<serde_json::Value> {
        let SliceId::Volume(id) = id else { return None };
        let status = self.processes.status(&self.dir(id)).await?;
        serde_json::to_value(status).ok()
    }
}
