//! A whole volumed on a real disk, an object store in memory and a clock that stands still, for the tests of this crate.
#![allow(clippy::unwrap_used)]

mod small_disk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use crashsafe::{Disk, RealDisk};
use daemon::wall_clock::ManualClock;
use jiff::Timestamp;
use objstore::{FaultStore, MemoryStore, ObjectStore};
use operation::{Backoff, DriveError, NoProbe, Probe};

use crate::bulk::{Images, Workers};
use crate::catalog::Catalog;
use crate::host::{Content, HostError, HostMounts};
use crate::keys::ClusterKey;
use crate::metrics::Metrics;
use crate::ops::{Context, KeyRing, Locks, Pools, Settings};
use crate::pool::file::{Allocation, FilePool, FilePoolConfig};
use crate::pool::{Capacity, Device, Pool, PressureRules, SliceId};
use crate::random::Random;
use crate::runner_client::{CopyAnswer, CopyRequest, GrowAnswer, GrowRequest, MachineRunner, RunnerError};
use crate::service::{CreateRequest, Service};
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{FsType, FsUsage, SizeGb, Volume, VolumeId};
use small_disk::SmallDisk;

/// Bytes from a counter: different each time, the same in each run.
#[derive(Debug, Default)]
pub(crate) struct CountingRandom(AtomicU64);

impl Random for CountingRandom {
    fn fill(&self, out: &mut [u8]) {
        let mut filled = 0;
        while filled < out.len() {
            let block = blake3::hash(&self.0.fetch_add(1, Ordering::SeqCst).to_le_bytes());
            let len = block.as_bytes().len().min(out.len() - filled);
            out[filled..filled + len].copy_from_slice(&block.as_bytes()[..len]);
            filled += len;
        }
    }
}

/// A machine-runner that plays one guest on every volume.
#[derive(Debug, Default)]
pub(crate) struct FakeRunner {
    pub(crate) down: AtomicBool,
    pub(crate) guest_stopped: AtomicBool,
    pub(crate) calls: Mutex<Vec<String>>,
    pool: Mutex<PathBuf>,
}

