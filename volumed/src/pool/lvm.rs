//! Pools of logical volumes: thin ones, which share chunks, and linear ones.
//!
//! A slice is a logical volume of its id's name. What is ours says so by tags ([`crate::lvm::tags`]); what does not is
//! never touched, even under one of our names.
//!
//! Crash consistency. A slice that takes several steps is tagged unfinished until the last; the same call after a crash
//! finds that tag and begins anew. A capture is one command of LVM, there or not; of a thin one the pool must have heard,
//! for LVM lists it before ([`PoolStatus::has_not_heard_of`](crate::lvm::status::PoolStatus::has_not_heard_of)). A grow is tagged while it lasts, and no
//! device is handed out meanwhile. The record in the catalog comes first at creation and goes last at removal, as in the
//! file pool.
//!
//! Nothing of ours is activated by the system at boot: a guest's data is nobody's business but its guest's.

mod devices;
mod image;
mod linear;
mod slices;
mod thin;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use crashsafe::Disk;

use super::door::Door;
use super::{
    Capabilities, Capacity, Copied, Device, Fault, Found, Pool, PoolError, PoolUsage, PressureRules, Reading,
    Shed, Slice, SliceId, ZeroEnd,
};
use crate::bulk::{ImageError, ImageSink, ImageSource, Images, Layout, Workers};
use crate::command::TORN;
use crate::lvm::crypt::{self, Crypt};
use crate::lvm::group::{GroupError, Report, VolumeGroup};
use crate::lvm::report::Lv;
use crate::lvm::tags::SliceTags;
use crate::lvm::thin_pool::{Planner, Policy};
use thin::is_half_made;

#[cfg(test)]
mod tests;

/// What guest-init reads at both ends before it makes a file system.
const EDGE_BYTES: u64 = 1 << 20;

/// A thin pool to be made when it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewThinPool {
    /// Bytes of data at first; it grows by itself.
    pub data_bytes: u64,
    /// Bytes of metadata at first, and of its spare.
    pub metadata_bytes: u64,
    /// Bytes of a chunk: a multiple of 64 KiB.
    pub chunk_bytes: u64,
}

/// What the slices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LvmKind {
    /// Thin volumes of one thin pool.
    Thin {
        /// The pool's name in its group.
        thin_pool: String,
        /// How it is made; when absent it must be there.
        create: Option<NewThinPool>,
        /// When it grows.
        policy: Policy,
    },
    /// Volumes of their own extents.
    Linear {
        /// Room of a temporary snapshot, in per cent of its volume.
        snapshot_percent: u64,
    },
}

/// How a pool is set up.
#[derive(Clone, Debug)]
pub struct LvmPoolConfig {
    /// Name.
    pub name: String,
    /// Thin or linear.
    pub kind: LvmKind,
    /// Whether encrypted volumes can be made.
    pub encryption: bool,
    /// Room rules.
    pub capacity: Capacity,
    /// When it warns and refuses.
    pub pressure: PressureRules,
}

/// The pool.
#[derive(Debug)]
pub struct LvmPool {
    config: LvmPoolConfig,
    group: Arc<VolumeGroup>,
    crypt: Crypt,
    disk: Arc<dyn Disk>,
    images: Images,
    workers: Workers,
    watch: Mutex<Watch>,
    /// Held while a metadata snapshot is: there is one a thin pool.
    metadata: tokio::sync::Mutex<()>,
    door: Door,
}

/// What the pool remembers between two looks.
#[derive(Debug)]
struct Watch {
    planner: Planner,
    /// The newest report, and when it was made.
    seen: Option<(Instant, Report)>,
    /// The pool was found damaged since the start.
    damaged: bool,
    /// The newest look failed: said once, not every second.
    unseen: bool,
}

impl LvmPool {
    /// Makes the pool and opens it.
    ///
    /// # Errors
    /// As [`try_open`](Self::try_open).
    pub async fn open(
        config: LvmPoolConfig,
        group: Arc<VolumeGroup>,
        disk: Arc<dyn Disk>,
        images: Images,
        workers: Workers,
    ) -> Result<Self, PoolError> {
        let pool = Self::closed(config, group, disk, images, workers);
        pool.try_open().await?;
        Ok(pool)
    }

