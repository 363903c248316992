//! Blocks read from objects: fronts kept in memory, extents fetched together where they lie together, verified before anybody sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _};
use log_disk::{BLOCK_BYTES, Flaw, Layout, ObjectName, ObjectSeq, PREFIX_BYTES, Sealer};
use objstore::{GetError, Purpose};
use tokio::time::Instant;

use super::store::{Bucket, worth_another};

/// Extents whose places are kept in memory, over all objects.
const EXTENTS_MAX: usize = 256 << 10;
/// Requests of one reader under way at once.
const AT_ONCE: usize = 16;
/// What lies between two extents is fetched too when it is not longer: a request costs more.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Most bytes of one request.
const FETCH_BYTES_MAX: u64 = 4 << 20;
/// How long a guest's read is tried for.
const PATIENCE: Duration = Duration::from_secs(300);
/// From one try to the next.
const AGAIN: Duration = Duration::from_millis(500);

/// An object, and whose it is: the disk's own, or one's that it was forked from.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// Its name. No two objects of a disk and of those before it share one.
    pub(super) name: ObjectName,
    /// What opens it, and tells below which prefix it lies.
    pub(super) sealer: Arc<Sealer>,
}

/// Blocks of an object with data, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Which object.
    pub(super) object: Object,
    /// The first, counted among the object's blocks with data.
    pub(super) at: u32,
    /// How many.
    pub(super) blocks: u64,
}

/// Why blocks could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The store did not give them.
    #[error(transparent)]
    Store(#[from] GetError),
    /// There is no such object, though the map names it.
    #[error("object {seq} is missing")]
    Missing {
        /// Which.
        seq: ObjectSeq,
    },
    /// The object is not what was put.
    #[error("object {seq}: {flaw}")]
    Damaged {
        /// Which.
        seq: ObjectSeq,
        /// What is wrong with it.
        flaw: Flaw,
    },
}

/// Reads objects of one disk. Clones share the fronts.
#[derive(Clone)]
pub(super) struct Reader {
    bucket: Bucket,
    fronts: Arc<Mutex<Fronts>>,
}

