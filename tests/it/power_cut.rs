//! Power cuts: everything volumed writes goes through a recorder, which is cut after 500 of its events, at each of them as
//! the disk may then be; a new volumed starts on what is left and must find everything that was acknowledged.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use crashsafe::{Disk, RealDisk, Recorder};
use daemon::wall_clock::ManualClock;
use objstore::{
    DeleteError, ETag, GetError, Key, ListError, MemoryStore, Object, ObjectStore, Page, Purpose, PutError,
};
use operation::{Backoff, NoProbe};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use volumed::bulk::{ImageSink as _, ImageSource as _, Images, Workers};
use volumed::catalog::{Catalog, CommitHook};
use volumed::keys::ClusterKey;
use volumed::metrics::Metrics;
use volumed::ops::{Context, KeyRing, Locks, Pools, Settings};
use volumed::pool::file::{Allocation, FilePool, FilePoolConfig};
use volumed::pool::{Capacity, Pool, SliceId};
use volumed::random::Random;
use volumed::service::{CreateRequest, Service};
use volumed::volume::{SizeGb, SnapshotId, Volume, VolumeId};

const CUTS: usize = 500;
const PURPOSE: Purpose = Purpose("test");

#[derive(Debug)]
struct Seeded(Mutex<ChaCha8Rng>);

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(out);
    }
}

/// A bucket that remembers what it held after which event of the disk.
#[derive(Debug)]
struct Remembering {
    store: MemoryStore,
    recorder: Arc<Recorder<RealDisk>>,
    changes: Mutex<Vec<(usize, Key, Option<Bytes>)>>,
}

impl Remembering {
    fn remember(&self, key: &Key, body: Option<Bytes>) {
        let at = self.recorder.events().len();
        self.changes.lock().unwrap().push((at, key.clone(), body));
    }

    /// Returns the bucket as it was after that many events.
    async fn at(&self, events: usize) -> MemoryStore {
        let store = MemoryStore::new();
        let changes = self.changes.lock().unwrap().clone();
        for (_, key, body) in changes.into_iter().filter(|(at, ..)| *at <= events) {
            match (body, store.get(&key, None, PURPOSE).await) {
                (None, _) => store.delete(&key, PURPOSE).await.unwrap(),
                (Some(body), Ok(old)) => {
                    drop(store.put_if_match(&key, &old.etag, body, PURPOSE).await.unwrap())
                }
                (Some(body), Err(_)) => drop(store.put_if_absent(&key, body, PURPOSE).await.unwrap()),
            }
        }
        store
    }
}

#[async_trait]
impl ObjectStore for Remembering {
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError> {
        let etag = self.store.put_if_absent(key, body.clone(), purpose).await?;
        self.remember(key, Some(body));
        Ok(etag)
    }
    async fn put_if_match(
        &self,
        key: &Key,
        expected: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        let etag = self
            .store
            .put_if_match(key, expected, body.clone(), purpose)
            .await?;
        self.remember(key, Some(body));
        Ok(etag)
    }
    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError> {
        self.store.get(key, range, purpose).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError> {
        self.store.list(prefix, after, limit, purpose).await
    }
    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError> {
        self.store.delete(key, purpose).await?;
        self.remember(key, None);
        Ok(())
    }
}

/// What a volumed is started with.
struct Host {
    disk: Arc<dyn Disk>,
    root: std::path::PathBuf,
    store: Arc<dyn ObjectStore>,
    catalog: Option<Vec<u8>>,
    hook: Option<CommitHook>,
    clock: Arc<ManualClock>,
    seed: u64,
}

impl Host {
    async fn run<T>(self, body: impl AsyncFnOnce(Service) -> T) -> T {
        let metrics = Metrics::new(daemon::metrics::Metrics::new());
        let (service, driver) = Service::new(
            self.context().await,
            Arc::new(NoProbe),
            Backoff::default(),
            metrics,
        );
        tokio::select! {
            ended = driver.run(std::future::pending()) => panic!("the driver ended: {ended:?}"),
            value = body(service) => value,
        }
    }