    /// Makes the pool without looking for its volume group.
    pub fn closed(
        config: LvmPoolConfig,
        group: Arc<VolumeGroup>,
        disk: Arc<dyn Disk>,
        images: Images,
        workers: Workers,
    ) -> Self {
        let policy = match &config.kind {
            LvmKind::Thin { policy, .. } => policy.clone(),
            LvmKind::Linear { .. } => Policy::default(),
        };
        let crypt = Crypt::new(Arc::clone(group.commands()), group.mapper());
        Self {
            config,
            group,
            crypt,
            disk,
            images,
            workers,
            watch: Mutex::new(Watch {
                planner: Planner::new(policy),
                seen: None,
                damaged: false,
                unseen: false,
            }),
            metadata: tokio::sync::Mutex::default(),
            door: Door::new(),
        }
    }

    /// Opens the pool: checks the group, makes the thin pool when told to, ends what a crash left half done.
    ///
    /// # Errors
    /// [`PoolError::Unfit`] with what the operator must do; [`PoolError::Group`] when LVM does not answer. Every call
    /// then gets [`PoolError::Closed`], until a later try does better.
    pub async fn try_open(&self) -> Result<(), PoolError> {
        let begun = self.begin().await;
        self.door.set(begun.as_ref().err().map(|error| self.fault(error)));
        begun
    }

    async fn begin(&self) -> Result<(), PoolError> {
        let report = self.read("open").await?;
        self.check_extents(&report)?;
        self.group
            .resume_suspended()
            .await
            .map_err(|source| self.group_error("resume", "what was suspended", source))?;
        if let LvmKind::Thin {
            thin_pool, create, ..
        } = &self.config.kind
        {
            self.open_thin_pool(thin_pool, create.as_ref(), &report).await?;
        }
        self.tidy().await
    }

    /// Returns what an error that keeps the pool from being used is called.
    fn fault(&self, error: &PoolError) -> Fault {
        let why = match error {
            PoolError::Group { source, .. } => match &**source {
                GroupError::Command(source) => source.in_short(),
                other => crate::ops::chain(other),
            },
            other => crate::ops::chain(other),
        };
        match error {
            PoolError::Unfit { why, .. } => Fault {
                state: "unfit",
                sentence: why.clone(),
            },
            _ if why.contains(TORN) => Fault {
                state: "damaged",
                sentence: format!(
                    "the metadata of volume group {} is damaged on its disk ({why}): put LVM's backup of it back as \
                     docs/operating/lvm-pools.md says, volumed goes on by itself then",
                    self.group.name()
                ),
            },
            _ => Fault {
                state: "missing",
                sentence: format!(
                    "volume group {} cannot be read ({why}): bring its disks back, volumed goes on by itself then",
                    self.group.name()
                ),
            },
        }
    }

    /// Tries again to open the pool, when it is time.
    async fn tend_closed(&self, now: Instant) {
        if !self.door.is_due(now) {
            return;
        }
        if self.try_open().await.is_ok() {
            tracing::info!(pool = self.config.name, "pool opened");
        }
    }

    /// An extent that does not divide sizes and headers would make devices larger than their volumes.
    fn check_extents(&self, report: &Report) -> Result<(), PoolError> {
        let extent = report.vg.extent_bytes;
        if extent > 0 && crypt::HEADER_BYTES.is_multiple_of(extent) {
            return Ok(());
        }
        Err(self.unfit(format!(
            "volume group {} has extents of {extent} bytes; they must divide {} bytes: make it with vgcreate -s 4m",
            self.group.name(),
            crypt::HEADER_BYTES
        )))
    }

    /// Reads the group of a pool that is open.
    async fn report(&self, doing: &'static str) -> Result<Report, PoolError> {
        self.door.pass(&self.config.name)?;
        self.read(doing).await
    }

    async fn read(&self, doing: &'static str) -> Result<Report, PoolError> {
        let report = self.group.report().await;
        report.map_err(|source| self.group_error(doing, self.group.name(), source))
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name of the thin pool that slices are in; none for a linear pool.
    fn thin_pool(&self) -> Option<&str> {
        match &self.config.kind {
            LvmKind::Thin { thin_pool, .. } => Some(thin_pool),
            LvmKind::Linear { .. } => None,
        }
    }

    /// Returns the slice of a name as it is; none when there is nothing of that name.
    fn find<'a>(&self, report: &'a Report, id: &SliceId) -> Result<Option<(&'a Lv, SliceTags)>, PoolError> {
        let name = id.name();
        let Some(lv) = report.lv(&name) else {
            return Ok(None);
        };
        match SliceTags::parse(&lv.tags) {
            Some(tags) if tags.id == *id && lv.pool.as_deref() == self.thin_pool() => Ok(Some((lv, tags))),
            Some(_) | None => Err(PoolError::Foreign {
                pool: self.config.name.clone(),
                slice: name,
            }),
        }
    }

