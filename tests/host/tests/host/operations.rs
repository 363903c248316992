//! volumed's operations on real logical volumes: killed in each, then started again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::wall_clock::ManualClock;
use host_tests::{Body, Case, End, Guest};
use objstore::{MemoryStore, ObjectStore};
use operation::{Backoff, DriveError, Moment, NoProbe, Probe, Verdict};
use volumed::bulk::Workers;
use volumed::catalog::Catalog;
use volumed::keys::ClusterKey;
use volumed::metrics::Metrics;
use volumed::ops::{self, Context, KeyRing, Locks, Pools, Settings};
use volumed::pool::Pool as _;
use volumed::pool::lvm::LvmKind;
use volumed::random::OsRandom;
use volumed::service::{CreateRequest, Service};
use volumed::snapshot::{Snapshot, SnapshotState};
use volumed::volume::{SizeGb, Volume, VolumeState};

use super::pool::{linear, open, prepare, thin};

/// Kills volumed at the n-th probe of one kind of operation.
#[derive(Debug)]
struct CrashAt {
    kind: &'static str,
    left: AtomicU32,
}

impl Probe for CrashAt {
    fn at(&self, kind: &str, _step: &str, _moment: Moment) -> Verdict {
        if kind == self.kind && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Verdict::Drop;
        }
        Verdict::Continue
    }
}

/// What survives a crash of volumed.
pub(super) struct Host<'a> {
    guest: &'a Guest,
    pool: LvmKind,
    store: Arc<MemoryStore>,
    pub(super) clock: Arc<ManualClock>,
    key: ClusterKey,
    pub(super) catalog: Arc<Mutex<Option<Vec<u8>>>>,
}

impl<'a> Host<'a> {
    pub(super) fn new(guest: &'a Guest, pool: LvmKind) -> Self {
        Self {
            guest,
            pool,
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap())),
            key: ClusterKey::generate(&OsRandom),
            catalog: Arc::default(),
        }
    }

    /// Another host with the same bucket and key, and no catalog.
    pub(super) fn other(&self) -> Self {
        Self {
            guest: self.guest,
            pool: self.pool.clone(),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            key: self.key.clone(),
            catalog: Arc::default(),
        }
    }

    async fn context(&self) -> Context {
        let image = self.catalog.lock().unwrap().clone();
        let kept = Arc::clone(&self.catalog);
        let hook = Arc::new(move |image: &[u8]| *kept.lock().unwrap() = Some(image.to_vec()));
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Context {
            catalog: Catalog::in_memory(image.as_deref(), Some(hook)).unwrap(),
            pools: Pools::new(vec![Arc::new(open(self.guest, self.pool.clone()).await)]),
            disk: Arc::new(crashsafe::RealDisk),
            store: Arc::clone(&self.store) as Arc<dyn ObjectStore>,
            keys: KeyRing::new(self.key.clone(), self.guest.scratch().join("cluster.key")),
            clock: Arc::clone(&self.clock) as _,
            random: Arc::new(OsRandom),
            workers: Workers::inline(),
            runner: None,
            host: None,
            locks: Locks::default(),
            settings: Settings {
                region: "loc".to_owned(),
                zones: ["0a01".to_owned()].to_vec(),
                size_max: SizeGb::new(500).unwrap(),
                snapshot_interval: hours(24),
                destroy_grace: hours(24),
                clock_settle: Duration::ZERO,
                gc_grace: hours(24),
                gc_interval: hours(1),
                scrub: volumed::scrub::ScrubSettings::default(),
                sweep_interval: Duration::from_secs(30),
                answer_within: Duration::from_secs(60),
            },
        }
    }

    /// Starts volumed and runs `body`, or until it is killed.
    pub(super) async fn run<T>(
        &self,
        probe: Arc<dyn Probe>,
        body: impl AsyncFnOnce(Service) -> T,
    ) -> Result<T, DriveError> {
        let metrics = Metrics::new(daemon::metrics::Metrics::new());
        let context = self.context().await;
        ops::amend(&context).await.unwrap();
        let (service, driver) = Service::new(context, probe, Backoff::default(), metrics);
        tokio::select! {
            biased;
            ended = driver.run(std::future::pending()) => Err(ended.unwrap_err()),
            value = body(service) => Ok(value),
        }
    }
}

pub(super) async fn settled(service: &Service) {
    while !service.running().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One volume from its creation on, with what is made of it; volumed is killed in each operation.
struct Life<'a> {
    host: Host<'a>,
    encrypted: bool,
    /// Of the fork; of its source when absent.
    fork_gb: Option<u32>,
}

