//! The slice and the bucket, as the driver uses them: dull, and trying again until there is an answer.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crashsafe::{Disk as _, DiskFile, OpenOptions};
use log_disk::{
    DiskId, Etag, GotHead, HeadPut, Layout, ObjectName, PAGE_BYTES, PREFIX_BYTES, PutOutcome, Role,
    SUPERBLOCK_PAGES, Sealer, Superblock, head_key,
};
use objstore::{ETag, GetError, Key, ObjectStore, Purpose, PutError};
use rand::RngExt as _;
use sim::{Rng, SimDisk, SimStore};

pub(crate) const PURPOSE: Purpose = Purpose("disk");
/// Where the slice is.
pub(crate) const SLICE: &str = "/slice";
/// How long to wait before a store is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The slice that holds the journal.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    file: Arc<dyn DiskFile>,
    ring_pages: u64,
}

impl Slice {
    /// Opens the slice, making it when there is none.
    pub(crate) fn open(disk: &SimDisk, ring_pages: u64) -> Self {
        let pages = SUPERBLOCK_PAGES + ring_pages;
        let file = disk
            .open("slice", Path::new(SLICE), OpenOptions::CREATE)
            .expect("the power is on");
        if file.len().expect("the power is on") == 0 {
            file.set_len(pages * PAGE_BYTES as u64).expect("there is room");
            file.sync_all().expect("the power is on");
            disk.sync_dir("slice", Path::new("/")).expect("the power is on");
        }
        Self {
            file: Arc::from(file),
            ring_pages,
        }
    }

    fn read(&self, page: u64, pages: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(pages).ok()? * PAGE_BYTES];
        let read = self.file.read_at(&mut bytes, page * PAGE_BYTES as u64).ok()?;
        (read == bytes.len()).then_some(bytes)
    }

    pub(crate) fn superblocks(&self) -> Option<[Vec<u8>; 2]> {
        Some([self.read(0, 1)?, self.read(1, 1)?])
    }

    pub(crate) fn read_ring(&self, position: u64, pages: u64) -> Option<Vec<u8>> {
        self.read(SUPERBLOCK_PAGES + position % self.ring_pages, pages)
    }

    pub(crate) fn write_ring(&self, position: u64, bytes: &[u8]) -> bool {
        let page = SUPERBLOCK_PAGES + position % self.ring_pages;
        self.file.write_at(bytes, page * PAGE_BYTES as u64).is_ok()
    }

    pub(crate) fn sync(&self) -> bool {
        self.file.sync_data().is_ok()
    }

    pub(crate) fn write_superblock(&self, superblock: &Superblock) -> bool {
        let at = superblock.page() * PAGE_BYTES as u64;
        self.file.write_at(&superblock.encode(), at).is_ok() && self.sync()
    }
}

/// The bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) store: SimStore,
    pub(crate) disk: DiskId,
}

pub(crate) fn key(text: String) -> Key {
    Key::new(text).expect("our keys are keys")
}

impl Bucket {
    pub(crate) async fn put(&self, name: ObjectName, body: Bytes) -> PutOutcome {
        let key = key(name.key(self.disk));
        match self.store.put_if_absent(&key, body.clone(), PURPOSE).await {
            Ok(_) => PutOutcome::Stored,
            // An earlier attempt of ours may stand there.
            Err(PutError::Exists { .. }) => match self.store.get(&key, None, PURPOSE).await {
                Ok(object) if object.bytes == body => PutOutcome::Stored,
                Ok(_) => PutOutcome::Taken,
                Err(_) => PutOutcome::Unknown,
            },
            Err(_) => PutOutcome::Unknown,
        }
    }

    pub(crate) async fn get_head(&self) -> GotHead {
        match self.store.get(&key(head_key(self.disk)), None, PURPOSE).await {
            Ok(object) => GotHead::Found {
                bytes: object.bytes,
                etag: Etag(object.etag.as_str().to_owned()),
            },
            Err(GetError::NotFound { .. }) => GotHead::Missing,
            Err(_) => GotHead::Unknown,
        }
    }

    /// Replaces HEAD. Some clients send a request again that nobody answered, and meet what the first one did.
    pub(crate) async fn put_head(&self, expected: &Etag, body: Bytes, stubborn: bool) -> HeadPut {
        let expected = ETag::new(expected.0.clone());
        let head = key(head_key(self.disk));
        let mut put = self
            .store
            .put_if_match(&head, &expected, body.clone(), PURPOSE)
            .await;
        if stubborn && matches!(put, Err(PutError::Unavailable { .. })) {
            put = self.store.put_if_match(&head, &expected, body, PURPOSE).await;
        }
        match put {
            Ok(etag) => HeadPut::Stored(Etag(etag.as_str().to_owned())),
            Err(PutError::Stale { .. }) => HeadPut::Stale,
            Err(_) => HeadPut::Unknown,
        }
    }

    pub(crate) async fn delete(&self, name: ObjectName) -> bool {
        self.store
            .delete(&key(name.key(self.disk)), PURPOSE)
            .await
            .is_ok()
    }

    /// A part of an object, cut off at its end; `None` when there is no such object.
    pub(crate) async fn get(&self, name: ObjectName, range: Range<u64>) -> Option<Bytes> {
        loop {
            match self
                .store
                .get(&key(name.key(self.disk)), Some(range.clone()), PURPOSE)
                .await
            {
                Ok(object) => return Some(object.bytes),
                Err(GetError::NotFound { .. }) => return None,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    pub(crate) async fn layout(&self, sealer: &Sealer, name: ObjectName) -> Option<Layout> {
        let mut front = self.get(name, 0..PREFIX_BYTES).await?;
        let bytes = Layout::front_bytes(&front).ok()?;
        if bytes > front.len() as u64 {
            front = self.get(name, 0..bytes).await?;
        }
        Layout::open(sealer, &front).ok()
    }

    /// The names of all objects of a role.
    pub(crate) async fn list(&self, role: Role) -> Vec<ObjectName> {
        let prefix = ObjectName::prefix(self.disk, role);
        let mut names = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let Ok(page) = self.store.list(&prefix, after.as_deref(), 1000, PURPOSE).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            for entry in &page.entries {
                let rest = entry.key.as_str().strip_prefix(&prefix).unwrap_or_default();
                names.extend(ObjectName::parse(role, rest));
            }
            match page.entries.last() {
                Some(last) if page.more => after = Some(last.key.as_str().to_owned()),
                _ => return names,
            }
        }
    }
}

/// Takes as long as a disk does.
pub(crate) async fn spin(rng: &mut Rng, longest_us: u64) {
    let pause = rng.random_range(0..longest_us);
    tokio::time::sleep(Duration::from_micros(pause)).await;
}