    /// Returns a finished slice, or that it is missing.
    fn finished<'a>(&self, report: &'a Report, id: &SliceId) -> Result<(&'a Lv, SliceTags), PoolError> {
        let found = self.find(report, id)?.filter(|(_, tags)| tags.complete);
        found.ok_or_else(|| PoolError::Missing {
            pool: self.config.name.clone(),
            slice: id.name(),
        })
    }

    /// Returns the slices of this pool in a report.
    fn ours<'a>(&'a self, report: &'a Report) -> impl Iterator<Item = (&'a Lv, SliceTags)> {
        let mine = |lv: &&Lv| !lv.hidden && lv.pool.as_deref() == self.thin_pool();
        let lvs = report.lvs.iter().filter(mine);
        lvs.filter_map(|lv| SliceTags::parse(&lv.tags).map(|tags| (lv, tags)))
    }

    fn unfit(&self, why: String) -> PoolError {
        PoolError::Unfit {
            pool: self.config.name.clone(),
            why,
        }
    }

    fn busy(&self, id: &SliceId, by: String) -> PoolError {
        PoolError::Busy {
            pool: self.config.name.clone(),
            slice: id.name(),
            by,
        }
    }

    fn group_error(&self, doing: &'static str, slice: &str, source: impl Into<GroupError>) -> PoolError {
        PoolError::Group {
            pool: self.config.name.clone(),
            slice: slice.to_owned(),
            doing,
            source: Box::new(source.into()),
        }
    }

    fn io(&self, doing: &'static str, slice: &str, source: std::io::Error) -> PoolError {
        PoolError::Io {
            pool: self.config.name.clone(),
            slice: slice.to_owned(),
            doing,
            source,
        }
    }

    fn image(&self, slice: &SliceId, source: ImageError) -> PoolError {
        PoolError::Image {
            pool: self.config.name.clone(),
            slice: slice.name(),
            source,
        }
    }
}

/// Returns the bytes before a slice's first byte of the guest.
fn header_bytes(layout: &Layout) -> u64 {
    match layout {
        Layout::Raw => 0,
        Layout::Luks { .. } => crypt::HEADER_BYTES,
    }
}

/// Returns the bytes of a slice's logical volume.
fn lv_bytes(slice: &Slice) -> u64 {
    slice.size_bytes + header_bytes(&slice.layout)
}

