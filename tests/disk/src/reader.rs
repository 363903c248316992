//! Reads objects through the cache, as a driver does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use log_disk::{
    BLOCK_BYTES, CacheLimits, CacheStep, DiskId, FetchId, LINE_BYTES, Layout, Lba, ObjectName, ObjectSeq,
    ReadCache, Sealer, Wanted,
};
use sim::Rng;
use tokio::sync::oneshot;

use crate::io::{Bucket, CACHE_SLOTS, READS, Slice, spin};

/// Where an object is, and what opens it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: ObjectName,
    pub(crate) home: DiskId,
    pub(crate) sealer: Arc<Sealer>,
}

/// Bytes, or none when they could not be fetched.
type Outcome = Option<Bytes>;

/// A fetch under way, or in memory. Those who wait are told one after the other: a world must be the same each time.
#[derive(Debug, Default)]
struct InMemory {
    begin: u64,
    outcome: Option<Outcome>,
    waiting: Vec<oneshot::Sender<Outcome>>,
}

#[derive(Debug, Clone)]
struct Fetched(Arc<Mutex<InMemory>>);

impl Fetched {
    fn new(begin: u64) -> Self {
        Self(Arc::new(Mutex::new(InMemory {
            begin,
            ..InMemory::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, InMemory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, outcome: &Outcome) {
        let mut fetched = self.lock();
        fetched.outcome = Some(outcome.clone());
        for waiting in fetched.waiting.drain(..) {
            // Who gave up does not mind.
            let _nobody_waits = waiting.send(outcome.clone());
        }
    }

    async fn bytes(&self, part: &Range<u64>) -> Option<Vec<u8>> {
        let (begin, told) = {
            let mut fetched = self.lock();
            let (tell, told) = oneshot::channel();
            match fetched.outcome.clone() {
                Some(outcome) => {
                    // It cannot be refused: the receiver is here.
                    let _told = tell.send(outcome);
                }
                None => fetched.waiting.push(tell),
            }
            (fetched.begin, told)
        };
        told.await.ok().flatten().map(|bytes| cut(&bytes, begin, part))
    }
}

#[derive(Debug)]
struct State {
    cache: ReadCache,
    fetched: BTreeMap<FetchId, Fetched>,
}

/// A process's way to read objects; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    state: Arc<Mutex<State>>,
    slice: Slice,
    bucket: Bucket,
}

/// One step of a plan that has what it needs.
enum Part {
    Slot(u32, u64, u64),
    Fetch(Fetched, Range<u64>),
}

impl Reader {
    pub(crate) fn new(slice: Slice, bucket: Bucket) -> Self {
        let limits = CacheLimits {
            slots: CACHE_SLOTS,
            fetch_lines_max: 2,
            fetched_permille_max: 1 << 30,
        };
        let state = State {
            cache: ReadCache::new(limits),
            fetched: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            slice,
            bucket,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self, object: ObjectSeq) {
        self.lock().cache.forget(object);
    }

    /// The blocks `lba..lba + blocks`, which begin at block `at` of the object's.
    pub(crate) async fn blocks(
        &self,
        rng: &mut Rng,
        place: &Place,
        (lba, at, blocks): (Lba, u32, u64),
        why: Wanted,
    ) -> Option<Bytes> {
        let bucket = self.bucket.of(place.home);
        let layout = bucket.layout(&place.sealer, place.name).await?;
        let mut out = BytesMut::new();
        for read in layout.reads(lba, at, blocks).ok()? {
            let plain = self
                .extent(rng, place, &layout, (read.index, &read.stored), why)
                .await?;
            let from = usize::try_from(read.skip).ok()? * BLOCK_BYTES;
            let len = usize::try_from(read.blocks).ok()? * BLOCK_BYTES;
            out.extend_from_slice(&plain[from..from + len]);
        }
        Some(out.freeze())
    }

    /// Fetches blocks that will probably be wanted.
    pub(crate) async fn ahead(
        &self,
        rng: &mut Rng,
        place: &Place,
        (lba, at, blocks): (Lba, u32, u64),
    ) -> Option<()> {
        let layout = self
            .bucket
            .of(place.home)
            .layout(&place.sealer, place.name)
            .await?;
        for read in layout.reads(lba, at, blocks).ok()? {
            self.bytes(rng, place, layout.total_bytes, read.stored, Wanted::Ahead)
                .await;
        }
        Some(())
    }

    async fn extent(
        &self,
        rng: &mut Rng,
        place: &Place,
        layout: &Layout,
        (index, stored): (usize, &Range<u64>),
        why: Wanted,
    ) -> Option<Vec<u8>> {
        for _ in 0..READS {
            let bytes = self
                .bytes(rng, place, layout.total_bytes, stored.clone(), why)
                .await;
            if let Some(plain) = bytes.and_then(|bytes| layout.open_extent(&place.sealer, index, &bytes).ok())
            {
                return Some(plain);
            }
            self.lock().cache.distrust(place.name.seq, stored.clone());
        }
        None
    }

    async fn bytes(
        &self,
        rng: &mut Rng,
        place: &Place,
        object_bytes: u64,
        wanted: Range<u64>,
        why: Wanted,
    ) -> Option<Vec<u8>> {
        let (parts, fetches) = self.plan(place, object_bytes, wanted, why);
        for (fetch, tell) in fetches {
            let bytes = self
                .bucket
                .of(place.home)
                .get(place.name, fetch.bytes.clone())
                .await;
            let whole = bytes.filter(|bytes| bytes.len() as u64 == fetch.bytes.end - fetch.bytes.start);
            let fills = self.lock().cache.fetched(fetch.id, whole.is_some());
            if fills.is_empty() {
                self.lock().fetched.remove(&fetch.id);
            }
            tell.tell(&whole);
            for fill in fills {
                spin(rng, 3_000).await;
                let line = whole
                    .as_ref()
                    .map(|bytes| cut(bytes, fetch.bytes.start, &fill.bytes));
                let done = line.is_some_and(|line| self.slice.write_slot(fill.slot, &line));
                spin(rng, 500).await;
                let mut state = self.lock();
                if state.cache.filled(&fill, done) {
                    state.fetched.remove(&fetch.id);
                }
            }
        }
        let mut out = Some(Vec::new());
        for part in parts {
            let bytes = match part {
                Part::Slot(slot, from, len) => {
                    spin(rng, 300).await;
                    let bytes = self.slice.read_slot(slot, from, len);
                    self.lock().cache.read_done(slot);
                    bytes
                }
                Part::Fetch(fetched, bytes) => fetched.bytes(&bytes).await,
            };
            out = out.zip(bytes).map(|(mut out, bytes)| {
                out.extend_from_slice(&bytes);
                out
            });
        }
        out
    }

    #[allow(clippy::type_complexity, reason = "two lists, used at once")]
    fn plan(
        &self,
        place: &Place,
        object_bytes: u64,
        wanted: Range<u64>,
        why: Wanted,
    ) -> (Vec<Part>, Vec<(log_disk::Fetch, Fetched)>) {
        let mut state = self.lock();
        let plan = state.cache.plan(place.name.seq, object_bytes, wanted, why);
        let fetches = plan.fetches.into_iter().map(|fetch| {
            let fetched = Fetched::new(fetch.bytes.start);
            state.fetched.insert(fetch.id, fetched.clone());
            (fetch, fetched)
        });
        let fetches: Vec<_> = fetches.collect();
        let parts = plan.steps.into_iter().map(|step| match step {
            CacheStep::Slot { slot, from, bytes } => Part::Slot(slot, from, bytes.end - bytes.start),
            CacheStep::Fetch { fetch, bytes } => {
                let fetched = state.fetched.get(&fetch).expect("it is kept until the last fill");
                Part::Fetch(fetched.clone(), bytes)
            }
        });
        (parts.collect(), fetches)
    }
}

fn cut(bytes: &Bytes, begin: u64, part: &Range<u64>) -> Vec<u8> {
    let at = |byte: u64| usize::try_from(byte - begin).expect("within a fetch");
    debug_assert!(part.end - part.start <= LINE_BYTES);
    bytes[at(part.start)..at(part.end)].to_vec()
}
