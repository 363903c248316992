//! The host: what survives a crash of volumed, and how to start it on that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use crashsafe::Disk;
use objstore::ObjectStore;
use operation::{Backoff, DriveError, Moment, Probe, Verdict};
use rand::{Rng as _, RngExt as _};
use sim::{Rng, SimDisk, SimStore, World};
use tokio::task::JoinHandle;
use volumed::bulk::{self, Images, Layout, Workers};
use volumed::catalog::Catalog;
use volumed::keys::ClusterKey;
use volumed::metrics::Metrics;
use volumed::ops::{Context, KeyRing, Locks, Ops, Pools, Settings};
use volumed::pool::file::{Allocation, FilePool, FilePoolConfig};
use volumed::pool::{Capacity, Pool};
use volumed::random::Random;
use volumed::runner_client::{CopyAnswer, CopyRequest, GrowAnswer, GrowRequest, MachineRunner, RunnerError};
use volumed::service::Service;
use volumed::volume::SizeGb;

pub(super) const POOL: &str = "/pool";
const DISK_BYTES: u64 = 64 << 30;

/// Locks a mutex that no panic leaves in a bad state.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Randomness for volumed, from the seed.
#[derive(Debug)]
struct SimRandom(Mutex<Rng>);

impl Random for SimRandom {
    fn fill(&self, out: &mut [u8]) {
        lock(&self.0).fill_bytes(out);
    }
}

/// Drops the driver after a number of probes; the crash at any step.
#[derive(Debug, Default)]
pub(super) struct Fuse(AtomicU32);

impl Fuse {
    /// Blows after `probes` more probes; 0 for never.
    pub(super) fn set(&self, probes: u32) {
        self.0.store(probes, Ordering::SeqCst);
    }
}

impl Probe for Fuse {
    fn at(&self, _kind: &str, _step: &str, _moment: Moment) -> Verdict {
        match self.0.load(Ordering::SeqCst) {
            0 => Verdict::Continue,
            1 => {
                self.0.store(0, Ordering::SeqCst);
                Verdict::Drop
            }
            left => {
                self.0.store(left - 1, Ordering::SeqCst);
                Verdict::Continue
            }
        }
    }
}

/// machine-runner and all its guests.
#[derive(Debug)]
pub(super) struct Runner {
    disk: SimDisk,
    rng: Mutex<Rng>,
    /// Nothing goes wrong any more.
    pub(super) calm: AtomicBool,
}

