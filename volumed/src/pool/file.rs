//! The file pool: one file a slice, sparse or preallocated, copied by reflink where the file system has it.
//!
//! Crash consistency. A slice is built under `<name>.new` and renamed when it is complete and synced, so a file with its
//! final name always holds what it should; a `.new` file belongs to an operation that will run its step again, which
//! starts it from nothing. The catalog row comes before the file at creation and goes after it at removal, so a file
//! always has an owner: what lists as ours without a row was put there by somebody else and is reported, never removed.

mod build;
mod place;
mod shared_room;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use crashsafe::{Disk, OpenOptions};
use tokio_util::sync::CancellationToken;

use build::{file_bytes, header_bytes};
pub use place::Known;

use super::door::Door;
use super::{
    Capabilities, Capacity, Copied, Device, Fault, Found, Pool, PoolError, PoolUsage, PressureRules, Reading,
    Shed, Slice, SliceId, ZeroEnd,
};
use crate::bulk::{ImageError, ImageSink, ImageSource, Images, Layout, Workers};
use crate::random::Random;

#[cfg(test)]
mod tests;

const FINAL: &str = ".img";
const UNFINISHED: &str = ".new";
/// What guest-init reads at both ends before it makes a file system.
const EDGE_BYTES: u64 = 1 << 20;

/// Whether the bytes of a slice are taken at once or when they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocation {
    /// Taken when written.
    Sparse,
    /// Taken at once.
    Preallocated,
}

/// How a file pool is set up.
#[derive(Clone, Debug)]
pub struct FilePoolConfig {
    /// Name.
    pub name: String,
    /// Its folder; made when missing.
    pub path: PathBuf,
    /// Sparse or preallocated.
    pub allocation: Allocation,
    /// Room rules.
    pub capacity: Capacity,
    /// When it warns and refuses.
    pub pressure: PressureRules,
}

/// The pool.
#[derive(Clone, Debug)]
pub struct FilePool {
    config: FilePoolConfig,
    disk: Arc<dyn Disk>,
    images: Images,
    workers: Workers,
    random: Arc<dyn Random>,
    door: Arc<Door>,
    seen: Arc<Mutex<Seen>>,
}

/// What the pool knows of its folder.
#[derive(Debug, Default)]
struct Seen {
    known: Known,
    /// Whether the file system reflinks.
    reflink: bool,
    /// Whether it tells then what two files share.
    tells_shared: bool,
    /// Whether what only speeds up backups was in the way at the last look.
    tight: bool,
    /// Bytes that were free at the last look, while there are captures that share blocks with volumes.
    free_beside_captures: Option<u64>,
}

impl FilePool {
    /// Makes the pool and opens it, whatever marker is in its folder.
    ///
    /// # Errors
    /// As [`try_open`](Self::try_open).
    pub async fn open(
        config: FilePoolConfig,
        disk: Arc<dyn Disk>,
        images: Images,
        workers: Workers,
        random: Arc<dyn Random>,
    ) -> Result<Self, PoolError> {
        let pool = Self::closed(config, Known::default(), disk, images, workers, random);
        pool.try_open().await?;
        Ok(pool)
    }

