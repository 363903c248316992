#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use log_disk::Pin;
use objstore::{MemoryStore, Purpose};

use super::*;
use crate::keys::DataKey;
use crate::random::OsRandom;

const TEST: Purpose = Purpose("test");

struct Bench {
    store: Arc<MemoryStore>,
    family: Family,
}

impl Bench {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let family = Family::new(
            Arc::clone(&store) as Arc<dyn ObjectStore>,
            ClusterKey::generate(&OsRandom),
        );
        Self { store, family }
    }

    async fn put(&self, key: String, body: impl Into<Bytes>) {
        let put = self.store.put_if_absent(&checked(key), body.into(), TEST).await;
        put.unwrap();
    }

    /// A disk with nothing in it.
    async fn disk(&self, id: &str) -> Keyed {
        let volume = VolumeId::parse(id).unwrap();
        let key = DataKey::generate(&OsRandom);
        let keyed = Keyed {
            wrapped_key: self.family.cluster_key.wrap(volume.as_str(), &key, &OsRandom),
            volume,
        };
        let disk = disk_id(&keyed.volume);
        let head = Head::new(disk, 100, keyed.wrapped_key.to_bytes().to_vec());
        let sealer = self.family.sealer(&keyed).unwrap();
        self.put(log_disk::head_key(disk), head.encode(&sealer, Salt([1; 8])))
            .await;
        keyed
    }

    async fn keys(&self) -> Vec<String> {
        let page = self.store.list("disk/", None, 10_000, TEST).await.unwrap();
        let keys = page.entries.iter().map(|entry| entry.key.as_str().to_owned());
        keys.collect()
    }
}

#[tokio::test]
async fn everything_of_the_disk_goes_and_nothing_of_another() {
    let bench = Bench::new();
    let ours = bench.disk("vol_0123456789abcdef").await;
    let other = bench.disk("vol_0123456789abcdeg").await;
    let disk = disk_id(&ours.volume);
    for number in 0..2500 {
        bench
            .put(format!("disk/{disk}/d/{number:016x}-00000001"), "x")
            .await;
    }
    bench.put(format!("disk/{disk}/released-00000001"), "x").await;

    bench.family.erase(&ours.volume).await.unwrap();
    assert_eq!(bench.keys().await, [log_disk::head_key(disk_id(&other.volume))]);
    bench.family.erase(&ours.volume).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_somebody_was_forked_from_stays_said_to_be_deleted_until_that_one_is() {
    let bench = Bench::new();
    let ours = bench.disk("vol_0123456789abcdef").await;
    let disk = disk_id(&ours.volume);
    let pin = Pin {
        number: 1,
        fork: DiskId([7; 16]),
    };
    bench.put(pin.key(disk), "").await;
    bench.put(format!("disk/{disk}/released-00000001"), "x").await;

    bench.family.erase(&ours.volume).await.unwrap();
    let left = bench.keys().await;
    assert!(
        left.contains(&log_disk::head_key(disk)) && left.contains(&pin.key(disk)),
        "{left:?}"
    );
    let (_, head) = bench.family.head(disk).await.unwrap().unwrap();
    assert!(head.deleted);
    assert_eq!(bench.family.snapshots(&ours.volume).await.unwrap(), []);

    bench.store.delete(&checked(pin.key(disk)), TEST).await.unwrap();
    bench.family.erase(&ours.volume).await.unwrap();
    assert_eq!(bench.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_fork_of_what_is_not_there_is_refused_by_name_and_leaves_nothing() {
    let bench = Bench::new();
    let parent = bench.disk("vol_0123456789abcdef").await;
    let before = bench.keys().await;
    let fork = {
        let volume = VolumeId::parse("vol_0123456789abcdeg").unwrap();
        let key = DataKey::generate(&OsRandom);
        Keyed {
            wrapped_key: bench.family.cluster_key.wrap(volume.as_str(), &key, &OsRandom),
            volume,
        }
    };
    let refused = bench.family.fork(&parent, "vs_1", &fork).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no snapshot vs_1");
    let left: Vec<String> = bench.keys().await;
    let others: Vec<&String> = left.iter().filter(|key| !before.contains(key)).collect();
    // The name is given up for good: an earlier attempt's late request must not make the fork after all.
    assert_eq!(others, [&log_disk::head_key(disk_id(&fork.volume))]);
    bench.family.erase(&fork.volume).await.unwrap();
    assert_eq!(bench.keys().await, before);
}