impl FakeRunner {
    fn gone(&self) -> Result<(), RunnerError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(RunnerError::Unreachable("no socket".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl MachineRunner for FakeRunner {
    async fn grow(&self, volume_id: &str, request: &GrowRequest) -> Result<GrowAnswer, RunnerError> {
        self.gone()?;
        self.calls
            .lock()
            .unwrap()
            .push(format!("grow {volume_id} {}", request.size_bytes));
        let detached_guest = self.guest_stopped.load(Ordering::SeqCst);
        let fs_bytes = (!detached_guest).then_some(request.size_bytes / 100 * 95);
        Ok(GrowAnswer {
            fs_bytes,
            needs_restart: false,
            detached_guest,
        })
    }

    async fn copy(&self, volume_id: &str, request: &CopyRequest) -> Result<CopyAnswer, RunnerError> {
        self.gone()?;
        self.calls.lock().unwrap().push(format!("copy {volume_id}"));
        if self.guest_stopped.load(Ordering::SeqCst) {
            return Ok(CopyAnswer { detached_guest: true });
        }
        let source = self.pool.lock().unwrap().join(format!("v-{volume_id}.img"));
        let images = Images::new(Arc::new(RealDisk), None, Workers::inline());
        let bytes = RealDisk.stat(&source).unwrap().unwrap().len;
        let layout = crate::bulk::Layout::Raw;
        let from = images.open_source(&source, bytes, &layout).await.unwrap();
        let to = images
            .open_sink(&request.target_path, bytes, &layout)
            .await
            .unwrap();
        crate::bulk::copy(&from, &to).await.unwrap();
        Ok(CopyAnswer::default())
    }
}

/// A host whose kernel has devices and mounts until it is booted.
#[derive(Debug, Default)]
pub(crate) struct FakeHost {
    pub(crate) mapped: Mutex<BTreeMap<String, PathBuf>>,
    pub(crate) mounts: Mutex<BTreeMap<PathBuf, PathBuf>>,
    /// Device nodes with a file system.
    pub(crate) formatted: Mutex<Vec<PathBuf>>,
    /// Directories with open files.
    pub(crate) busy: Mutex<Vec<PathBuf>>,
    pub(crate) calls: Mutex<Vec<String>>,
    /// What cannot be mapped: the volume needs what this host does not have.
    pub(crate) unable: AtomicBool,
}

impl FakeHost {
    pub(crate) fn boot(&self) {
        self.mapped.lock().unwrap().clear();
        self.mounts.lock().unwrap().clear();
    }

    fn block(id: &VolumeId) -> PathBuf {
        PathBuf::from(format!("/dev/{id}"))
    }
}

#[async_trait]
impl HostMounts for FakeHost {
    async fn map(&self, id: &VolumeId, device: &Device) -> Result<PathBuf, HostError> {
        if self.unable.load(Ordering::SeqCst) {
            return Err(HostError::Output {
                program: "cryptsetup",
                said: "no device-mapper".to_owned(),
            });
        }
        let mut mapped = self.mapped.lock().unwrap();
        mapped.insert(id.to_string(), device.path.clone());
        Ok(Self::block(id))
    }

    async fn unmap(&self, id: &VolumeId, _device: &Device) -> Result<(), HostError> {
        let block = Self::block(id);
        assert!(
            !self.mounts.lock().unwrap().values().any(|b| *b == block),
            "{id} is still mounted"
        );
        self.mapped.lock().unwrap().remove(id.as_str());
        Ok(())
    }

    async fn content(&self, block: &Path, _size_bytes: u64) -> Result<Content, HostError> {
        let formatted = self.formatted.lock().unwrap().contains(&block.to_owned());
        Ok(if formatted {
            Content::Something
        } else {
            Content::Blank
        })
    }

    async fn format(&self, block: &Path, fstype: FsType) -> Result<(), HostError> {
        let line = format!("format {} {}", block.display(), fstype.name());
        self.calls.lock().unwrap().push(line);
        self.formatted.lock().unwrap().push(block.to_owned());
        Ok(())
    }

    async fn mount(&self, block: &Path, path: &Path, _fstype: FsType) -> Result<(), HostError> {
        let mut mounts = self.mounts.lock().unwrap();
        match mounts.get(path) {
            Some(there) if there != block => Err(HostError::Occupied {
                path: path.to_owned(),
                mounted: there.display().to_string(),
            }),
            _ => {
                mounts.insert(path.to_owned(), block.to_owned());
                Ok(())
            }
        }
    }

    async fn unmount(&self, id: &VolumeId, _device: &Device, path: &Path) -> Result<(), HostError> {
        if self.busy.lock().unwrap().contains(&path.to_owned()) {
            return Err(HostError::Busy {
                path: path.to_owned(),
            });
        }
        let mut mounts = self.mounts.lock().unwrap();
        if mounts.get(path) == Some(&Self::block(id)) {
            mounts.remove(path);
        }
        Ok(())
    }

    async fn grow(&self, id: &VolumeId, _: &Device, path: &Path, _: FsType) -> Result<FsUsage, HostError> {
        self.calls.lock().unwrap().push(format!("grow {id}"));
        self.usage(path).await
    }

    async fn sync(&self, path: &Path) -> Result<(), HostError> {
        self.calls
            .lock()
            .unwrap()
            .push(format!("sync {}", path.display()));
        Ok(())
    }

    async fn usage(&self, path: &Path) -> Result<FsUsage, HostError> {
        assert!(
            self.mounts.lock().unwrap().contains_key(path),
            "{} is not mounted",
            path.display()
        );
        Ok(FsUsage {
            block_size: 4096,
            blocks: 100,
            bytes_total: u64::MAX,
            ..FsUsage::default()
        })
    }
}

/// What survives a crash of volumed, and how to start it again.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<MemoryStore>,
    /// What volumed sees of it.
    pub(crate) wire: FaultStore,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<CountingRandom>,
    pub(crate) runner: Arc<FakeRunner>,
    pub(crate) overcommit_ratio: f64,
    pub(crate) host: Arc<FakeHost>,
    pub(crate) pressure: PressureRules,
    /// Size of the file system that the pool seems to be on; the real one's when absent.
    pub(crate) disk_bytes: Option<u64>,
    /// Whether files can share blocks there.
    pub(crate) shares: bool,
    catalog: Arc<Mutex<Option<Vec<u8>>>>,
}

pub(crate) const START: &str = "2026-01-01T00:00:00Z";
pub(crate) const ZONES: [&str; 3] = ["0a01", "0a02", "0a03"];

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (runner, store) = (FakeRunner::default(), Arc::new(MemoryStore::new()));
        *runner.pool.lock().unwrap() = dir.path().join("pool");
        Self {
            dir,
            wire: FaultStore::new(Arc::clone(&store) as _),
            store,
            clock: Arc::new(ManualClock::new(START.parse::<Timestamp>().unwrap())),
            random: Arc::default(),
            runner: Arc::new(runner),
            // Sparse test volumes on whatever disk there is.
            overcommit_ratio: 100.0,
            host: Arc::default(),
            pressure: PressureRules::default(),
            disk_bytes: None,
            shares: false,
            catalog: Arc::default(),
        }
    }