    /// Makes the pool without looking for its folder.
    pub fn closed(
        config: FilePoolConfig,
        known: Known,
        disk: Arc<dyn Disk>,
        images: Images,
        workers: Workers,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            config,
            disk,
            images,
            workers,
            random,
            door: Arc::new(Door::new()),
            seen: Arc::new(Mutex::new(Seen {
                known,
                ..Seen::default()
            })),
        }
    }

    /// Opens the pool: sees that its folder is the one that the catalog knows, makes it at its first use, and finds out
    /// whether its file system reflinks.
    ///
    /// # Errors
    /// [`PoolError::Closed`] with what is wrong and what to do. Every call gets that then, until a later try does better.
    pub async fn try_open(&self) -> Result<(), PoolError> {
        let this = self.clone();
        let opened = self.workers.run(move || this.prepare()).await;
        self.door.set(opened.err());
        self.door.pass(&self.config.name)
    }

    fn prepare(&self) -> Result<(), Fault> {
        let id = self.settle()?;
        let (reflink, tells_shared) = self.probe().map_err(|error| self.unfit(&error))?;
        let mut seen = self.seen();
        (seen.reflink, seen.tells_shared) = (reflink, tells_shared);
        seen.known.id = Some(id);
        Ok(())
    }

    /// Finds out whether the file system reflinks, and whether it tells of two files what they share.
    fn probe(&self) -> io::Result<(bool, bool)> {
        let dir = &self.config.path;
        let (from, to) = (dir.join(place::PROBE), dir.join(place::PROBE_COPY));
        self.remove_if_there(&from)?;
        self.remove_if_there(&to)?;
        let file = self.disk.open("pool:probe:open", &from, OpenOptions::CREATE)?;
        // Not so little that it would be kept beside its name.
        file.write_at(&[7; 64 << 10], 0)?;
        file.sync_all()?;
        drop(file);
        let reflink = self.disk.reflink("pool:probe:reflink", &from, &to).is_ok();
        let told = if reflink {
            self.disk.differences(&from, &to)?
        } else {
            None
        };
        self.remove_if_there(&from)?;
        self.remove_if_there(&to)?;
        Ok((reflink, told.is_some_and(|differing| differing.is_empty())))
    }

    /// Sees that the folder is still the pool's: its disk may have gone while volumed ran.
    async fn look(&self) -> Result<(), PoolError> {
        let this = self.clone();
        let seen = self.workers.run(move || this.identify()).await;
        let fault = match seen {
            Ok(Some(_)) => None,
            // It was marked when it was opened.
            Ok(None) => Some(self.missing_place("its marker is not there", &self.known())),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = &fault {
            tracing::error!(pool = self.config.name, why = fault.sentence, "pool shut");
        }
        self.door.set(fault);
        self.door.pass(&self.config.name)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Known {
        self.seen().known.clone()
    }

    fn path(&self, id: &SliceId) -> PathBuf {
        self.config.path.join(format!("{}{FINAL}", id.name()))
    }

    fn unfinished(&self, id: &SliceId) -> PathBuf {
        self.config.path.join(format!("{}{UNFINISHED}", id.name()))
    }

    /// Runs disk calls on a worker thread and names what failed.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        slice: impl Into<String>,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PoolError> {
        self.door.pass(&self.config.name)?;
        let this = self.clone();
        let done = self.workers.run(move || work(&this)).await;
        done.map_err(|source| self.io(doing, &slice.into(), source))
    }

    fn io(&self, doing: &'static str, slice: &str, source: io::Error) -> PoolError {
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

    fn no_space(&self, wanted_bytes: u64) -> PoolError {
        PoolError::NoSpace {
            pool: self.config.name.clone(),
            wanted_bytes,
        }
    }

    fn missing(&self, id: &SliceId) -> PoolError {
        PoolError::Missing {
            pool: self.config.name.clone(),
            slice: id.name(),
        }
    }

    fn remove_if_there(&self, path: &Path) -> io::Result<bool> {
        match self.disk.remove_file("pool:delete:unlink", path) {
            Ok(()) => Ok(true),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Returns the length of a finished slice.
    async fn length(&self, id: &SliceId) -> Result<Option<u64>, PoolError> {
        let path = self.path(id);
        let stat = self
            .blocking("stat", id.name(), move |pool| pool.disk.stat(&path))
            .await?;
        Ok(stat.map(|s| s.len))
    }

    /// Says whether a finished slice of that size is there; one of another size is an error.
    async fn already(&self, slice: &Slice) -> Result<bool, PoolError> {
        let expected_bytes = file_bytes(slice);
        match self.length(&slice.id).await? {
            None => Ok(false),
            Some(found) if found == expected_bytes => Ok(true),
            Some(found_bytes) => Err(PoolError::WrongSize {
                pool: self.config.name.clone(),
                slice: slice.id.name(),
                found_bytes,
                expected_bytes,
            }),
        }
    }
}

#[async_trait]
impl Pool for FilePool {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn kind(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> Capabilities {
        let Seen {
            reflink,
            tells_shared,
            tight,
            ..
        } = *self.seen();
        Capabilities {
            reflink,
            atomic_snapshot: reflink,
            encryption: true,
            deltas: tells_shared && !tight,
        }
    }

    fn capacity(&self) -> Capacity {
        self.config.capacity
    }

    fn pressure_rules(&self) -> PressureRules {
        self.config.pressure
    }

    async fn reading(&self) -> Result<Reading, PoolError> {
        if self.door.is_open() {
            // Said where it was found, and told below.
            let _shut = self.look().await;
        }
        match self.door.fault() {
            Some(fault) => Ok(Reading {
                gauges: Vec::new(),
                fault: Some(fault),
            }),
            None => Ok(Reading::of_data(&self.usage().await?, &self.config.capacity)),
        }
    }

    async fn usage(&self) -> Result<PoolUsage, PoolError> {
        let found = self.list().await?;
        // A capture's blocks are its volume's, or go with it.
        let lasting = found
            .iter()
            .filter(|found| !matches!(found.id, SliceId::Capture(_)));
        let allocated_bytes: u64 = lasting.map(|found| found.allocated_bytes).sum();
        let space = self
            .blocking("measure", "folder", |pool| pool.disk.space(&pool.config.path))
            .await?;
        let used_bytes = space.total_bytes.saturating_sub(space.free_bytes);
        Ok(PoolUsage {
            total_bytes: space.total_bytes,
            free_bytes: space.free_bytes,
            // Forks share blocks with their sources, and each counts them.
            allocated_bytes: allocated_bytes.min(used_bytes),
        })
    }

    async fn create(&self, slice: &Slice) -> Result<(), PoolError> {
        self.look().await?;
        if self.already(slice).await? {
            return Ok(());
        }
        self.build(slice).await?;
        let unfinished = self.unfinished(&slice.id);
        let sink = self
            .images
            .open_sink(&unfinished, slice.size_bytes, &slice.layout)
            .await;
        let sink = sink.map_err(|source| self.image(&slice.id, source))?;
        let zeroed = async {
            let edge = EDGE_BYTES.min(slice.size_bytes);
            sink.zero(0, edge).await?;
            sink.zero(slice.size_bytes - edge, edge).await?;
            sink.sync().await
        };
        zeroed
            .await
            .map_err(|source| self.io("zero the edges of", &slice.id.name(), source))?;
        self.publish(&slice.id).await
    }

    async fn grow(&self, slice: &Slice, from_bytes: u64, zero_end: ZeroEnd) -> Result<(), PoolError> {
        let grown_now = self.lengthen(slice, from_bytes).await?;
        let zero = match zero_end {
            ZeroEnd::Never => false,
            ZeroEnd::IfGrownNow => grown_now,
            ZeroEnd::Always => true,
        };
        if zero {
            let sink = self
                .images
                .open_sink(&self.path(&slice.id), slice.size_bytes, &slice.layout)
                .await;
            let sink = sink.map_err(|source| self.image(&slice.id, source))?;
            let zeroed = async {
                sink.zero(slice.size_bytes - EDGE_BYTES, EDGE_BYTES).await?;
                sink.sync().await
            };
            zeroed
                .await
                .map_err(|source| self.io("zero the end of", &slice.id.name(), source))?;
        }
        Ok(())
    }

    async fn copy(&self, source: &Slice, target: &Slice) -> Result<Copied, PoolError> {
        self.copy_unless(source, target, &CancellationToken::new()).await
    }

    async fn copy_unless(
        &self,
        source: &Slice,
        target: &Slice,
        cancelled: &CancellationToken,
    ) -> Result<Copied, PoolError> {
        assert_eq!(
            file_bytes(source),
            file_bytes(target),
            "a copy has the size and the kind of its source"
        );
        let reflink = self.seen().reflink;
        let copied = if reflink {
            Copied::Atomically
        } else {
            Copied::Plainly
        };
        self.look().await?;
        if self.already(target).await? {
            return Ok(copied);
        }
        if self.length(&source.id).await?.is_none() {
            return Err(self.missing(&source.id));
        }
        if reflink {
            if matches!(target.id, SliceId::Capture(_)) && self.blocking_room("capture").await?.is_short {
                // It would have to go at once, for a volume that is written to needs the room again.
                return Err(self.no_space(file_bytes(source)));
            }
            let (from, to) = (self.path(&source.id), self.unfinished(&target.id));
            let linked = self.blocking("reflink", target.id.name(), move |pool| {
                pool.remove_if_there(&to)?;
                pool.disk.reflink("pool:copy:reflink", &from, &to)?;
                pool.disk
                    .open("pool:copy:open", &to, OpenOptions::READ_WRITE)?
                    .sync_all()
            });
            linked.await?;
        } else {
            self.copy_begin(target).await?;
            // Writes that are under way go into the unfinished file, which nobody will name.
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {
                    let interrupted = io::Error::from(io::ErrorKind::Interrupted);
                    return Err(self.io("copy into", &target.id.name(), interrupted));
                }
                copied = self.copy_bytes(source, target) => copied?,
            }
        }
        self.copy_finish(target, &source.layout).await?;
        Ok(copied)
    }

    async fn copy_begin(&self, slice: &Slice) -> Result<PathBuf, PoolError> {
        self.look().await?;
        self.lay_out(slice, None).await?;
        Ok(self.unfinished(&slice.id))
    }

    async fn copy_finish(&self, slice: &Slice, source_layout: &Layout) -> Result<(), PoolError> {
        if self.already(slice).await? {
            return Ok(());
        }
        self.rekey(slice, source_layout).await?;
        self.publish(&slice.id).await
    }

    async fn delete(&self, id: &SliceId) -> Result<(), PoolError> {
        let (done, unfinished) = (self.path(id), self.unfinished(id));
        let cut = matches!(id, SliceId::Capture(_));
        let deleted = self.blocking("delete", id.name(), move |pool| {
            if cut {
                pool.cut_if_there(&done)?;
            }
            pool.remove_if_there(&unfinished)?;
            pool.remove_if_there(&done)?;
            // Also when nothing was there: an earlier run may have removed it without living to sync.
            pool.disk.sync_dir("pool:delete:sync_dir", &pool.config.path)
        });
        deleted.await
    }

    async fn exists(&self, id: &SliceId) -> Result<bool, PoolError> {
        Ok(self.length(id).await?.is_some())
    }

    async fn list(&self) -> Result<Vec<Found>, PoolError> {
        let listed = self.blocking("list", "folder", |pool| {
            let mut found = Vec::new();
            for entry in pool.disk.list(&pool.config.path)? {
                let Some((id, complete)) = place::slice_of(&entry.name) else {
                    continue;
                };
                let stat = pool.disk.stat(&pool.config.path.join(&entry.name))?;
                let allocated_bytes = stat.map_or(0, |s| s.allocated_bytes);
                found.push(Found {
                    id,
                    allocated_bytes,
                    complete,
                    // A file says neither.
                    size_bytes: None,
                    encrypted: None,
                });
            }
            found.sort_by(|a, b| a.id.cmp(&b.id).then(a.complete.cmp(&b.complete)));
            Ok(found)
        });
        listed.await
    }

    async fn activate(&self, slice: &Slice) -> Result<Device, PoolError> {
        match self.length(&slice.id).await? {
            Some(_) => Ok(Device {
                path: self.path(&slice.id),
                layout: slice.layout.clone(),
                export: None,
            }),
            None => Err(self.missing(&slice.id)),
        }
    }

    async fn deactivate(&self, _slice: &Slice) -> Result<(), PoolError> {
        Ok(()) // a file needs no taking down
    }

    async fn open_source(&self, slice: &Slice) -> Result<Box<dyn ImageSource>, PoolError> {
        self.door.pass(&self.config.name)?;
        let opened = self
            .images
            .open_source(&self.path(&slice.id), slice.size_bytes, &slice.layout)
            .await;
        Ok(Box::new(opened.map_err(|source| self.image(&slice.id, source))?))
    }

    async fn open_sink(&self, slice: &Slice) -> Result<Box<dyn ImageSink>, PoolError> {
        self.door.pass(&self.config.name)?;
        let opened = self
            .images
            .open_sink(&self.path(&slice.id), slice.size_bytes, &slice.layout)
            .await;
        Ok(Box::new(opened.map_err(|source| self.image(&slice.id, source))?))
    }

    async fn changed(&self, base: &Slice, slice: &Slice) -> Option<Vec<Range<u64>>> {
        self.shared_no_more(base, slice).await
    }

    fn bases_take_room(&self) -> bool {
        true
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.config.path)
    }

    fn place(&self) -> Option<String> {
        self.known().id
    }

    async fn foreign(&self) -> Result<Vec<String>, PoolError> {
        let listed = self.blocking("list", "folder", |pool| {
            let entries = pool.disk.list(&pool.config.path)?;
            let ours = |name: &str| {
                place::slice_of(name).is_some()
                    || [place::MARKER, place::PROBE, place::PROBE_COPY].contains(&name)
            };
            let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
            names.retain(|name| !ours(name));
            Ok(names)
        });
        listed.await
    }

    fn is_open(&self) -> bool {
        self.door.is_open()
    }

    async fn tend(&self, now: Instant) -> Vec<Shed> {
        if self.door.is_due(now) {
            if self.try_open().await.is_ok() {
                tracing::info!(pool = self.config.name, "pool opened");
            }
        } else if self.door.is_open() {
            // Said where it was found.
            let _shut = self.look().await;
        }
        self.shed_for_volumes().await
    }

    fn tend_every(&self) -> Duration {
        self.watch_every()
    }
}