#[derive(Default)]
struct Fronts {
    layouts: BTreeMap<ObjectName, (Arc<Layout>, u64)>,
    by_use: BTreeMap<u64, ObjectName>,
    extents: usize,
    clock: u64,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// An extent that some run wants.
#[derive(Debug)]
struct Wanted {
    object: Object,
    layout: Arc<Layout>,
    index: usize,
    /// Which run, and where in it the blocks go.
    run: usize,
    to: usize,
    /// Which of the extent's blocks.
    skip: usize,
    blocks: usize,
}

impl Reader {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            fronts: Arc::default(),
        }
    }

    /// Reads runs, and goes on trying for some minutes while the store does not answer.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) async fn read_patiently(
        &self,
        runs: &[Run],
        purpose: Purpose,
    ) -> Result<Vec<Bytes>, ReadError> {
        patiently(|| self.read(runs, purpose)).await
    }

    /// Reads runs; the answer has the blocks of each, in the same order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) async fn read(&self, runs: &[Run], purpose: Purpose) -> Result<Vec<Bytes>, ReadError> {
        let mut wanted = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let layout = self.front(&run.object, purpose).await?;
            self.extents_of(number, run, &layout, &mut wanted)?;
        }
        wanted.sort_by_key(|extent| (extent.object.name, extent.index));
        let groups = grouped(wanted);
        let fetched = stream::iter(groups.into_iter().map(|group| self.fetch(group, purpose)))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let mut whole: Vec<BytesMut> = runs
            .iter()
            .map(|run| BytesMut::zeroed(bytes_of(run.blocks)))
            .collect();
        for group in fetched {
            for (extent, plain) in group? {
                let from = extent.skip * BLOCK_BYTES;
                let len = extent.blocks * BLOCK_BYTES;
                whole[extent.run][extent.to..extent.to + len].copy_from_slice(&plain[from..from + len]);
            }
        }
        Ok(whole.into_iter().map(BytesMut::freeze).collect())
    }

    /// Notes which extents a run needs.
    fn extents_of(
        &self,
        number: usize,
        run: &Run,
        layout: &Arc<Layout>,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), ReadError> {
        let damaged = || ReadError::Damaged {
            seq: run.object.name.seq,
            flaw: Flaw::Fields,
        };
        let mut done = 0;
        while done < run.blocks {
            let at = u64::from(run.at) + done;
            let at = u32::try_from(at).map_err(|_| damaged())?;
            let (index, skip) = layout.find(at).ok_or_else(damaged)?;
            let blocks = (layout.extents[index].blocks - skip).min(run.blocks - done);
            wanted.push(Wanted {
                object: run.object.clone(),
                layout: Arc::clone(layout),
                index,
                run: number,
                to: bytes_of(done),
                skip: usize::try_from(skip).map_err(|_| damaged())?,
                blocks: usize::try_from(blocks).map_err(|_| damaged())?,
            });
            done += blocks;
        }
        Ok(())
    }

    /// Fetches extents that lie together, and opens each.
    async fn fetch(&self, group: Vec<Wanted>, purpose: Purpose) -> Result<Vec<(Wanted, Vec<u8>)>, ReadError> {
        let Some(range) = span(&group) else {
            return Ok(Vec::new());
        };
        let object = group[0].object.clone();
        let seq = object.name.seq;
        let damaged = |flaw| ReadError::Damaged { seq, flaw };
        let bytes = self.get(&object, range.clone(), purpose).await?;
        let bytes = bytes.ok_or(ReadError::Missing { seq })?;
        let mut opened = Vec::with_capacity(group.len());
        for extent in group {
            let stored = &extent.layout.extents[extent.index].stored;
            let place = usize::try_from(stored.start - range.start).unwrap_or(usize::MAX)
                ..usize::try_from(stored.end - range.start).unwrap_or(usize::MAX);
            let stored = bytes.get(place).ok_or_else(|| damaged(Flaw::Cut))?;
            let plain = extent
                .layout
                .open_extent(&extent.object.sealer, extent.index, stored);
            let plain = plain.map_err(damaged)?;
            opened.push((extent, plain));
        }
        Ok(opened)
    }

    /// Returns an object's front, and goes on trying for some minutes while the store does not answer.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) async fn front_patiently(
        &self,
        object: &Object,
        purpose: Purpose,
    ) -> Result<Arc<Layout>, ReadError> {
        patiently(|| self.front(object, purpose)).await
    }

    /// Returns bytes of an object, all of them, and goes on trying for some minutes while the store does not answer.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) async fn bytes_patiently(
        &self,
        object: &Object,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, ReadError> {
        patiently(|| self.bytes(object, range.clone(), purpose)).await
    }

    async fn bytes(&self, object: &Object, range: Range<u64>, purpose: Purpose) -> Result<Bytes, ReadError> {
        let (seq, flaw, len) = (object.name.seq, Flaw::Cut, range.end - range.start);
        let got = self.get(object, range, purpose).await?;
        let bytes = got.ok_or(ReadError::Missing { seq })?;
        if bytes.len() as u64 == len {
            Ok(bytes)
        } else {
            Err(ReadError::Damaged { seq, flaw })
        }
    }

    /// Returns an object's front.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) async fn front(&self, object: &Object, purpose: Purpose) -> Result<Arc<Layout>, ReadError> {
        let name = object.name;
        if let Some(layout) = self.known(name) {
            return Ok(layout);
        }
        let damaged = |flaw| ReadError::Damaged { seq: name.seq, flaw };
        let missing = || ReadError::Missing { seq: name.seq };
        let first = self.get(object, 0..PREFIX_BYTES, purpose).await?;
        let mut front = first.ok_or_else(missing)?;
        let bytes = Layout::front_bytes(&front).map_err(damaged)?;
        if bytes > front.len() as u64 {
            let whole = self.get(object, 0..bytes, purpose).await?;
            front = whole.ok_or_else(missing)?;
        }
        let layout = Layout::open(&object.sealer, &front).map_err(damaged)?;
        if layout.header.seq != name.seq || layout.header.epoch != name.epoch {
            return Err(damaged(Flaw::Elsewhere));
        }
        Ok(self.remember(name, layout))
    }

    async fn get(
        &self,
        object: &Object,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Option<Bytes>, GetError> {
        let home = self.bucket.of(object.sealer.disk());
        home.get(object.name, range, purpose).await
    }

    /// Returns an object's front, if it is in memory.
    pub(super) fn known(&self, name: ObjectName) -> Option<Arc<Layout>> {
        let mut fronts = self.fronts.lock().unwrap_or_else(PoisonError::into_inner);
        fronts.clock += 1;
        let clock = fronts.clock;
        let (layout, used) = fronts.layouts.get_mut(&name)?;
        let (layout, before) = (Arc::clone(layout), std::mem::replace(used, clock));
        fronts.by_use.remove(&before);
        fronts.by_use.insert(clock, name);
        Some(layout)
    }

    /// Keeps an object's front: of one that was fetched, or has just been made.
    pub(super) fn remember(&self, name: ObjectName, layout: Layout) -> Arc<Layout> {
        let layout = Arc::new(layout);
        let mut fronts = self.fronts.lock().unwrap_or_else(PoisonError::into_inner);
        fronts.clock += 1;
        let clock = fronts.clock;
        fronts.extents += layout.extents.len();
        if let Some((old, used)) = fronts.layouts.insert(name, (Arc::clone(&layout), clock)) {
            fronts.extents -= old.extents.len();
            fronts.by_use.remove(&used);
        }
        fronts.by_use.insert(clock, name);
        while fronts.extents > EXTENTS_MAX
            && fronts.layouts.len() > 1
            && let Some((_, oldest)) = fronts.by_use.pop_first()
            && let Some((old, _)) = fronts.layouts.remove(&oldest)
        {
            fronts.extents -= old.extents.len();
        }
        layout
    }
}

/// Asks again while the store does not answer, for as long as a guest's read is tried for.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, ReadError>
where
    F: Future<Output = Result<T, ReadError>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(ReadError::Store(error)) if worth_another(&error) && Instant::now() < until => {
                tokio::time::sleep(AGAIN).await;
            }
            ended => return ended,
        }
    }
}

fn bytes_of(blocks: u64) -> usize {
    usize::try_from(blocks)
        .unwrap_or(usize::MAX)
        .saturating_mul(BLOCK_BYTES)
}

/// The bytes of the object that a group spans.
fn span(group: &[Wanted]) -> Option<Range<u64>> {
    let stored = |extent: &Wanted| extent.layout.extents[extent.index].stored.clone();
    let (first, last) = (group.first()?, group.last()?);
    Some(stored(first).start..stored(last).end)
}

/// Cuts extents, which ascend by object and place, into groups that are worth one request each.
fn grouped(wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut groups: Vec<Vec<Wanted>> = Vec::new();
    for extent in wanted {
        let stored = extent.layout.extents[extent.index].stored.clone();
        let joins = groups.last().is_some_and(|group| {
            let near = |range: Range<u64>| {
                stored.start <= range.end + GAP_BYTES_MAX && stored.end - range.start <= FETCH_BYTES_MAX
            };
            group
                .last()
                .is_some_and(|last| last.object.name == extent.object.name)
                && span(group).is_some_and(near)
        });
        match groups.last_mut() {
            Some(group) if joins => group.push(extent),
            Some(_) | None => groups.push(vec![extent]),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
