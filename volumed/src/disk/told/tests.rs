#![allow(clippy::unwrap_used)]

use crashsafe::RealDisk;
use jiff::Timestamp;
use objstore::MemoryStore;

use super::super::settings::{CompressionKind, DurabilityClass, OutageRule};
use super::*;
use crate::retention::Counts;
use crate::volume::{FsType, Origin, SizeGb};

const VOLUME: &str = "vol_0123456789abcdef";

fn facts(generation: u64) -> VolumeFacts {
    VolumeFacts {
        app: "shop".to_owned(),
        name: "data".to_owned(),
        size: SizeGb::new(1).unwrap(),
        region: "local".to_owned(),
        zone: "a1b2".to_owned(),
        fstype: FsType::Ext4,
        formatted: false,
        ever_attached: false,
        snapshot_retention: 5,
        snapshot_counts: Counts::default(),
        auto_backup_enabled: false,
        generation,
        origin: Origin::Empty,
        created_at: Timestamp::UNIX_EPOCH,
        snapshots: Vec::new(),
    }
}

fn serving() -> Serving {
    Serving {
        durability: DurabilityClass::Local,
        on_outage: OutageRule::Ride,
        lag_bytes_max: 1,
        lag_ms_max: 1,
        compression: CompressionKind::Lz4,
    }
}

/// A bucket, and a directory each for two hosts.
struct Place {
    store: Arc<dyn ObjectStore>,
    root: tempfile::TempDir,
    volume: VolumeId,
    key: DataKey,
}

impl Place {
    fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            root: tempfile::tempdir().unwrap(),
            volume: VolumeId::parse(VOLUME).unwrap(),
            key: DataKey::from_bytes([7; 32]),
        }
    }

    fn dir(&self, host: &str) -> DiskDir {
        let dir = DiskDir::new(&self.root.path().join(host), &self.volume);
        std::fs::create_dir_all(dir.path()).unwrap();
        dir
    }

    fn telling<'a>(&'a self, dir: &'a DiskDir) -> Telling<'a> {
        Telling {
            store: Arc::clone(&self.store),
            disk: &RealDisk,
            dir,
            volume: &self.volume,
            key: &self.key,
        }
    }

    async fn says(&self) -> u64 {
        let bucket = Bucket::new(Arc::clone(&self.store), disk_id(&self.volume));
        let (bytes, _) = bucket.about().await.unwrap().unwrap();
        let about = About::decode(&self.key, disk_id(&self.volume), &bytes).unwrap();
        about.volume.generation
    }
}

#[tokio::test]
async fn a_former_owner_is_not_heard_once_another_host_has_the_word() {
    let place = Place::new();
    let (first, second) = (place.dir("a"), place.dir("b"));
    let (a, b) = (place.telling(&first), place.telling(&second));
    assert_eq!(a.tell(facts(1), serving()).await.unwrap(), Heard::Yes);
    assert_eq!(b.tell(facts(9), serving()).await.unwrap(), Heard::NotOurs);
    assert_eq!(a.tell(facts(2), serving()).await.unwrap(), Heard::Yes);
    b.take_the_word().await.unwrap();
    assert_eq!(b.tell(facts(3), serving()).await.unwrap(), Heard::Yes);
    assert_eq!(a.tell(facts(4), serving()).await.unwrap(), Heard::NotOurs);
    assert_eq!(place.says().await, 3);
}

#[tokio::test]
async fn who_was_killed_between_a_put_and_its_note_is_still_heard() {
    let place = Place::new();
    let dir = place.dir("a");
    let telling = place.telling(&dir);
    telling.tell(facts(1), serving()).await.unwrap();
    let before = std::fs::read(dir.told()).unwrap();
    telling.tell(facts(2), serving()).await.unwrap();
    crashsafe::write_atomic(&RealDisk, "test:told", &dir.told(), &before, 0o600).unwrap();
    assert_eq!(telling.tell(facts(3), serving()).await.unwrap(), Heard::Yes);
    assert_eq!(place.says().await, 3);
}

#[tokio::test]
async fn what_was_deleted_with_the_disk_is_not_said_again() {
    let place = Place::new();
    let dir = place.dir("a");
    let telling = place.telling(&dir);
    telling.tell(facts(1), serving()).await.unwrap();
    let key = crate::disk::store::checked(format!("disk/{}/about", disk_id(&place.volume)));
    place.store.delete(&key, objstore::Purpose("test")).await.unwrap();
    assert_eq!(telling.tell(facts(2), serving()).await.unwrap(), Heard::NotOurs);
}