/// The operations in the order of a life, each with the probe where most is half done.
const LIFE: [(&str, u32); 9] = [
    (ops::CREATE, 1),
    (ops::SNAPSHOT, 1),
    (ops::RESTORE, 3),
    (ops::FORK, 3),
    (ops::DESTROY, 1),
    (ops::RECOVER, 1),
    (ops::PURGE, 3),
    (ops::EXTEND, 1),
    (ops::EXPIRE, 1),
];

impl Life<'_> {
    fn request(&self, name: &str) -> CreateRequest {
        CreateRequest {
            app: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            size_gb: Some(1.into()),
            encrypted: Some(self.encrypted),
            require_unique_zone: Some(false),
            auto_backup_enabled: Some(false),
            ..CreateRequest::default()
        }
    }

    /// Begins an operation; its end is not waited for.
    async fn act(&self, service: &Service, kind: &str) {
        match kind {
            ops::CREATE => drop(service.create(self.request("data")).await),
            ops::SNAPSHOT => drop(service.take_snapshot(&volume(service, "data").await.id).await),
            ops::RESTORE => {
                let mut back = self.request("back");
                (back.size_gb, back.snapshot_id) = (None, Some(snapshot(service).await.id.to_string()));
                drop(service.create(back).await);
            }
            ops::FORK => {
                let mut copy = self.request("copy");
                copy.size_gb = self.fork_gb.map(Into::into);
                copy.source_volume_id = Some(volume(service, "data").await.id.to_string());
                drop(service.create(copy).await);
            }
            ops::DESTROY => drop(service.destroy(&volume(service, "copy").await.id).await),
            ops::RECOVER => drop(service.recover(&volume(service, "copy").await.id).await),
            ops::PURGE => {
                service.destroy(&volume(service, "copy").await.id).await.unwrap();
                self.host.clock.advance(Duration::from_secs(25 * 3600));
                service.sweep_once().await;
            }
            ops::EXTEND => drop(
                service
                    .extend(&volume(service, "data").await.id, Some(&2.into()))
                    .await,
            ),
            ops::EXPIRE => drop(service.delete_snapshot(&snapshot(service).await.id).await),
            other => panic!("no life has a {other}"),
        }
    }

    /// What an operation has come to when all is quiet.
    async fn check(&self, service: &Service, kind: &str) {
        let ready = async |name: &str, gb: u32| {
            let volume = volume(service, name).await;
            assert_eq!(
                (volume.state, volume.size.get()),
                (VolumeState::Created, gb),
                "{name}"
            );
            volume
        };
        match kind {
            ops::CREATE => write_sevens(service, &ready("data", 1).await).await,
            ops::SNAPSHOT => {
                let taken = snapshot(service).await;
                assert_eq!(taken.state, SnapshotState::Created);
                assert!(service.verify(&taken.id).await.unwrap().is_whole());
            }
            ops::RESTORE => holds_sevens(service, &ready("back", 1).await).await,
            ops::FORK | ops::RECOVER => {
                holds_sevens(service, &ready("copy", self.fork_gb.unwrap_or(1)).await).await;
            }
            ops::DESTROY => {
                assert_eq!(volume(service, "copy").await.state, VolumeState::PendingDestroy);
            }
            ops::PURGE => {
                let left = service.volumes(None, false).await.unwrap();
                assert!(!left.iter().any(|v| v.name == "copy"), "{left:?}");
            }
            ops::EXTEND => holds_sevens(service, &ready("data", 2).await).await,
            ops::EXPIRE => {
                let data = volume(service, "data").await;
                assert_eq!(service.snapshots_of(&data.id).await.unwrap(), []);
            }
            other => panic!("no life has a {other}"),
        }
    }

    /// Kills volumed at a probe of an operation, and starts it again.
    async fn survive(&self, kind: &'static str, point: u32) {
        self.host.guest.note(&format!("{kind}, killed at probe {point}"));
        let left = AtomicU32::new(point);
        let killed = self.host.run(Arc::new(CrashAt { kind, left }), async |service| {
            self.act(&service, kind).await;
            settled(&service).await;
        });
        assert!(killed.await.is_err(), "{kind} has no probe {point}");
        let checked = self.host.run(Arc::new(NoProbe), async |service| {
            settled(&service).await;
            let (strays, lost) = (
                ops::strays(service.context()).await,
                ops::lost(service.context()).await,
            );
            assert_eq!((strays, lost), (vec![], vec![]), "after {kind}, probe {point}");
            self.check(&service, kind).await;
        });
        checked.await.unwrap();
    }

    async fn live(&self, point: impl Fn(&str, u32) -> u32) {
        for (kind, usual) in LIFE {
            self.survive(kind, point(kind, usual)).await;
        }
        let pool = open(self.host.guest, self.host.pool.clone()).await;
        for found in pool.list().await.unwrap() {
            pool.delete(&found.id).await.unwrap();
        }
    }
}

