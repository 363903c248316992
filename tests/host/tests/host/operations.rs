//! volumed's operations over a thin pool of encrypted volumes: killed in each, then started again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::wall_clock::ManualClock;
use host_tests::Guest;
use objstore::{MemoryStore, ObjectStore};
use operation::{Backoff, DriveError, Moment, NoProbe, Probe, Verdict};
use volumed::bulk::Workers;
use volumed::catalog::Catalog;
use volumed::keys::ClusterKey;
use volumed::metrics::Metrics;
use volumed::ops::{self, Context, KeyRing, Locks, Pools, Settings};
use volumed::random::OsRandom;
use volumed::service::{CreateRequest, Service};
use volumed::snapshot::SnapshotState;
use volumed::volume::{SizeGb, Volume, VolumeState};

use super::pool::{open, prepare, thin};

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
struct Host<'a> {
    guest: &'a Guest,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    key: ClusterKey,
    catalog: Arc<Mutex<Option<Vec<u8>>>>,
}

impl<'a> Host<'a> {
    fn new(guest: &'a Guest) -> Self {
        Self {
            guest,
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap())),
            key: ClusterKey::generate(&OsRandom),
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
            pools: Pools::new(vec![Arc::new(open(self.guest, thin(1024)).await)]),
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
    async fn run<T>(
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

    /// Runs `prepare` in peace, `act` with a kill at a probe of `kind`, and `check` when a new volumed has settled.
    async fn crash<P: Clone>(
        guest: &'a Guest,
        (kind, point): (&'static str, u32),
        prepare: impl AsyncFn(&Self, Service) -> P,
        act: impl AsyncFn(&Self, Service, P),
        check: impl AsyncFn(Service, P),
    ) {
        guest.note(&format!("{kind}, killed at probe {point}"));
        let host = Self::new(guest);
        let prepared = host
            .run(Arc::new(NoProbe), async |service| prepare(&host, service).await)
            .await;
        let prepared = prepared.unwrap();
        let left = AtomicU32::new(point);
        let killed = host
            .run(Arc::new(CrashAt { kind, left }), async |service| {
                act(&host, service.clone(), prepared.clone()).await;
                settled(&service).await;
            })
            .await;
        assert!(killed.is_err(), "{kind} has no probe {point}");
        let checked = host.run(Arc::new(NoProbe), async |service| {
            settled(&service).await;
            assert_eq!(
                ops::strays(service.context()).await,
                [],
                "{kind}: slices without a record"
            );
            assert_eq!(
                ops::lost(service.context()).await,
                [],
                "{kind}: records without a slice"
            );
            check(service.clone(), prepared.clone()).await;
            let pool = service.context().pools.get("p").unwrap();
            for found in pool.list().await.unwrap() {
                pool.delete(&found.id).await.unwrap();
            }
        });
        checked.await.unwrap();
    }
}

async fn settled(service: &Service) {
    while !service.running().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn request(name: &str) -> CreateRequest {
    CreateRequest {
        app: Some("shop".to_owned()),
        name: Some(name.to_owned()),
        size_gb: Some(1.into()),
        require_unique_zone: Some(false),
        ..CreateRequest::default()
    }
}

async fn written(service: &Service) -> Volume {
    // On a slow guest the answer comes before the volume is ready.
    let volume = service.create(request("data")).await.unwrap();
    settled(service).await;
    let (volume, device) = service.attach(&volume.id, "m1").await.unwrap();
    // As its guest would: through the device that it is handed.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::File::options().write(true).open(&device.path).unwrap(),
        &[7; 4096],
        1 << 20,
    )
    .unwrap();
    service.detach(&volume.id, "m1", volume.generation).await.unwrap()
}

async fn holds_sevens(service: &Service, volume: &Volume) {
    let (volume, device) = service.attach(&volume.id, "m2").await.unwrap();
    let mut bytes = [0; 4096];
    let file = std::fs::File::open(&device.path).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 1 << 20).unwrap();
    assert!(bytes.iter().all(|b| *b == 7), "{}", device.path.display());
    drop(file);
    service.detach(&volume.id, "m2", volume.generation).await.unwrap();
}

async fn other(service: &Service, than: &Volume) -> Volume {
    let all = service.volumes(None, false).await.unwrap();
    all.into_iter()
        .find(|v| v.id != than.id)
        .expect("the other volume")
}

/// One kill in each operation, where most is half done.
pub(crate) fn every_operation_converges_after_a_kill(guest: &Guest) {
    prepare(guest);
    guest.block_on(async {
        let made = async |_: &Host<'_>, service: Service| written(&service).await;
        Host::crash(
            guest,
            (ops::CREATE, 1),
            async |_, _| (),
            async |_, service, ()| drop(service.create(request("data")).await),
            async |service, ()| {
                let volumes = service.volumes(None, false).await.unwrap();
                assert_eq!((volumes.len(), volumes[0].state), (1, VolumeState::Created));
            },
        )
        .await;
        Host::crash(
            guest,
            (ops::EXTEND, 1),
            made,
            async |_, service, volume| drop(service.extend(&volume.id, Some(&2.into())).await),
            async |service, volume| {
                let now = service.volume(&volume.id).await.unwrap();
                assert_eq!((now.state, now.size.get()), (VolumeState::Created, 2));
                holds_sevens(&service, &now).await;
            },
        )
        .await;
        Host::crash(
            guest,
            (ops::SNAPSHOT, 1),
            made,
            async |_, service, volume| drop(service.take_snapshot(&volume.id).await),
            async |service, volume| {
                let snapshots = service.snapshots_of(&volume.id).await.unwrap();
                assert_eq!((snapshots.len(), snapshots[0].state), (1, SnapshotState::Created));
                assert!(service.verify(&snapshots[0].id).await.unwrap().is_whole());
                let mut restore = request("back");
                (restore.size_gb, restore.snapshot_id) = (None, Some(snapshots[0].id.to_string()));
                service.create(restore).await.unwrap();
                settled(&service).await;
                holds_sevens(&service, &other(&service, &volume).await).await;
            },
        )
        .await;
        Host::crash(
            guest,
            (ops::FORK, 3),
            made,
            async |_, service, volume| {
                let mut fork = request("copy");
                (fork.size_gb, fork.source_volume_id) = (Some(2.into()), Some(volume.id.to_string()));
                drop(service.create(fork).await);
            },
            async |service, volume| {
                let fork = other(&service, &volume).await;
                assert_eq!((fork.state, fork.size.get()), (VolumeState::Created, 2));
                holds_sevens(&service, &fork).await;
            },
        )
        .await;
        Host::crash(
            guest,
            (ops::PURGE, 3),
            async |host, service| {
                let volume = written(&service).await;
                service.take_snapshot(&volume.id).await.unwrap();
                settled(&service).await;
                service.destroy(&volume.id).await.unwrap();
                host.clock.advance(Duration::from_secs(25 * 3600));
                volume
            },
            async |_, service, _| service.sweep_once().await,
            async |service, volume| {
                assert_eq!(service.volume(&volume.id).await.unwrap_err().status, 404);
                assert!(
                    service
                        .context()
                        .pools
                        .get("p")
                        .unwrap()
                        .list()
                        .await
                        .unwrap()
                        .is_empty()
                );
            },
        )
        .await;
    });
}