impl Runner {
    async fn weather(&self) -> Result<(), RunnerError> {
        let (wait, down) = {
            let mut rng = lock(&self.rng);
            (rng.random_range(0..2_000), rng.random_bool(0.15))
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if down && !self.calm.load(Ordering::SeqCst) {
            return Err(RunnerError::Unreachable("simulated".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl MachineRunner for Runner {
    async fn grow(&self, _volume_id: &str, request: &GrowRequest) -> Result<GrowAnswer, RunnerError> {
        self.weather().await?;
        Ok(GrowAnswer {
            fs_bytes: Some(request.size_bytes),
            needs_restart: false,
            detached_guest: false,
        })
    }

    async fn copy(&self, volume_id: &str, request: &CopyRequest) -> Result<CopyAnswer, RunnerError> {
        self.weather().await?;
        if lock(&self.rng).random_bool(0.2) {
            return Ok(CopyAnswer { detached_guest: true });
        }
        let path = Path::new(POOL).join(format!("v-{volume_id}.img"));
        let copied = async {
            let images = images(&self.disk);
            let bytes = self.disk.stat(&path)?.map_or(0, |s| s.len);
            let open = |e: bulk::ImageError| std::io::Error::other(e);
            let from = images
                .open_source(&path, bytes, &Layout::Raw)
                .await
                .map_err(open)?;
            let to = images
                .open_sink(&request.target_path, bytes, &Layout::Raw)
                .await
                .map_err(open)?;
            bulk::copy(&from, &to).await
        };
        match copied.await {
            Ok(_) => Ok(CopyAnswer::default()),
            Err(error) => Err(RunnerError::Unreachable(Box::new(error))),
        }
    }
}

/// Opens images straight on the simulated disk.
pub(super) fn images(disk: &SimDisk) -> Images {
    Images::new(Arc::new(disk.clone()), None, Workers::inline())
}

/// The host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) world: World,
    pub(super) disk: SimDisk,
    pub(super) store: SimStore,
    pub(super) runner: Arc<Runner>,
    pub(super) fuse: Arc<Fuse>,
    random: Arc<SimRandom>,
    key: ClusterKey,
    catalog: Arc<Mutex<Option<Vec<u8>>>>,
    boots: u32,
}

/// A running volumed.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) service: Service,
    alive: Arc<AtomicBool>,
    /// None once it has ended.
    driver: Option<JoinHandle<Result<(), DriveError>>>,
}

impl Running {
    /// Waits until the driver ends by itself: a crash at a step.
    pub(super) async fn crashed(&mut self) -> String {
        let Some(driver) = &mut self.driver else {
            return "ended before".to_owned();
        };
        let ended = driver.await;
        self.driver = None;
        match ended {
            Ok(Err(DriveError::Dropped)) => "dropped".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

impl Host {
    pub(super) fn new(world: World) -> Self {
        let mut rng = world.rng("host");
        let disk = world.disk("host", DISK_BYTES);
        let disk = if rng.random_bool(0.5) {
            disk.without_reflink()
        } else {
            disk
        };
        let random = Arc::new(SimRandom(Mutex::new(world.rng("volumed"))));
        let runner = Runner {
            disk: disk.clone(),
            rng: Mutex::new(world.rng("runner")),
            calm: AtomicBool::new(false),
        };
        Self {
            store: world.store(),
            disk,
            runner: Arc::new(runner),
            fuse: Arc::default(),
            key: ClusterKey::generate(&*random),
            random,
            catalog: Arc::default(),
            boots: 0,
            world,
        }
    }

    /// Starts volumed on what the last one left.
    pub(super) async fn start(&mut self) -> Result<Running, String> {
        self.boots += 1;
        let alive = Arc::new(AtomicBool::new(true));
        let context = self.context(&alive).await?;
        let metrics = Metrics::new(daemon::metrics::Metrics::new());
        let probe: Arc<dyn Probe> = Arc::clone(&self.fuse) as _;
        let (service, driver) = Service::new(context, probe, Backoff::default(), metrics);
        let driver: operation::Driver<Ops> = driver;
        let driver = daemon::spawn("driver", driver.run(std::future::pending()));
        Ok(Running {
            service,
            alive,
            driver: Some(driver),
        })
    }

    /// Kills volumed: nothing of it runs or commits any more. The power stays on.
    pub(super) async fn kill(&self, running: Running) {
        running.alive.store(false, Ordering::SeqCst);
        self.fuse.set(0);
        if let Some(driver) = running.driver {
            driver.abort();
            let _ = driver.await;
        }
        drop(running.service);
        // Dropped tasks go when the scheduler comes to them.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    async fn context(&self, alive: &Arc<AtomicBool>) -> Result<Context, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let random: Arc<dyn Random> = Arc::clone(&self.random) as _;
        let config = FilePoolConfig {
            name: "default".to_owned(),
            path: POOL.into(),
            allocation: Allocation::Sparse,
            capacity: Capacity {
                reserve_bytes: 0,
                overcommit_ratio: 1.0,
            },
            pressure: volumed::pool::PressureRules::default(),
        };
        let pool = FilePool::open(
            config,
            Arc::clone(&disk),
            images(&self.disk),
            Workers::inline(),
            Arc::clone(&random),
        );
        let pools: Vec<Arc<dyn Pool>> = vec![Arc::new(pool.await.map_err(|e| format!("open pool: {e:?}"))?)];
        let image = lock(&self.catalog).clone();
        let client = self.store.client(&format!("boot {}", self.boots));
        let (kept, alive, power, wire) = (
            Arc::clone(&self.catalog),
            Arc::clone(alive),
            self.disk.clone(),
            client.clone(),
        );
        // SQLite with synchronous=FULL: a commit that returned is durable, one after the crash never was. Nor does a
        // program without power talk to the bucket about what it could not commit.
        let hook = Arc::new(move |image: &[u8]| {
            if !power.is_powered() {
                wire.set_connected(false);
            } else if alive.load(Ordering::SeqCst) {
                *lock(&kept) = Some(image.to_vec());
            }
        });
        let store: Arc<dyn ObjectStore> = Arc::new(client);
        Ok(Context {
            catalog: Catalog::in_memory(image.as_deref(), Some(hook))
                .map_err(|e| format!("open catalog: {e}"))?,
            pools: Pools::new(pools),
            disk,
            store,
            keys: KeyRing::new(self.key.clone(), "/cluster.key".into()),
            clock: self.world.clock(),
            random,
            workers: Workers::inline(),
            runner: Some(Arc::clone(&self.runner) as _),
            host: None,
            locks: Locks::default(),
            settings: settings(),
        })
    }
}

fn settings() -> Settings {
    let day = Duration::from_secs(24 * 3600);
    Settings {
        region: "loc".to_owned(),
        zones: ["0a01", "0a02", "0a03"].map(str::to_owned).to_vec(),
        size_max: SizeGb::holding(500 << 30),
        snapshot_interval: day,
        destroy_grace: day,
        clock_settle: super::actions::CLOCK_SETTLE,
        gc_grace: day,
        gc_interval: day,
        sweep_interval: Duration::from_secs(30),
        scrub: volumed::scrub::ScrubSettings::default(),
        answer_within: Duration::from_secs(60),
    }
}

/// The blocks that guests write: both ends, both sides of a backup block's edge, and some in between. Byte offsets.
pub(super) const SPOTS: [u64; 8] = [
    0,
    4096,
    (4 << 20) - 4096,
    4 << 20,
    37 << 20,
    512 << 20,
    (1 << 30) - 8192,
    (1 << 30) - 4096,
];
/// Bytes of a block.
pub(super) const BLOCK: usize = 4096;

/// What the spots of a volume hold: the stamp of the newest write, absent where there was none.
pub(super) type Content = BTreeMap<usize, u64>;

/// Fills a block with its stamp.
pub(super) fn stamped(stamp: u64) -> Vec<u8> {
    stamp.to_le_bytes().repeat(BLOCK / 8)
}

/// Reads a block's stamp; none for zeros.
///
/// # Errors
/// When it is neither zeros nor one whole stamp.
pub(super) fn stamp_of(bytes: &[u8]) -> Result<Option<u64>, String> {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    let stamp = u64::from_le_bytes(word);
    if bytes != stamped(stamp) {
        return Err(format!(
            "a block is torn: it begins with stamp {stamp} and goes on otherwise"
        ));
    }
    Ok((stamp != 0).then_some(stamp))
}