pub(super) async fn volume(service: &Service, name: &str) -> Volume {
    let all = service.volumes(None, false).await.unwrap();
    let found = all.into_iter().find(|v| v.name == name);
    found.unwrap_or_else(|| panic!("no volume is called {name}"))
}

async fn snapshot(service: &Service) -> Snapshot {
    let data = volume(service, "data").await;
    let mut all = service.snapshots_of(&data.id).await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// As its guest would: through the device that it is handed.
pub(super) async fn write_sevens(service: &Service, volume: &Volume) {
    let (volume, device) = service.attach(&volume.id, "m1").await.unwrap();
    let file = std::fs::File::options().write(true).open(&device.path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], 1 << 20).unwrap();
    drop(file);
    service.detach(&volume.id, "m1", volume.generation).await.unwrap();
}

pub(super) async fn holds_sevens(service: &Service, volume: &Volume) {
    let (volume, device) = service.attach(&volume.id, "m2").await.unwrap();
    let mut bytes = [0; 4096];
    let file = std::fs::File::open(&device.path).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 1 << 20).unwrap();
    assert!(bytes.iter().all(|b| *b == 7), "{}", device.path.display());
    drop(file);
    service.detach(&volume.id, "m2", volume.generation).await.unwrap();
}

/// Every operation once, killed at the usual probes; or each at the `n`-th of its own, beginning anew behind its last.
fn lives(guest: &Guest, pool: &LvmKind, encrypted: bool, fork_gb: Option<u32>, n: Option<u32>) {
    prepare(guest);
    guest.must("lvcreate -y -L 16M -n home $vg && dd if=/dev/urandom of=/dev/$vg/home bs=1M count=16");
    let foreign = "sha256sum /dev/$vg/home; lvs --noheadings -o lv_uuid,lv_tags,lv_size,lv_active $vg/home";
    let before = guest.must(foreign);
    let life = Life {
        host: Host::new(guest, pool.clone()),
        encrypted,
        fork_gb,
    };
    guest.block_on(life.live(|kind, usual| n.map_or(usual, |n| n % probes(kind))));
    assert_eq!(guest.must(foreign), before);
}

/// Before and behind each step of an operation.
fn probes(kind: &str) -> u32 {
    let (_, steps) = ops::KINDS.iter().find(|(name, _)| *name == kind).unwrap();
    2 * u32::try_from(steps.len()).unwrap()
}

/// Lives in which every operation is killed at every probe, encrypted or not.
pub(crate) fn points() -> [Case; 2] {
    let most = LIFE.map(|(kind, _)| probes(kind)).into_iter().max().unwrap();
    let case = |name, run: fn(&Guest)| Case {
        name,
        body: Body::Points {
            run,
            count: 2 * u64::from(most),
        },
        end: End::Passes,
    };
    [
        case(
            "operations::thin_volumes_converge_after_a_kill_at_each_probe",
            thin_volumes_converge_after_a_kill_at_each_probe,
        ),
        case(
            "operations::linear_volumes_converge_after_a_kill_at_each_probe",
            linear_volumes_converge_after_a_kill_at_each_probe,
        ),
    ]
}

fn at_point(guest: &Guest, pool: &LvmKind, fork_gb: Option<u32>) {
    let n = u32::try_from(guest.point() / 2).unwrap();
    lives(guest, pool, guest.point().is_multiple_of(2), fork_gb, Some(n));
}

fn thin_volumes_converge_after_a_kill_at_each_probe(guest: &Guest) {
    at_point(guest, &thin(1024), Some(2));
}

fn linear_volumes_converge_after_a_kill_at_each_probe(guest: &Guest) {
    at_point(guest, &linear(), None);
}

/// Encrypted.
pub(crate) fn every_operation_on_thin_volumes_converges_after_a_kill(guest: &Guest) {
    lives(guest, &thin(1024), true, Some(2), None);
}

/// Unencrypted.
pub(crate) fn every_operation_on_linear_volumes_converges_after_a_kill(guest: &Guest) {
    lives(guest, &linear(), false, None, None);
}