    async fn context(self) -> Context {
        let workers = Workers::inline();
        let images = Images::new(Arc::clone(&self.disk), None, workers.clone());
        let random: Arc<dyn Random> = Arc::new(Seeded(Mutex::new(ChaCha8Rng::seed_from_u64(self.seed))));
        let config = FilePoolConfig {
            name: "default".to_owned(),
            path: self.root.join("pool"),
            allocation: Allocation::Sparse,
            capacity: Capacity {
                reserve_bytes: 0,
                overcommit_ratio: 100.0,
            },
            pressure: volumed::pool::PressureRules::default(),
        };
        let pool = FilePool::open(
            config,
            Arc::clone(&self.disk),
            images,
            workers.clone(),
            Arc::clone(&random),
        );
        let pools: Vec<Arc<dyn Pool>> = vec![Arc::new(pool.await.unwrap())];
        let day = Duration::from_secs(86_400);
        Context {
            catalog: Catalog::in_memory(self.catalog.as_deref(), self.hook).unwrap(),
            pools: Pools::new(pools),
            disk: self.disk,
            store: self.store,
            keys: KeyRing::new(ClusterKey::from_bytes([7; 32]), self.root.join("cluster.key")),
            clock: self.clock,
            random,
            workers,
            runner: None,
            host: None,
            locks: Locks::default(),
            settings: Settings {
                region: "loc".to_owned(),
                zones: vec!["0a01".to_owned(), "0a02".to_owned()],
                size_max: SizeGb::new(500).unwrap(),
                snapshot_interval: day,
                destroy_grace: day,
                clock_settle: Duration::ZERO,
                gc_grace: day,
                gc_interval: day,
                sweep_interval: day,
                scrub: volumed::scrub::ScrubSettings::default(),
                answer_within: Duration::from_secs(60),
            },
        }
    }
}

fn request(name: &str) -> CreateRequest {
    CreateRequest {
        app: Some("shop".to_owned()),
        name: Some(name.to_owned()),
        require_unique_zone: Some(false),
        ..CreateRequest::default()
    }
}

async fn settled(service: &Service) {
    while !service.running().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What was acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    volumes: Vec<Value>,
    snapshots: Vec<String>,
}

impl Acknowledged {
    fn volume(&mut self, volume: &Volume, stamps: &[(u64, u8)]) {
        let id = volume.id.to_string();
        self.volumes.retain(|v| v["id"] != id.as_str());
        let size_gb = volume.size.get();
        self.volumes
            .push(json!({ "id": id, "size_gb": size_gb, "stamps": stamps }));
    }

