//! The slice and the bucket, as the driver uses them: dull, and trying again until there is an answer.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crashsafe::{Disk as _, DiskFile, OpenOptions};
use log_disk::{
    DiskId, Etag, GotHead, HeadPut, LINE_BYTES, Layout, ObjectName, PAGE_BYTES, PREFIX_BYTES, Pin,
    PutOutcome, Role, SUPERBLOCK_PAGES, Sealer, Superblock, head_key,
};
use objstore::{ETag, GetError, Key, ObjectStore, Purpose, PutError};
use rand::RngExt as _;
use sim::{Rng, SimDisk, SimStore};

use crate::faults::{Faults, Spoil};

pub(crate) const PURPOSE: Purpose = Purpose("disk");
/// Where the slice is.
pub(crate) const SLICE: &str = "/slice";
/// How often something is read that does not open.
pub(crate) const READS: u32 = 4;
/// Slots of the read cache: few, so that they are used again and again.
pub(crate) const CACHE_SLOTS: u32 = 4;
const SLOT_PAGES: u64 = LINE_BYTES / PAGE_BYTES as u64;
/// How long to wait before a store is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The slice that holds the journal.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    file: Arc<dyn DiskFile>,
    ring_pages: u64,
    faults: Faults,
}

impl Slice {
    /// Opens the slice, making it when there is none.
    pub(crate) fn open(disk: &SimDisk, ring_pages: u64, faults: Faults) -> Self {
        let pages = SUPERBLOCK_PAGES + ring_pages + u64::from(CACHE_SLOTS) * SLOT_PAGES;
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
            faults,
        }
    }

    fn read(&self, page: u64, pages: u64) -> Option<Vec<u8>> {
        // A read that failed is tried again.
        (0..READS).find_map(|_| self.read_once(page, pages))
    }

    fn read_once(&self, page: u64, pages: u64) -> Option<Vec<u8>> {
        if self.faults.read_fails() {
            return None;
        }
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

    fn write(&self, page: u64, bytes: &[u8]) -> bool {
        if self.faults.write_fails() {
            return false;
        }
        let journal = page < SUPERBLOCK_PAGES + self.ring_pages;
        match self.faults.spoils(journal && !bytes.is_empty()) {
            None => self.put(page, bytes),
            Some(Spoil::Lose) => true,
            Some(Spoil::Flip) => {
                let mut spoiled = bytes.to_vec();
                self.faults.flip(&mut spoiled);
                self.put(page, &spoiled)
            }
            Some(Spoil::Misdirect) => {
                let pages = (bytes.len() / PAGE_BYTES) as u64;
                let region = if journal {
                    SUPERBLOCK_PAGES..SUPERBLOCK_PAGES + self.ring_pages
                } else {
                    self.slot_page(0)..self.slot_page(CACHE_SLOTS)
                };
                let room = (region.end - region.start).saturating_sub(pages) + 1;
                self.put(region.start + self.faults.below(room), bytes)
            }
        }
    }

    fn put(&self, page: u64, bytes: &[u8]) -> bool {
        self.file.write_at(bytes, page * PAGE_BYTES as u64).is_ok()
    }

    pub(crate) fn write_ring(&self, position: u64, bytes: &[u8]) -> bool {
        self.write(SUPERBLOCK_PAGES + position % self.ring_pages, bytes)
    }

    /// Whether calls may fail although the power is on.
    pub(crate) fn is_faulty(&self) -> bool {
        self.faults.are_on() && self.file.len().is_ok()
    }

    /// The disk was opened: what was wrong with the slice before was found or does not matter.
    pub(crate) fn opened(&self) {
        self.faults.opened();
    }

    /// All of the journal that counts was read.
    pub(crate) fn taken_over(&self) {
        self.faults.mark();
    }

    pub(crate) fn sync(&self) -> bool {
        self.file.sync_data().is_ok()
    }

    pub(crate) fn write_superblock(&self, superblock: &Superblock) -> bool {
        (0..SUPERBLOCK_PAGES).all(|page| self.write(page, &superblock.encode()) && self.sync())
    }

    fn slot_page(&self, slot: u32) -> u64 {
        SUPERBLOCK_PAGES + self.ring_pages + u64::from(slot) * SLOT_PAGES
    }

    /// Writes a line into a slot of the read cache.
    pub(crate) fn write_slot(&self, slot: u32, line: &[u8]) -> bool {
        let mut pages = line.to_vec();
        pages.resize(line.len().next_multiple_of(PAGE_BYTES), 0);
        self.write(self.slot_page(slot), &pages)
    }

    pub(crate) fn read_slot(&self, slot: u32, from: u64, len: u64) -> Option<Vec<u8>> {
        let pages = (from + len).div_ceil(PAGE_BYTES as u64);
        let bytes = self.read(self.slot_page(slot), pages)?;
        let from = usize::try_from(from).ok()?;
        Some(bytes[from..from + usize::try_from(len).ok()?].to_vec())
    }
}

/// The bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) store: SimStore,
    pub(crate) disk: DiskId,
    pub(crate) faults: Faults,
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
                bytes: self.faults.on_the_wire(object.bytes),
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
                Ok(object) => return Some(self.faults.on_the_wire(object.bytes)),
                Err(GetError::NotFound { .. }) => return None,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    pub(crate) async fn layout(&self, sealer: &Sealer, name: ObjectName) -> Option<Layout> {
        for _ in 0..READS {
            let mut front = self.get(name, 0..PREFIX_BYTES).await?;
            match Layout::front_bytes(&front) {
                Ok(bytes) if bytes > 1 << 20 => continue,
                Ok(bytes) if bytes > front.len() as u64 => front = self.get(name, 0..bytes).await?,
                Ok(_) => {}
                Err(_) => continue,
            }
            if let Ok(layout) = Layout::open(sealer, &front) {
                return Some(layout);
            }
        }
        None
    }

    /// The same bucket, where another disk's objects are.
    pub(crate) fn of(&self, disk: DiskId) -> Self {
        Self { disk, ..self.clone() }
    }

    /// Puts something at a key until it is there, whoever put it.
    pub(crate) async fn put_pin(&self, pin: Pin) {
        let key = key(pin.key(self.disk));
        loop {
            match self.store.put_if_absent(&key, Bytes::new(), PURPOSE).await {
                Ok(_) | Err(PutError::Exists { .. }) => return,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    pub(crate) async fn delete_pin(&self, pin: Pin) {
        while self
            .store
            .delete(&key(pin.key(self.disk)), PURPOSE)
            .await
            .is_err()
        {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// All pins, when the store answers with one page of them.
    pub(crate) async fn pins(&self) -> Option<Vec<Pin>> {
        let prefix = Pin::prefix(self.disk);
        let page = self.store.list(&prefix, None, 1000, PURPOSE).await.ok()?;
        let rest = |key: &str| key.strip_prefix(&prefix).and_then(Pin::parse);
        let pins = page.entries.iter().filter_map(|entry| rest(entry.key.as_str()));
        (!page.more).then(|| pins.collect())
    }

    /// Makes a HEAD where there is none.
    pub(crate) async fn make_head(&self, body: Bytes) -> HeadPut {
        match self
            .store
            .put_if_absent(&key(head_key(self.disk)), body, PURPOSE)
            .await
        {
            Ok(etag) => HeadPut::Stored(Etag(etag.as_str().to_owned())),
            Err(PutError::Exists { .. }) => HeadPut::Stale,
            Err(_) => HeadPut::Unknown,
        }
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
