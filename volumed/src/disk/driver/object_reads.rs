//! Blocks of objects for guests: through the cache on the slice, and from the store.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use log_disk::{
    AheadLimits, CacheLimits, CacheStats, CacheStep, ExtentRead, Fetch, FetchId, Fill, LINE_BYTES, Layout,
    Lba, ObjectSeq, PAGE_BYTES, Plan, ReadAhead, ReadCache, ReadId, Source, Wanted,
};
use tracing::{error, warn};

use super::reads::bytes_of;
use super::{Driver, Event, Tag};
use crate::disk::objects::Object;
use crate::disk::store::{chain, purpose};
use crate::disk::sys::{Held, Pages};

/// How often bytes that do not open are fetched anew.
const TRIES_MAX: u32 = 3;
/// Bytes of a page, as offsets are counted.
const PAGE: u64 = PAGE_BYTES as u64;

/// A part of a guest's read that lies in an object.
#[derive(Clone, Debug)]
pub(in crate::disk) struct Part {
    pub(super) read: ReadId,
    /// Where in the answer it goes.
    pub(super) to: usize,
    pub(super) object: Object,
    pub(super) lba: Lba,
    pub(super) at: u32,
    pub(super) blocks: u64,
}

/// A part whose sealed bytes are being brought together.
#[derive(Debug)]
struct Gather {
    part: Part,
    layout: Arc<Layout>,
    extents: Vec<ExtentRead>,
    /// Which bytes of the object.
    range: Range<u64>,
    bytes: Vec<u8>,
    missing: usize,
    failed: bool,
    tries: u32,
}

/// A request to the store, until nobody needs its bytes.
#[derive(Debug)]
struct Fetched {
    from: u64,
    bytes: Option<Bytes>,
    /// Who waits for which bytes of the object.
    waiting: Vec<(u64, Range<u64>)>,
}

/// A slot that is being read for somebody.
#[derive(Debug)]
struct SlotRead {
    gather: u64,
    slot: u32,
    /// Bytes of the first page that come before those wanted.
    skip: usize,
    bytes: Range<u64>,
}

/// The cache and what is under way with it.
#[derive(Debug)]
pub(super) struct ObjectReads {
    cache: ReadCache,
    ahead: ReadAhead,
    /// Where the slots begin, in bytes.
    region: u64,
    gathers: HashMap<u64, Gather>,
    fetches: HashMap<FetchId, Fetched>,
    slot_reads: HashMap<u64, SlotRead>,
    fills: HashMap<u64, Fill>,
    next: u64,
}