#[async_trait]
impl Pool for LvmPool {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn kind(&self) -> &'static str {
        match self.config.kind {
            LvmKind::Thin { .. } => "lvm-thin",
            LvmKind::Linear { .. } => "lvm-linear",
        }
    }

    fn capabilities(&self) -> Capabilities {
        let thin = self.thin_pool().is_some();
        Capabilities {
            reflink: thin,
            atomic_snapshot: true,
            encryption: self.config.encryption,
            deltas: thin,
        }
    }

    fn capacity(&self) -> Capacity {
        self.config.capacity
    }

    fn pressure_rules(&self) -> PressureRules {
        self.config.pressure
    }

    async fn usage(&self) -> Result<PoolUsage, PoolError> {
        let report = self.report("measure").await?;
        match self.thin_pool() {
            Some(thin_pool) => self.thin_usage(thin_pool, &report).await,
            None => Ok(PoolUsage {
                total_bytes: report.vg.size_bytes,
                free_bytes: report.vg.free_bytes,
                allocated_bytes: self.ours(&report).map(|(lv, _)| lv.size_bytes).sum(),
            }),
        }
    }

    async fn reading(&self) -> Result<Reading, PoolError> {
        let faulty = |fault| Reading {
            gauges: Vec::new(),
            fault: Some(fault),
        };
        if let Some(fault) = self.door.fault() {
            return Ok(faulty(fault));
        }
        let report = match self.read("read the gauges of").await {
            Ok(report) => report,
            // It was there, and may be again.
            Err(error) => return Ok(faulty(self.fault(&error))),
        };
        match self.thin_pool() {
            Some(thin_pool) => Ok(self.thin_reading(thin_pool, &report).await),
            None => Ok(self.linear_reading(&report)),
        }
    }

    async fn create(&self, slice: &Slice) -> Result<(), PoolError> {
        self.make(slice).await
    }

    async fn grow(&self, slice: &Slice, from_bytes: u64, zero_end: ZeroEnd) -> Result<(), PoolError> {
        self.lengthen(slice, from_bytes, zero_end).await
    }

    async fn copy(&self, source: &Slice, target: &Slice) -> Result<Copied, PoolError> {
        assert_eq!(
            lv_bytes(source),
            lv_bytes(target),
            "a copy has the size and the kind of its source"
        );
        let report = self.report("copy").await?;
        if self.already(&report, target).await? {
            return Ok(Copied::Atomically);
        }
        let (_, source_tags) = self.finished(&report, &source.id)?;
        if source_tags.growing_from.is_some() {
            return Err(self.busy(&source.id, "it is being extended".to_owned()));
        }
        match self.thin_pool() {
            Some(thin_pool) => self.copy_thin(thin_pool, source, target).await?,
            None => self.copy_linear(source, target).await?,
        }
        Ok(Copied::Atomically)
    }

    async fn copy_begin(&self, slice: &Slice) -> Result<PathBuf, PoolError> {
        let report = self.report("prepare").await?;
        if !self.already(&report, slice).await? {
            self.lay_out(slice).await?;
        }
        self.activate_lv(&slice.id.name()).await
    }

    async fn copy_finish(&self, slice: &Slice, source_layout: &Layout) -> Result<(), PoolError> {
        self.finish_copy(slice, source_layout).await
    }

    async fn delete(&self, id: &SliceId) -> Result<(), PoolError> {
        self.remove(id).await
    }

    async fn exists(&self, id: &SliceId) -> Result<bool, PoolError> {
        let report = self.report("look for").await?;
        Ok(self.find(&report, id)?.is_some_and(|(_, tags)| tags.complete))
    }

    async fn list(&self) -> Result<Vec<Found>, PoolError> {
        let report = self.report("list").await?;
        let status = match self.thin_pool() {
            // Without a device nothing of the pool can be told from what it has not heard of.
            Some(thin_pool) => self.pool_status(thin_pool).await.ok(),
            None => None,
        };
        let half_made = |lv: &Lv| status.is_some_and(|status| is_half_made(&status, &report, lv));
        let mut found: Vec<Found> = self
            .ours(&report)
            .map(|(lv, tags)| Found {
                id: tags.id,
                allocated_bytes: self.allocated_bytes(lv),
                complete: tags.complete && !half_made(lv),
                size_bytes: Some(tags.size_bytes),
                encrypted: Some(tags.header_bytes > 0),
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    async fn activate(&self, slice: &Slice) -> Result<Device, PoolError> {
        self.open_device(slice).await
    }

    async fn deactivate(&self, slice: &Slice) -> Result<(), PoolError> {
        self.close_device(&slice.id).await
    }

    async fn open_source(&self, slice: &Slice) -> Result<Box<dyn ImageSource>, PoolError> {
        self.source(slice).await
    }

    async fn open_sink(&self, slice: &Slice) -> Result<Box<dyn ImageSink>, PoolError> {
        Ok(Box::new(self.sink(slice).await?))
    }

    async fn changed(&self, base: &Slice, slice: &Slice) -> Option<Vec<Range<u64>>> {
        let thin_pool = self.thin_pool()?;
        match self.thin_changes(thin_pool, base, slice).await {
            Ok(changed) => changed,
            Err(error) => {
                let error = crate::ops::chain(&error);
                tracing::warn!(
                    base = base.id.name(),
                    slice = slice.id.name(),
                    error,
                    "changes not told; all is read"
                );
                None
            }
        }
    }

    fn is_open(&self) -> bool {
        self.door.is_open()
    }

    async fn tend(&self, now: Instant) -> Vec<Shed> {
        match self.thin_pool() {
            _ if !self.is_open() => {
                self.tend_closed(now).await;
                Vec::new()
            }
            Some(thin_pool) => self.tend_thin(thin_pool, now).await,
            None => Vec::new(),
        }
    }
}
