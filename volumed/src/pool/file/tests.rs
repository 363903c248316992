use crashsafe::RealDisk;
use zeroize::Zeroizing;

use super::place::MARKER;
use super::*;
use crate::testing::CountingRandom;
use crate::volume::{SnapshotId, VolumeId};

const SIZE: u64 = 8 << 20;

struct Setup {
    _dir: tempfile::TempDir,
    pool: FilePool,
}

async fn setup(allocation: Allocation) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let images = Images::new(Arc::clone(&disk), None, Workers::inline());
    let config = FilePoolConfig {
        name: "p".into(),
        path: dir.path().join("pool"),
        allocation,
        capacity: Capacity {
            reserve_bytes: 0,
            overcommit_ratio: 1.0,
        },
        pressure: PressureRules::default(),
    };
    let random: Arc<dyn Random> = Arc::new(CountingRandom::default());
    let pool = FilePool::open(config, disk, images, Workers::inline(), random)
        .await
        .unwrap();
    Setup { _dir: dir, pool }
}

fn volume(n: u8) -> SliceId {
    SliceId::Volume(VolumeId::parse(&format!("vol_{n:016}")).unwrap())
}

fn capture(n: u8) -> SliceId {
    SliceId::Capture(SnapshotId::parse(&format!("vs_{n:020}")).unwrap())
}

fn raw(id: SliceId, size_bytes: u64) -> Slice {
    Slice {
        id,
        size_bytes,
        layout: Layout::Raw,
    }
}

fn luks(id: SliceId, size_bytes: u64, passphrase: &str) -> Slice {
    Slice {
        id,
        size_bytes,
        layout: Layout::Luks {
            passphrase: Zeroizing::new(passphrase.into()),
        },
    }
}

async fn write(pool: &FilePool, slice: &Slice, offset: u64, byte: u8) {
    let sink = pool.open_sink(slice).await.unwrap();
    sink.write_at(offset, vec![byte; 4096].into()).await.unwrap();
    sink.sync().await.unwrap();
}

async fn read(pool: &FilePool, slice: &Slice, offset: u64, len: usize) -> Vec<u8> {
    pool.open_source(slice)
        .await
        .unwrap()
        .read_at(offset, len)
        .await
        .unwrap()
        .to_vec()
}

#[tokio::test]
async fn a_new_slice_reads_zero_at_both_ends_encrypted_or_not() {
    let s = setup(Allocation::Sparse).await;
    for slice in [raw(volume(1), SIZE), luks(volume(2), SIZE, "secret")] {
        s.pool.create(&slice).await.unwrap();
        let source = s.pool.open_source(&slice).await.unwrap();
        for offset in [0, SIZE - EDGE_BYTES] {
            let content = source.read_content(offset, 1 << 20).await.unwrap();
            assert_ne!(
                content,
                crate::bulk::Content::Undefined,
                "defined zeros at {offset}"
            );
            assert_eq!(source.read_at(offset, 1 << 20).await.unwrap(), vec![0; 1 << 20]);
        }
    }
}

#[tokio::test]
async fn creating_again_keeps_what_was_written_and_refuses_another_size() {
    let s = setup(Allocation::Sparse).await;
    let slice = raw(volume(1), SIZE);
    s.pool.create(&slice).await.unwrap();
    write(&s.pool, &slice, 4096, 9).await;
    s.pool.create(&slice).await.unwrap();
    assert_eq!(read(&s.pool, &slice, 4096, 4096).await, vec![9; 4096]);
    let other = s.pool.create(&raw(volume(1), 2 * SIZE)).await;
    assert!(matches!(other, Err(PoolError::WrongSize { .. })));
}