    pub(crate) fn advance(&self, hours: u64) {
        self.clock.advance(Duration::from_secs(hours * 3600));
    }

    /// Another host: the same bucket and clock, nothing else.
    pub(crate) fn after_host_loss(self) -> Self {
        let fresh = Self::new();
        let random = CountingRandom(AtomicU64::new(1 << 40));
        Self {
            store: self.store,
            wire: self.wire,
            clock: self.clock,
            random: Arc::new(random),
            ..fresh
        }
    }

    pub(crate) async fn context(&self) -> Context {
        let disk: Arc<dyn Disk> = Arc::new(SmallDisk {
            bytes: self.disk_bytes,
            shares: self.shares,
        });
        let workers = Workers::inline();
        let images = Images::new(Arc::clone(&disk), None, workers.clone());
        let random: Arc<dyn Random> = Arc::clone(&self.random) as _;
        let config = FilePoolConfig {
            name: "default".to_owned(),
            path: self.dir.path().join("pool"),
            allocation: Allocation::Sparse,
            capacity: Capacity {
                reserve_bytes: 0,
                overcommit_ratio: self.overcommit_ratio,
            },
            pressure: self.pressure,
        };
        let pool = FilePool::open(
            config,
            Arc::clone(&disk),
            images,
            workers.clone(),
            Arc::clone(&random),
        );
        let pools: Vec<Arc<dyn Pool>> = vec![Arc::new(pool.await.unwrap())];
        let path = self.dir.path().join("cluster.key");
        let key = ClusterKey::load(&*disk, &path).unwrap().unwrap_or_else(|| {
            let key = ClusterKey::generate(&*random);
            key.save(&*disk, &path).unwrap();
            key
        });
        let image = self.catalog.lock().unwrap().clone();
        let kept = Arc::clone(&self.catalog);
        let hook = Arc::new(move |image: &[u8]| *kept.lock().unwrap() = Some(image.to_vec()));
        Context {
            catalog: Catalog::in_memory(image.as_deref(), Some(hook)).unwrap(),
            pools: Pools::new(pools),
            disk,
            store: Arc::new(self.wire.clone()) as Arc<dyn ObjectStore>,
            keys: KeyRing::new(key, path),
            clock: Arc::clone(&self.clock) as _,
            random,
            workers,
            runner: Some(Arc::clone(&self.runner) as _),
            host: Some(Arc::clone(&self.host) as _),
            locks: Locks::default(),
            settings: Settings {
                region: "loc".to_owned(),
                zones: ZONES.map(str::to_owned).to_vec(),
                size_max: SizeGb::new(500).unwrap(),
                snapshot_interval: Duration::from_secs(24 * 3600),
                destroy_grace: Duration::from_secs(24 * 3600),
                clock_settle: Duration::ZERO,
                gc_grace: Duration::from_secs(24 * 3600),
                gc_interval: Duration::from_secs(3600),
                sweep_interval: Duration::from_secs(30),
                scrub: crate::scrub::ScrubSettings::default(),
                answer_within: Duration::from_secs(60),
            },
        }
    }

    /// Starts volumed and runs `body` beside its driver. Returns the body's value, or how the driver ended before it.
    pub(crate) async fn run_with<T>(
        &self,
        probe: Arc<dyn Probe>,
        body: impl AsyncFnOnce(Service) -> T,
    ) -> Result<T, DriveError> {
        let metrics = Metrics::new(daemon::metrics::Metrics::new());
        let (service, driver) = Service::new(self.context().await, probe, Backoff::default(), metrics);
        tokio::select! {
            biased;
            ended = driver.run(std::future::pending()) => Err(ended.unwrap_err()),
            value = body(service) => Ok(value),
        }
    }

