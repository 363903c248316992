//! What the tests of backups share: seeded randomness, images in memory, a volume's facts.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use objstore::{Key, MemoryStore, ObjectStore};

use super::manifest::ManifestHead;
use super::{Backups, Progress, SnapshotRef, Uploaded, upload};
use crate::backup::block::{BLOCK_BYTES, FRAME_BYTES};
use crate::bulk::{Content, ImageSink, ImageSource, Workers, is_zero};
use crate::keys::{ClusterKey, DataKey};
use crate::random::Random;

pub(super) const VOLUME: &str = "vol_1234abcd";

/// Splitmix64: the same bytes in every run.
#[derive(Debug)]
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for part in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            part.copy_from_slice(&mixed.to_le_bytes()[..part.len()]);
        }
    }
}

/// Bytes that no codec makes smaller.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Seeded::new(seed).fill(&mut bytes);
    bytes
}

/// A block that is cheap to store, different for every `seed`: text in its first frame, zeros elsewhere.
pub(super) fn small_block(seed: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    let text = format!("block {seed:08} ").repeat(FRAME_BYTES / 15);
    block[..text.len()].copy_from_slice(text.as_bytes());
    block
}

/// A sparse volume in memory.
#[derive(Debug)]
pub(super) struct Memory {
    size_bytes: u64,
    /// By block; `None` is undefined, as on an encrypted volume.
    blocks: Mutex<BTreeMap<usize, Option<Vec<u8>>>>,
    zeroed: Mutex<Vec<(u64, u64)>>,
    writes: Mutex<u64>,
}

impl Memory {
    pub(super) fn new(size_bytes: u64) -> Self {
        let (blocks, zeroed, writes) = Default::default();
        Self {
            size_bytes,
            blocks,
            zeroed,
            writes,
        }
    }

    pub(super) fn of_blocks(count: usize) -> Self {
        Self::new((count * BLOCK_BYTES) as u64)
    }

    pub(super) fn set(&self, number: usize, block: Vec<u8>) {
        assert_eq!(block.len(), BLOCK_BYTES);
        self.blocks.lock().unwrap().insert(number, Some(block));
    }

    pub(super) fn set_undefined(&self, number: usize) {
        self.blocks.lock().unwrap().insert(number, None);
    }

    pub(super) fn block(&self, number: usize) -> Vec<u8> {
        let blocks = self.blocks.lock().unwrap();
        blocks
            .get(&number)
            .cloned()
            .flatten()
            .unwrap_or_else(|| vec![0; BLOCK_BYTES])
    }

    pub(super) fn zeroed_bytes(&self) -> u64 {
        self.zeroed.lock().unwrap().iter().map(|(_, len)| len).sum()
    }

    pub(super) fn writes(&self) -> u64 {
        *self.writes.lock().unwrap()
    }

    pub(super) fn assert_equals(&self, other: &Self) {
        let count = self.size_bytes.min(other.size_bytes).div_ceil(BLOCK_BYTES as u64);
        for number in 0..usize::try_from(count).unwrap() {
            assert!(
                self.block(number) == other.block(number),
                "block {number} differs"
            );
        }
    }
}

#[async_trait]
impl ImageSource for Memory {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read_content(&self, offset: u64, len: usize) -> io::Result<Content> {
        let number = usize::try_from(offset).unwrap() / BLOCK_BYTES;
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64) && len <= BLOCK_BYTES);
        Ok(match self.blocks.lock().unwrap().get(&number) {
            None => Content::Zero,
            Some(None) => Content::Undefined,
            Some(Some(block)) => Content::Data(Bytes::copy_from_slice(&block[..len])),
        })
    }
}

#[async_trait]
impl ImageSink for Memory {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        assert!(
            offset + data.len() as u64 <= self.size_bytes,
            "write past the end"
        );
        assert!(!is_zero(&data), "zeros written where the target has them");
        let offset = usize::try_from(offset).unwrap();
        let mut blocks = self.blocks.lock().unwrap();
        let block = blocks
            .entry(offset / BLOCK_BYTES)
            .or_insert_with(|| Some(vec![0; BLOCK_BYTES]));
        let within = offset % BLOCK_BYTES;
        block.as_mut().unwrap()[within..within + data.len()].copy_from_slice(&data);
        *self.writes.lock().unwrap() += 1;
        Ok(())
    }

    async fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        assert!(offset + len <= self.size_bytes, "zeroes past the end");
        self.zeroed.lock().unwrap().push((offset, len));
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn cluster_key() -> ClusterKey {
    ClusterKey::from_bytes([7; 32])
}

pub(super) fn data_key() -> DataKey {
    DataKey::from_bytes([9; 32])
}

pub(super) fn backups_on(store: Arc<dyn ObjectStore>) -> Backups {
    Backups {
        concurrency: 3,
        ..Backups::new(store, cluster_key(), Workers::inline())
    }
}

pub(super) fn memory_backups() -> (MemoryStore, Backups) {
    let store = MemoryStore::new();
    (store.clone(), backups_on(Arc::new(store)))
}

pub(super) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(super) fn head_of(volume_id: &str, snapshot_id: &str, size_bytes: u64) -> ManifestHead {
    ManifestHead {
        snapshot_id: snapshot_id.to_owned(),
        volume_id: volume_id.to_owned(),
        app: "shop".to_owned(),
        volume_name: "data".to_owned(),
        region: "local".to_owned(),
        zone: Some("a1b2".to_owned()),
        size_bytes,
        fstype: Some("ext4".to_owned()),
        encrypted: true,
        formatted: true,
        generation: 3,
        created_at: time(0),
        retention_days: 5,
        auto_backup: true,
        atomic: true,
        parent: None,
        wrapped_key: cluster_key().wrap(volume_id, &data_key(), &Seeded::new(1)),
        stored_bytes: 0,
        data_blocks: 0,
        digest: String::new(),
    }
}

pub(super) fn snapshot(id: &str) -> SnapshotRef {
    SnapshotRef::new(VOLUME, id).unwrap()
}

/// Uploads `image` as snapshot `id` of [`VOLUME`].
pub(super) async fn put(backups: &Backups, id: &str, image: &Memory, base: Option<&str>) -> Uploaded {
    let head = head_of(VOLUME, id, image.size_bytes);
    upload(backups, head, image, base.map(Into::into), &Progress::default())
        .await
        .unwrap()
}

/// Every key in the store, ascending.
pub(super) async fn keys(store: &dyn ObjectStore, prefix: &str) -> Vec<Key> {
    let entries = super::fetch::list_all(store, prefix, super::GC).await.unwrap();
    entries.into_iter().map(|entry| entry.key).collect()
}

#[tokio::test]
async fn progress_ends_at_its_total() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(3);
    image.set(1, small_block(1));
    let progress = Progress::default();
    let head = head_of(VOLUME, "vs_1", image.size_bytes);
    let _uploaded = upload(&backups, head, &image, None, &progress).await.unwrap();
    assert_eq!(progress.done_bytes(), 3 * BLOCK_BYTES as u64);
    assert_eq!(progress.total_bytes(), 3 * BLOCK_BYTES as u64);
}