#[tokio::test]
async fn an_unfinished_file_is_started_anew() {
    let s = setup(Allocation::Sparse).await;
    let slice = raw(volume(1), SIZE);
    let path = s.pool.copy_begin(&slice).await.unwrap();
    RealDisk
        .open("test", &path, OpenOptions::READ_WRITE)
        .unwrap()
        .write_at(&[5; 512], SIZE / 2)
        .unwrap();
    assert!(!s.pool.exists(&slice.id).await.unwrap());
    s.pool.create(&slice).await.unwrap();
    assert_eq!(read(&s.pool, &slice, SIZE / 2, 512).await, vec![0; 512]);
    assert_eq!(s.pool.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn growing_keeps_the_bytes_is_idempotent_and_never_shrinks() {
    let s = setup(Allocation::Preallocated).await;
    let slice = luks(volume(1), SIZE, "secret");
    s.pool.create(&slice).await.unwrap();
    write(&s.pool, &slice, 4096, 9).await;
    let larger = Slice {
        size_bytes: 2 * SIZE,
        ..slice.clone()
    };
    for _ in 0..2 {
        s.pool.grow(&larger, SIZE, ZeroEnd::Always).await.unwrap();
    }
    assert_eq!(read(&s.pool, &larger, 4096, 4096).await, vec![9; 4096]);
    let end = 2 * SIZE - EDGE_BYTES;
    assert_eq!(read(&s.pool, &larger, end, 1 << 20).await, vec![0; 1 << 20]);
    let smaller = s.pool.grow(&slice, SIZE, ZeroEnd::Never).await;
    assert!(matches!(smaller, Err(PoolError::WrongSize { .. })));
    let gone = s.pool.grow(&raw(volume(9), SIZE), SIZE, ZeroEnd::Never).await;
    assert!(matches!(gone, Err(PoolError::Missing { .. })));
}

#[tokio::test]
async fn an_end_that_a_guest_may_have_seen_is_not_zeroed() {
    let s = setup(Allocation::Sparse).await;
    let slice = luks(volume(1), SIZE, "secret");
    s.pool.create(&slice).await.unwrap();
    let larger = Slice {
        size_bytes: 2 * SIZE,
        ..slice
    };
    s.pool.grow(&larger, SIZE, ZeroEnd::IfGrownNow).await.unwrap();
    write(&s.pool, &larger, 2 * SIZE - 4096, 7).await;
    s.pool.grow(&larger, SIZE, ZeroEnd::IfGrownNow).await.unwrap();
    assert_eq!(read(&s.pool, &larger, 2 * SIZE - 4096, 4096).await, vec![7; 4096]);
}

#[tokio::test]
async fn a_copy_is_independent_of_its_source() {
    let s = setup(Allocation::Sparse).await;
    let source = raw(volume(1), SIZE);
    let target = raw(capture(1), SIZE);
    s.pool.create(&source).await.unwrap();
    write(&s.pool, &source, 8192, 1).await;
    s.pool.copy(&source, &target).await.unwrap();
    write(&s.pool, &source, 8192, 2).await;
    assert_eq!(read(&s.pool, &target, 8192, 4096).await, vec![1; 4096]);
    // Again, after a crash that lost the record: the first point in time stays.
    s.pool.copy(&source, &target).await.unwrap();
    assert_eq!(read(&s.pool, &target, 8192, 4096).await, vec![1; 4096]);
}

#[tokio::test]
async fn a_copy_under_another_key_opens_with_that_key_only() {
    let s = setup(Allocation::Sparse).await;
    let source = luks(volume(1), SIZE, "old");
    s.pool.create(&source).await.unwrap();
    write(&s.pool, &source, 8192, 3).await;
    let target = luks(volume(2), SIZE, "new");
    s.pool.copy(&source, &target).await.unwrap();
    assert_eq!(read(&s.pool, &target, 8192, 4096).await, vec![3; 4096]);
    assert!(s.pool.open_source(&luks(volume(2), SIZE, "old")).await.is_err());
    assert_eq!(read(&s.pool, &source, 8192, 4096).await, vec![3; 4096]);
}

#[tokio::test]
async fn deleting_removes_finished_and_unfinished_files_and_is_idempotent() {
    let s = setup(Allocation::Sparse).await;
    s.pool.create(&raw(volume(1), SIZE)).await.unwrap();
    s.pool.copy_begin(&raw(volume(2), SIZE)).await.unwrap();
    for _ in 0..2 {
        s.pool.delete(&volume(1)).await.unwrap();
        s.pool.delete(&volume(2)).await.unwrap();
    }
    assert_eq!(s.pool.list().await.unwrap(), []);
}

#[tokio::test]
async fn files_of_others_are_not_ours() {
    let s = setup(Allocation::Sparse).await;
    let stranger = s.pool.config.path.join("notes.img");
    RealDisk.open("test", &stranger, OpenOptions::CREATE).unwrap();
    assert_eq!(s.pool.list().await.unwrap(), []);
}

#[tokio::test]
async fn usage_counts_what_slices_take() {
    let s = setup(Allocation::Preallocated).await;
    let before = s.pool.usage().await.unwrap();
    assert_eq!(before.allocated_bytes, 0);
    s.pool.create(&raw(volume(1), SIZE)).await.unwrap();
    let after = s.pool.usage().await.unwrap();
    assert!(after.allocated_bytes >= SIZE);
    assert!(after.total_bytes >= after.free_bytes);
}

#[test]
fn room_is_what_is_ours_and_free_less_the_reserve() {
    let usage = PoolUsage {
        total_bytes: 1000,
        free_bytes: 300,
        allocated_bytes: 200,
    };
    let rules = |reserve_bytes, overcommit_ratio| Capacity {
        reserve_bytes,
        overcommit_ratio,
    };
    assert_eq!(rules(0, 1.0).promisable_bytes(&usage), 500);
    assert_eq!(rules(100, 1.0).promisable_bytes(&usage), 400);
    assert_eq!(rules(100, 2.5).promisable_bytes(&usage), 1000);
    assert_eq!(rules(900, 1.0).promisable_bytes(&usage), 0);
}

struct Places {
    dir: tempfile::TempDir,
}

impl Places {
    fn folder(&self) -> PathBuf {
        self.dir.path().join("pool")
    }

    fn pool(&self, name: &str, known: Known) -> FilePool {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let images = Images::new(Arc::clone(&disk), None, Workers::inline());
        let config = FilePoolConfig {
            name: name.into(),
            path: self.folder(),
            allocation: Allocation::Sparse,
            capacity: Capacity {
                reserve_bytes: 0,
                overcommit_ratio: 1.0,
            },
            pressure: PressureRules::default(),
        };
        let random: Arc<dyn Random> = Arc::new(CountingRandom::default());
        FilePool::closed(config, known, disk, images, Workers::inline(), random)
    }

    /// What is left of the folder while its disk is not mounted.
    fn unmount(&self) {
        let disk = self.dir.path().join("disk");
        RealDisk.rename("test", &self.folder(), &disk).unwrap();
        std::fs::create_dir(self.folder()).unwrap();
    }

    fn mount(&self) {
        std::fs::remove_dir(self.folder()).unwrap();
        let disk = self.dir.path().join("disk");
        RealDisk.rename("test", &disk, &self.folder()).unwrap();
    }
}

fn known(id: Option<String>) -> Known {
    Known {
        id,
        has_volumes: false,
    }
}

#[tokio::test]
async fn a_folder_without_its_disk_takes_nothing_and_opens_by_itself_when_the_disk_is_back() {
    let places = Places {
        dir: tempfile::tempdir().unwrap(),
    };
    let pool = places.pool("p", Known::default());
    pool.try_open().await.unwrap();
    let slice = raw(volume(1), SIZE);
    pool.create(&slice).await.unwrap();

    // Under a pool that runs: the very next request notices.
    places.unmount();
    let refused = pool.create(&raw(volume(2), SIZE)).await;
    assert!(matches!(refused, Err(PoolError::Closed { .. })), "{refused:?}");
    assert!(!pool.is_open());
    let fault = pool.reading().await.unwrap().fault.unwrap();
    assert_eq!(fault.state, "missing");
    for gone in [pool.list().await.err(), pool.delete(&volume(1)).await.err()] {
        assert!(matches!(gone, Some(PoolError::Closed { .. })), "{gone:?}");
    }

    // And at the next start.
    let again = places.pool("p", known(pool.place()));
    let why = again.try_open().await.unwrap_err().to_string();
    assert!(why.contains("mount its disk") && why.contains(MARKER), "{why}");
    assert_eq!(std::fs::read_dir(places.folder()).unwrap().count(), 0);
    places.mount();
    let now = tokio::time::Instant::now().into_std();
    for pool in [&pool, &again] {
        assert!(pool.tend(now).await.is_empty());
        assert!(pool.is_open());
        assert!(pool.exists(&volume(1)).await.unwrap());
    }
    assert_eq!(again.place(), pool.place());
}

#[tokio::test]
async fn a_folder_of_another_pool_or_of_another_node_is_not_used() {
    let places = Places {
        dir: tempfile::tempdir().unwrap(),
    };
    let pool = places.pool("p", Known::default());
    pool.try_open().await.unwrap();
    for (other, what) in [
        (places.pool("q", Known::default()), "folder of pool p"),
        (places.pool("p", known(Some("other".into()))), "another node"),
    ] {
        let why = other.try_open().await.unwrap_err().to_string();
        assert!(why.contains(what), "{why}");
        assert_eq!(other.reading().await.unwrap().fault.unwrap().state, "missing");
    }
    // A catalog that was lost finds its pool again.
    places.pool("p", Known::default()).try_open().await.unwrap();
}

#[tokio::test]
async fn a_folder_from_before_there_were_markers_is_marked_when_it_has_slices() {
    let places = Places {
        dir: tempfile::tempdir().unwrap(),
    };
    let pool = places.pool("p", Known::default());
    pool.try_open().await.unwrap();
    pool.create(&raw(volume(1), SIZE)).await.unwrap();
    std::fs::remove_file(places.folder().join(MARKER)).unwrap();
    let unmarked = Known {
        id: None,
        has_volumes: true,
    };
    places.unmount();
    let why = places.pool("p", unmarked.clone()).try_open().await.unwrap_err();
    assert!(why.to_string().contains("none of its volumes"), "{why}");
    places.mount();
    places.pool("p", unmarked.clone()).try_open().await.unwrap();
    assert!(places.folder().join(MARKER).exists());

    // Its disk is lost for good, and somebody says so as the sentence tells.
    std::fs::remove_dir_all(places.folder()).unwrap();
    std::fs::create_dir(places.folder()).unwrap();
    let pool = places.pool("p", unmarked);
    let why = pool.try_open().await.unwrap_err().to_string();
    let command = why.split('`').nth(1).unwrap();
    let done = std::process::Command::new("sh").args(["-c", command]).status();
    assert!(done.unwrap().success(), "{command}");
    pool.try_open().await.unwrap();
}

#[tokio::test]
async fn what_is_neither_a_slice_nor_the_pools_own_is_named() {
    let s = setup(Allocation::Sparse).await;
    s.pool.create(&raw(volume(1), SIZE)).await.unwrap();
    let folder = s._dir.path().join("pool");
    for name in ["notes.txt", "v-notours.img"] {
        std::fs::File::create_new(folder.join(name)).unwrap();
    }
    let mut foreign = s.pool.foreign().await.unwrap();
    foreign.sort();
    assert_eq!(foreign, ["notes.txt", "v-notours.img"]);
}