    /// Starts volumed without crashes and runs `body`.
    pub(crate) async fn run<T>(&self, body: impl AsyncFnOnce(Service) -> T) -> T {
        self.run_with(Arc::new(NoProbe), body).await.unwrap()
    }
}

/// A request for an unencrypted volume of 1 GB, in whatever zone.
pub(crate) fn request(name: &str) -> CreateRequest {
    CreateRequest {
        app: Some("shop".to_owned()),
        name: Some(name.to_owned()),
        size_gb: Some(1.into()),
        encrypted: Some(false),
        require_unique_zone: Some(false),
        ..CreateRequest::default()
    }
}

/// Waits until no operation is running.
pub(crate) async fn settled(service: &Service) {
    while !service.running().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes `bytes` at `offset` of a volume's plaintext, as its guest would.
pub(crate) async fn write(service: &Service, volume: &Volume, offset: u64, bytes: &[u8]) {
    let sink = sink(service, volume).await;
    sink.write_at(offset, bytes.to_vec().into()).await.unwrap();
    sink.sync().await.unwrap();
}

/// Reads `len` bytes at `offset` of a volume's plaintext.
pub(crate) async fn read(service: &Service, volume: &Volume, offset: u64, len: usize) -> Vec<u8> {
    let ctx = service.context();
    let slice = slice(service, volume).await;
    let source = ctx
        .pools
        .get(&volume.pool)
        .unwrap()
        .open_source(&slice)
        .await
        .unwrap();
    source.read_at(offset, len).await.unwrap().to_vec()
}

async fn slice(service: &Service, volume: &Volume) -> crate::pool::Slice {
    let device = service.context().device(volume).await.unwrap();
    crate::pool::Slice {
        id: SliceId::Volume(volume.id.clone()),
        size_bytes: volume.size.bytes(),
        layout: device.layout,
    }
}

async fn sink(service: &Service, volume: &Volume) -> Box<dyn crate::bulk::ImageSink> {
    let slice = slice(service, volume).await;
    service
        .context()
        .pools
        .get(&volume.pool)
        .unwrap()
        .open_sink(&slice)
        .await
        .unwrap()
}

/// Asserts that catalog, pool and object store agree: every record has its bytes, every byte its record.
pub(crate) async fn assert_agreement(service: &Service) {
    let ctx = service.context();
    assert_eq!(
        crate::ops::strays(ctx).await,
        Vec::new(),
        "slices without a record"
    );
    let (volumes, snapshots) = ctx
        .catalog
        .transact(|tx| Ok((tx.volumes()?, tx.snapshots()?)))
        .await
        .unwrap();
    let pool = ctx.pools.get("default").unwrap();
    let found: BTreeMap<SliceId, bool> = pool
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|f| (f.id, f.complete))
        .collect();
    for volume in &volumes {
        let complete = found.get(&SliceId::Volume(volume.id.clone())).copied();
        let expected = volume.exists().then_some(true);
        assert_eq!(
            complete, expected,
            "bytes of {} in state {:?}",
            volume.id, volume.state
        );
        if volume.exists() {
            assert_eq!(
                read(service, volume, volume.size.bytes() - 512, 512).await.len(),
                512
            );
        }
    }
    let listing = crate::backup::list(&ctx.backups()).await.unwrap();
    assert!(
        listing.unreadable.is_empty(),
        "damaged manifests: {:?}",
        listing.unreadable
    );
    let stored: Vec<String> = listing.heads.iter().map(|h| h.snapshot_id.clone()).collect();
    let created: Vec<&Snapshot> = snapshots
        .iter()
        .filter(|s| s.state == SnapshotState::Created)
        .collect();
    for snapshot in &created {
        assert!(
            stored.contains(&snapshot.id.to_string()),
            "{} has no manifest",
            snapshot.id
        );
        let newest = created
            .iter()
            .filter(|s| s.volume_id == snapshot.volume_id)
            .map(|s| s.created_at)
            .max();
        let may_stay = pool.capabilities().deltas && newest == Some(snapshot.created_at);
        assert!(
            snapshot.pool.is_none() || may_stay,
            "{} keeps its capture",
            snapshot.id
        );
    }
    assert_eq!(
        stored.len(),
        created.len(),
        "manifests without a record: {stored:?}"
    );
}