    fn mark(&self, recorder: &Recorder<RealDisk>) {
        let all = json!({ "volumes": self.volumes, "snapshots": self.snapshots });
        recorder.mark("acknowledged", all.to_string().into_bytes());
    }
}

async fn write(service: &Service, disk: &Arc<dyn Disk>, volume: &Volume, offset: u64, stamp: u8) {
    let device = service.context().device(volume).await.unwrap();
    let images = Images::new(Arc::clone(disk), None, Workers::inline());
    let image = images
        .open_sink(&device.path, volume.size.bytes(), &device.layout)
        .await
        .unwrap();
    image.write_at(offset, vec![stamp; 4096].into()).await.unwrap();
    image.sync().await.unwrap();
}

/// The life of a few volumes, each answer and each synced write acknowledged by a marker.
async fn life(service: Service, disk: Arc<dyn Disk>, recorder: &Recorder<RealDisk>, clock: &ManualClock) {
    let mut acked = Acknowledged::default();
    for (name, encrypted) in [("plain", false), ("secret", true)] {
        let small = CreateRequest {
            size_gb: Some(1.into()),
            encrypted: Some(encrypted),
            ..request(name)
        };
        let mut volume = service.create(small).await.unwrap();
        acked.volume(&volume, &[]);
        acked.mark(recorder);
        write(&service, &disk, &volume, 1 << 20, 1).await;
        let mut stamps = vec![(1 << 20, 1)];
        acked.volume(&volume, &stamps);
        acked.mark(recorder);
        let snapshot = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        acked.snapshots.push(snapshot.id.to_string());
        acked.mark(recorder);
        volume = service.extend(&volume.id, Some(&2.into())).await.unwrap();
        acked.volume(&volume, &stamps);
        acked.mark(recorder);
        write(&service, &disk, &volume, (2 << 30) - 8192, 2).await;
        stamps.push(((2 << 30) - 8192, 2));
        acked.volume(&volume, &stamps);
        acked.mark(recorder);
        let fork = CreateRequest {
            source_volume_id: Some(volume.id.to_string()),
            ..request("fork")
        };
        let fork = service.create(fork).await.unwrap();
        acked.volume(&fork, &stamps);
        acked.mark(recorder);
        let back = CreateRequest {
            snapshot_id: Some(snapshot.id.to_string()),
            ..request("back")
        };
        let back = service.create(back).await.unwrap();
        settled(&service).await;
        acked.volume(&service.volume(&back.id).await.unwrap(), &stamps[..1]);
        acked.mark(recorder);
        service.destroy(&volume.id).await.unwrap();
        service.recover(&volume.id).await.unwrap();
        // From here on the fork may go at any moment.
        acked.volumes.retain(|v| v["id"] != fork.id.as_str());
        acked.mark(recorder);
        service.destroy(&fork.id).await.unwrap();
        clock.advance(Duration::from_secs(25 * 3600));
        service.sweep_once().await;
        settled(&service).await;
    }
    // Some must go, too: a deleted snapshot is not missed.
    let gone = acked.snapshots.remove(0);
    acked.mark(recorder);
    service
        .delete_snapshot(&SnapshotId::parse(&gone).unwrap())
        .await
        .unwrap();
    settled(&service).await;
}

/// Everything acknowledged is there, and everything agrees.
async fn check(service: &Service, disk: &Arc<dyn Disk>, acked: &Value) {
    settled(service).await;
    let ctx = service.context();
    assert_eq!(
        volumed::ops::strays(ctx).await,
        Vec::new(),
        "slices without a record"
    );
    let found = ctx.pools.get("default").unwrap().list().await.unwrap();
    let found: BTreeSet<SliceId> = found.into_iter().filter(|f| f.complete).map(|f| f.id).collect();
    for volume in service.volumes(None, false).await.unwrap() {
        assert!(
            found.contains(&SliceId::Volume(volume.id.clone())),
            "{} has no slice",
            volume.id
        );
    }
    for acked in acked["volumes"].as_array().into_iter().flatten() {
        let id = VolumeId::parse(acked["id"].as_str().unwrap()).unwrap();
        let volume = service.volume(&id).await.unwrap();
        assert!(
            u64::from(volume.size.get()) >= acked["size_gb"].as_u64().unwrap(),
            "{id} is too small"
        );
        let device = ctx.device(&volume).await.unwrap();
        let images = Images::new(Arc::clone(disk), None, Workers::inline());
        let image = images
            .open_source(&device.path, volume.size.bytes(), &device.layout)
            .await
            .unwrap();
        for stamp in acked["stamps"].as_array().unwrap() {
            let (offset, byte) = (
                stamp[0].as_u64().unwrap(),
                u8::try_from(stamp[1].as_u64().unwrap()).unwrap(),
            );
            assert_eq!(
                image.read_at(offset, 4096).await.unwrap(),
                vec![byte; 4096],
                "{id} at {offset}"
            );
        }
    }
    service.adopt(Duration::from_secs(60)).await.unwrap();
    let kept: BTreeSet<String> = service
        .snapshots(None)
        .await
        .unwrap()
        .iter()
        .map(|s| s.id.to_string())
        .collect();
    for id in acked["snapshots"].as_array().into_iter().flatten() {
        let id = id.as_str().unwrap();
        assert!(kept.contains(id), "snapshot {id} is lost");
        let report = service.verify(&SnapshotId::parse(id).unwrap()).await.unwrap();
        assert!(report.is_whole(), "{id}: {:?}", report.damages);
    }
    let stored = volumed::backup::list(&ctx.backups()).await.unwrap();
    let stored: BTreeSet<String> = stored.heads.into_iter().map(|h| h.snapshot_id).collect();
    assert_eq!(kept, stored, "catalog and bucket disagree");
}

#[tokio::test(start_paused = true)]
async fn five_hundred_power_cuts_lose_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::new(RealDisk, dir.path()).unwrap());
    let disk: Arc<dyn Disk> = Arc::clone(&recorder) as _;
    let store = Arc::new(Remembering {
        store: MemoryStore::new(),
        recorder: Arc::clone(&recorder),
        changes: Mutex::default(),
    });
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let marks = Arc::clone(&recorder);
    let hook: CommitHook = Arc::new(move |image: &[u8]| marks.mark("catalog", image));
    let host = Host {
        disk: Arc::clone(&disk),
        root: dir.path().to_owned(),
        store: Arc::clone(&store) as _,
        catalog: None,
        hook: Some(hook),
        clock: Arc::clone(&clock),
        seed: 1,
    };
    host.run(async |service| life(service, disk, &recorder, &clock).await)
        .await;

    let log = recorder.log();
    let mut rng = ChaCha8Rng::seed_from_u64(500);
    let mut cuts: Vec<usize> = (0..CUTS).map(|_| rng.random_range(0..=log.len())).collect();
    cuts.sort_unstable();
    for (number, events) in cuts.into_iter().enumerate() {
        let cut = log.cut(events, &mut rng);
        let left: Arc<dyn Disk> = Arc::new(sim::SimDisk::new(
            64 << 30,
            sim::Rng::new(number as u64),
            sim::Trace::new(),
        ));
        let root = Path::new("/left");
        left.create_dir_all("test:root", root).unwrap();
        cut.write(&*left, root).unwrap();
        let acked = cut
            .last_marker("acknowledged")
            .map_or(Value::Null, |m| serde_json::from_slice(m).unwrap());
        let host = Host {
            disk: Arc::clone(&left),
            root: root.to_owned(),
            store: Arc::new(store.at(events).await),
            catalog: cut.last_marker("catalog").map(<[u8]>::to_vec),
            hook: None,
            clock: Arc::clone(&clock),
            seed: 1000 + number as u64,
        };
        println!("cut {number} after event {events} of {}", log.len());
        host.run(async |service| check(&service, &left, &acked).await)
            .await;
    }
}