impl ObjectReads {
    pub(super) fn new(region: u64, cache_bytes: u64) -> Self {
        let slots = u32::try_from(cache_bytes / LINE_BYTES).unwrap_or(u32::MAX);
        Self {
            cache: ReadCache::new(CacheLimits {
                slots,
                ..CacheLimits::default()
            }),
            ahead: ReadAhead::new(AheadLimits {
                // Without a cache there is nowhere to keep what is read ahead.
                blocks_max: if slots == 0 {
                    0
                } else {
                    AheadLimits::default().blocks_max
                },
                ..AheadLimits::default()
            }),
            region,
            gathers: HashMap::new(),
            fetches: HashMap::new(),
            slot_reads: HashMap::new(),
            fills: HashMap::new(),
            next: 0,
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// An object is being deleted.
    pub(super) fn forget(&mut self, object: ObjectSeq) {
        self.cache.forget(object);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn slot_at(&self, slot: u32) -> u64 {
        self.region + u64::from(slot) * LINE_BYTES
    }
}

impl Driver {
    /// Begins to read a part; [`Driver::part_read`] hears of its end.
    pub(super) fn read_object(&mut self, part: Part) {
        if let Some(layout) = self.sealing.reader.known(part.object.name) {
            return self.gather(part, layout);
        }
        let reader = self.sealing.reader.clone();
        self.start("disk-front", async move {
            let front = reader.front_patiently(&part.object, purpose::READ).await;
            let layout = front.inspect_err(|error| {
                error!(object = part.object.name.seq.0, error = %chain(error), "object's front was not read");
            });
            Event::Front {
                part,
                layout: layout.ok(),
            }
        });
    }

    /// The front of a part's object has come, or never will.
    pub(super) fn front_came(&mut self, part: Part, layout: Option<Arc<Layout>>) {
        match layout {
            Some(layout) => self.gather(part, layout),
            None => self.part_read(part.read, part.to, None),
        }
    }

    fn gather(&mut self, part: Part, layout: Arc<Layout>) {
        let extents = match layout.reads(part.lba, part.at, part.blocks) {
            Ok(extents) => extents,
            Err(flaw) => {
                error!(object = part.object.name.seq.0, lba = part.lba.0, error = %flaw, "the map and the object disagree");
                return self.part_read(part.read, part.to, None);
            }
        };
        let Some(range) = span(&extents) else {
            return self.part_read(part.read, part.to, None);
        };
        let number = self.objects.number();
        let bytes = vec![0; len(&range)];
        let gather = Gather {
            part,
            layout,
            extents,
            range,
            bytes,
            missing: 0,
            failed: false,
            tries: 1,
        };
        self.objects.gathers.insert(number, gather);
        self.plan(number);
    }

    /// Has the bytes of a part brought together.
    fn plan(&mut self, number: u64) {
        let Some(gather) = self.objects.gathers.get_mut(&number) else {
            return;
        };
        let (object, range) = (gather.part.object.clone(), gather.range.clone());
        let total = gather.layout.total_bytes;
        let Plan { steps, fetches } = self
            .objects
            .cache
            .plan(object.name.seq, total, range, Wanted::Now);
        gather.missing = steps.len();
        for fetch in fetches {
            self.fetch(object.clone(), fetch);
        }
        for step in steps {
            match step {
                CacheStep::Slot { slot, from, bytes } => self.read_slot(number, slot, from, bytes),
                CacheStep::Fetch { fetch, bytes } => match self.objects.fetches.get_mut(&fetch) {
                    Some(Fetched {
                        bytes: None, waiting, ..
                    }) => waiting.push((number, bytes)),
                    Some(Fetched {
                        from,
                        bytes: Some(there),
                        ..
                    }) => {
                        let piece = cut(there, *from, &bytes);
                        self.gathered(number, &bytes, Some(&piece));
                    }
                    None => panic!("{fetch:?} is in the cache's plan, and not under way"),
                },
            }
        }
    }

    fn fetch(&mut self, object: Object, fetch: Fetch) {
        let Fetch { id, bytes, .. } = fetch;
        let fetched = Fetched {
            from: bytes.start,
            bytes: None,
            waiting: Vec::new(),
        };
        self.objects.fetches.insert(id, fetched);
        let reader = self.sealing.reader.clone();
        self.start("disk-fetch", async move {
            let got = reader.bytes_patiently(&object, bytes, purpose::READ).await;
            let got = got.inspect_err(|error| {
                error!(object = object.name.seq.0, error = %chain(error), "bytes of an object were not read");
            });
            Event::Got {
                fetch: id,
                bytes: got.ok(),
            }
        });
    }

    /// A request to the store has ended.
    pub(super) fn got(&mut self, id: FetchId, bytes: Option<Bytes>) {
        let Some(fetched) = self.objects.fetches.get_mut(&id) else {
            return;
        };
        fetched.bytes.clone_from(&bytes);
        let (from, waiting) = (fetched.from, std::mem::take(&mut fetched.waiting));
        let fills = self.objects.cache.fetched(id, bytes.is_some());
        if fills.is_empty() {
            self.objects.fetches.remove(&id);
        }
        if let Some(bytes) = &bytes {
            for fill in fills {
                self.fill(fill, &cut_of(bytes, from));
            }
        }
        for (number, wanted) in waiting {
            let piece = bytes.as_ref().map(|bytes| cut(bytes, from, &wanted));
            self.gathered(number, &wanted, piece.as_deref());
        }
    }

    fn fill(&mut self, fill: Fill, cut: &impl Fn(&Range<u64>) -> Bytes) {
        let bytes = cut(&fill.bytes);
        let mut pages = Pages::new(bytes.len().div_ceil(PAGE_BYTES));
        pages.as_bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        let (size, offset) = (pages.len(), self.objects.slot_at(fill.slot));
        let number = self.objects.number();
        self.objects.fills.insert(number, fill);
        self.ring.write(Tag::Fill(number), pages, size, offset);
    }

    pub(super) fn filled(&mut self, number: u64, result: io::Result<usize>, held: Held) {
        let whole = held.into_pages().len();
        let done = self.told(result, "a line of the cache was not written") == Some(whole);
        if let Some(fill) = self.objects.fills.remove(&number)
            && self.objects.cache.filled(&fill, done)
        {
            self.objects.fetches.remove(&fill.fetch);
        }
    }

    fn read_slot(&mut self, gather: u64, slot: u32, from: u64, bytes: Range<u64>) {
        let first = from / PAGE;
        let last = (from + bytes.end - bytes.start).div_ceil(PAGE);
        let pages = Pages::new(usize::try_from(last - first).unwrap_or(usize::MAX));
        let offset = self.objects.slot_at(slot) + first * PAGE;
        let number = self.objects.number();
        let read = SlotRead {
            gather,
            slot,
            skip: usize::try_from(from % PAGE).unwrap_or(usize::MAX),
            bytes,
        };
        self.objects.slot_reads.insert(number, read);
        let size = pages.len();
        self.ring.read(Tag::Slot(number), pages, size, offset);
    }

    pub(super) fn slot_came(&mut self, number: u64, result: io::Result<usize>, held: Held) {
        let pages = held.into_pages();
        let whole = self.told(result, "a line of the cache was not read") == Some(pages.len());
        let Some(read) = self.objects.slot_reads.remove(&number) else {
            return;
        };
        self.objects.cache.read_done(read.slot);
        let piece = &pages.as_bytes()[read.skip..read.skip + len(&read.bytes)];
        // Bytes that could not be read are like bytes that do not open: they are fetched anew.
        let zeros;
        let piece = if whole {
            piece
        } else {
            zeros = vec![0; piece.len()];
            &zeros
        };
        self.gathered(read.gather, &read.bytes, Some(piece));
    }

    /// Some of a part's bytes have come; `None` when they never will.
    fn gathered(&mut self, number: u64, bytes: &Range<u64>, piece: Option<&[u8]>) {
        let Some(gather) = self.objects.gathers.get_mut(&number) else {
            return;
        };
        gather.missing -= 1;
        match piece {
            Some(piece) => {
                let at = usize::try_from(bytes.start - gather.range.start).unwrap_or(usize::MAX);
                gather.bytes[at..at + piece.len()].copy_from_slice(piece);
            }
            None => gather.failed = true,
        }
        if gather.missing > 0 {
            return;
        }
        let Some(mut gather) = self.objects.gathers.remove(&number) else {
            return;
        };
        let part = gather.part.clone();
        if gather.failed {
            return self.part_read(part.read, part.to, None);
        }
        match self.open(&gather) {
            Ok(plain) => self.part_read(part.read, part.to, Some(&plain)),
            Err(stored) if gather.tries < TRIES_MAX => {
                warn!(
                    object = part.object.name.seq.0,
                    "bytes of an object do not open: they are fetched anew"
                );
                self.objects.cache.distrust(part.object.name.seq, stored);
                gather.tries += 1;
                self.objects.gathers.insert(number, gather);
                self.plan(number);
            }
            Err(_) => {
                error!(
                    object = part.object.name.seq.0,
                    lba = part.lba.0,
                    "blocks of an object are damaged"
                );
                self.part_read(part.read, part.to, None);
            }
        }
    }

    /// Opens a part's extents; otherwise says which bytes do not open.
    fn open(&self, gather: &Gather) -> Result<Vec<u8>, Range<u64>> {
        let mut plain = Vec::with_capacity(bytes_of(gather.part.blocks));
        for extent in &gather.extents {
            let at = usize::try_from(extent.stored.start - gather.range.start).unwrap_or(usize::MAX);
            let stored = &gather.bytes[at..at + len(&extent.stored)];
            let opened = gather
                .layout
                .open_extent(&gather.part.object.sealer, extent.index, stored);
            let opened = opened.map_err(|_| extent.stored.clone())?;
            let from = bytes_of(extent.skip);
            plain.extend_from_slice(&opened[from..from + bytes_of(extent.blocks)]);
        }
        Ok(plain)
    }

    /// Reads ahead of a guest that reads one block after the other.
    pub(super) fn read_ahead(&mut self, lba: Lba, blocks: u64) {
        let size_blocks = self.engine.size_blocks();
        let Some((lba, blocks)) = self.objects.ahead.saw(lba, blocks, size_blocks) else {
            return;
        };
        for part in self.engine.peek(lba, blocks) {
            let Some(Source::Object { object, at }) = part.source else {
                continue;
            };
            // An object whose front nobody has needed yet is fetched when somebody does.
            let Some(object) = self.object(object) else {
                continue;
            };
            let Some(layout) = self.sealing.reader.known(object.name) else {
                continue;
            };
            let Some(range) = layout
                .reads(part.lba, at, part.blocks)
                .ok()
                .as_deref()
                .and_then(span)
            else {
                continue;
            };
            let plan = self
                .objects
                .cache
                .plan(object.name.seq, layout.total_bytes, range, Wanted::Ahead);
            for fetch in plan.fetches {
                self.fetch(object.clone(), fetch);
            }
        }
    }
}

/// The bytes that extents span, which lie one after the other.
fn span(extents: &[ExtentRead]) -> Option<Range<u64>> {
    Some(extents.first()?.stored.start..extents.last()?.stored.end)
}

fn len(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// The bytes `wanted` of an object, out of those from byte `from` of it on.
fn cut(bytes: &Bytes, from: u64, wanted: &Range<u64>) -> Bytes {
    let at = usize::try_from(wanted.start - from).unwrap_or(usize::MAX);
    bytes.slice(at..at + len(wanted))
}

fn cut_of(bytes: &Bytes, from: u64) -> impl Fn(&Range<u64>) -> Bytes + use<> {
    let bytes = bytes.clone();
    move |wanted| cut(&bytes, from, wanted)
}
