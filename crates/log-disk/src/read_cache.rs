//! PURE. The read cache: which parts of which objects lie in which slot of the slice.
//!
//! Objects never change, so a line of one is right for ever: nothing here is durable, and nothing has to be. The index begins
//! empty whenever the disk is opened, so that a slot is only ever read after this process has written it. What a slot
//! holds are the sealed bytes as they lie in the object: whatever happened to them there, an extent of them opens as what was
//! written at its place or not at all.

mod guard;
mod queues;
mod read_ahead;

use std::collections::BTreeMap;
use std::ops::Range;

use guard::ThrashGuard;
use queues::{Evicted, Queues};
pub use read_ahead::{AheadLimits, ReadAhead};

use crate::ObjectSeq;

/// Bytes of a line of an object, and of a slot of the cache.
pub const LINE_BYTES: u64 = 64 << 10;

/// How much a cache holds and fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Slots of [`LINE_BYTES`] in the slice; 0 for no cache.
    pub slots: u32,
    /// Most lines of one request to the store.
    pub fetch_lines_max: u64,
    /// Most bytes fetched as whole lines, in thousandths of those that were wanted of them: above it only what is wanted a
    /// second time is kept, and the rest is fetched as it is wanted.
    pub fetched_permille_max: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            slots: 16_384,
            fetch_lines_max: 16,
            fetched_permille_max: 4_000,
        }
    }
}

/// Why bytes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A guest waits for them.
    Now,
    /// A guest will probably want them: only fetches are planned.
    Ahead,
    /// Something in the background reads them once: what is here is used, what is not is not kept.
    Once,
}

/// A fetch's number, +1 each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Where a part of the wanted bytes comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheStep {
    /// From a slot, which stays as it is until [`ReadCache::read_done`].
    Slot {
        /// Which.
        slot: u32,
        /// First byte in the slot.
        from: u64,
        /// Which bytes of the object.
        bytes: Range<u64>,
    },
    /// From a fetch, of this plan or of an earlier one.
    Fetch {
        /// Which.
        fetch: FetchId,
        /// Which bytes of the object.
        bytes: Range<u64>,
    },
}

/// A request to the store that is to be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Its number, for [`ReadCache::fetched`].
    pub id: FetchId,
    /// Of which object.
    pub object: ObjectSeq,
    /// Which bytes.
    pub bytes: Range<u64>,
}

/// How wanted bytes are come by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The wanted bytes, in order, without gap or overlap; empty for [`Wanted::Ahead`].
    pub steps: Vec<CacheStep>,
    /// What is to be fetched for them.
    pub fetches: Vec<Fetch>,
}

/// A line that is to be written into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Which slot, from its first byte.
    pub slot: u32,
    /// Which bytes of the object, at most [`LINE_BYTES`].
    pub bytes: Range<u64>,
    /// Which fetch brought them.
    pub fetch: FetchId,
}

/// What the cache did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes wanted by guests that were here, fetches under way included.
    pub hit_bytes: u64,
    /// Bytes wanted by guests that were not.
    pub miss_bytes: u64,
    /// Bytes fetched as whole lines, also ahead.
    pub fetched_bytes: u64,
    /// Bytes fetched past the cache, because keeping them was not worth it.
    pub direct_bytes: u64,
    /// Lines here.
    pub lines: u64,
    /// Lines that turned out to be damaged.
    pub distrusted: u64,
    /// Whether lines are kept only when they are wanted a second time.
    pub guarded: bool,
}

type Key = (ObjectSeq, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Fetching(FetchId),
    /// In memory, on its way into the slot.
    Filling(FetchId, u32),
    Ready(u32),
}

/// What a slot is busy with; a line may be gone while its slot still is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SlotUse {
    readers: u32,
    filling: bool,
    /// No line lies here any more: free once nobody is busy with it.
    left: bool,
}

#[derive(Debug)]
struct Fetching {
    object: ObjectSeq,
    /// Numbers of the lines that are to be kept.
    lines: Range<u64>,
    object_bytes: u64,
    /// Fills under way.
    fills: usize,
}

/// The index of the cache. See the [module's](self) first lines for why none of it is durable.
///
/// A line is one aligned piece of [`LINE_BYTES`] of an object (the last one is shorter). New ones are kept in a short queue, and
/// only what is wanted again moves to the long one: a long scan passes through without driving out what is used (S3-FIFO).
#[derive(Debug)]
pub struct ReadCache {
    limits: CacheLimits,
    lines: BTreeMap<Key, Line>,
    slots: Vec<SlotUse>,
    free: Vec<u32>,
    queues: Queues<Key>,
    guard: ThrashGuard,
    fetches: BTreeMap<FetchId, Fetching>,
    next_fetch: u64,
    stats: CacheStats,
}

impl ReadCache {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(limits: CacheLimits) -> Self {
        assert!(limits.fetch_lines_max > 0, "fetches of nothing");
        Self {
            lines: BTreeMap::new(),
            slots: vec![SlotUse::default(); limits.slots as usize],
            free: (0..limits.slots).rev().collect(),
            queues: Queues::new(limits.slots as usize),
            guard: ThrashGuard::new(limits.fetched_permille_max),
            fetches: BTreeMap::new(),
            next_fetch: 0,
            stats: CacheStats::default(),
            limits,
        }
    }

    /// Plans how the bytes `wanted` of an object of `object_bytes` are come by. Bytes that somebody fetches already are not
    /// fetched again.
    ///
    /// # Panics
    /// When nothing is wanted, or something past the object's end.
    pub fn plan(&mut self, object: ObjectSeq, object_bytes: u64, wanted: Range<u64>, why: Wanted) -> Plan {
        assert!(
            wanted.start < wanted.end && wanted.end <= object_bytes,
            "bytes {wanted:?} of {object_bytes} of object {object}"
        );
        let mut plan = Plan::default();
        for line in wanted.start / LINE_BYTES..=(wanted.end - 1) / LINE_BYTES {
            let begin = line * LINE_BYTES;
            let bytes = wanted.start.max(begin)..wanted.end.min(begin + LINE_BYTES);
            let len = bytes.end - bytes.start;
            let step = match self.lines.get(&(object, line)).copied() {
                Some(_) if why == Wanted::Ahead => continue,
                Some(Line::Ready(slot)) => {
                    self.slots[slot as usize].readers += 1;
                    CacheStep::Slot {
                        slot,
                        from: bytes.start - begin,
                        bytes,
                    }
                }
                Some(Line::Fetching(fetch) | Line::Filling(fetch, _)) => CacheStep::Fetch { fetch, bytes },
                None => {
                    self.miss(object, object_bytes, line, bytes, why, &mut plan);
                    continue;
                }
            };
            if why == Wanted::Now {
                self.stats.hit_bytes += len;
                self.guard.served(len);
                self.queues.touch((object, line));
            }
            plan.steps.push(step);
        }
        plan
    }

    fn miss(
        &mut self,
        object: ObjectSeq,
        object_bytes: u64,
        line: u64,
        bytes: Range<u64>,
        why: Wanted,
        plan: &mut Plan,
    ) {
        let key = (object, line);
        let keep = match why {
            Wanted::Now => self.limits.slots > 0 && (self.guard.lets_in() || self.queues.remembers(key)),
            Wanted::Ahead if self.limits.slots == 0 => return,
            Wanted::Ahead => true,
            Wanted::Once => false,
        };
        let len = bytes.end - bytes.start;
        if why == Wanted::Now {
            self.stats.miss_bytes += len;
            if !keep {
                self.queues.remember(key);
            }
        }
        let whole = line * LINE_BYTES..object_bytes.min((line + 1) * LINE_BYTES);
        let fetch_bytes = if keep { whole } else { bytes.clone() };
        let fetched = fetch_bytes.end - fetch_bytes.start;
        let fetch = self.fetch_for(object, object_bytes, line, fetch_bytes, keep, plan);
        if keep {
            self.stats.fetched_bytes += fetched;
            self.guard.fetched(fetched);
            self.lines.insert(key, Line::Fetching(fetch));
        } else {
            self.stats.direct_bytes += fetched;
        }
        match why {
            Wanted::Now if keep => self.guard.served(len),
            Wanted::Now | Wanted::Once => {}
            Wanted::Ahead => return,
        }
        plan.steps.push(CacheStep::Fetch { fetch, bytes });
    }

    /// Joins the plan's last fetch when that ends where these bytes begin, or begins another.
    fn fetch_for(
        &mut self,
        object: ObjectSeq,
        object_bytes: u64,
        line: u64,
        bytes: Range<u64>,
        keep: bool,
        plan: &mut Plan,
    ) -> FetchId {
        if let Some(last) = plan.fetches.last_mut()
            && last.bytes.end == bytes.start
            && bytes.end - last.bytes.start <= self.limits.fetch_lines_max * LINE_BYTES
            && let Some(under_way) = self.fetches.get_mut(&last.id)
            && keep != under_way.lines.is_empty()
        {
            last.bytes.end = bytes.end;
            if keep {
                under_way.lines.end = line + 1;
            }
            return last.id;
        }
        let id = FetchId(self.next_fetch);
        self.next_fetch += 1;
        let fetching = Fetching {
            object,
            lines: if keep { line..line + 1 } else { 0..0 },
            object_bytes,
            fills: 0,
        };
        self.fetches.insert(id, fetching);
        plan.fetches.push(Fetch { id, object, bytes });
        id
    }

    /// A slot that a plan named was read. Bytes that do not open are reported by [`Self::distrust`] as well.
    ///
    /// # Panics
    /// When nobody was reading it.
    pub fn read_done(&mut self, slot: u32) {
        let used = &mut self.slots[slot as usize];
        assert!(used.readers > 0, "slot {slot} was not being read");
        used.readers -= 1;
        self.reuse(slot);
    }

    /// A fetch ended; `got` says whether all of it is there. Returns what is to be written where; the bytes stay in memory for
    /// those whose plan names the fetch until the last of these is [`filled`](Self::filled), or, when there are none,
    /// until they have been handed on.
    ///
    /// # Panics
    /// When it was not under way.
    pub fn fetched(&mut self, id: FetchId, got: bool) -> Vec<Fill> {
        let Some(Fetching {
            object,
            lines,
            object_bytes,
            ..
        }) = self.fetches.remove(&id)
        else {
            panic!("fetch {id:?} was not under way")
        };
        let mut fills = Vec::new();
        for line in lines.clone() {
            let key = (object, line);
            // The object may be gone meanwhile, or the line be fetched anew.
            if self.lines.get(&key) != Some(&Line::Fetching(id)) {
                continue;
            }
            let slot = if got { self.take_slot() } else { None };
            let Some(slot) = slot else {
                self.lines.remove(&key);
                continue;
            };
            self.slots[slot as usize].filling = true;
            self.lines.insert(key, Line::Filling(id, slot));
            self.queues.add(key);
            fills.push(Fill {
                slot,
                bytes: line * LINE_BYTES..object_bytes.min((line + 1) * LINE_BYTES),
                fetch: id,
            });
        }
        if !fills.is_empty() {
            let fetching = Fetching {
                object,
                lines,
                object_bytes,
                fills: fills.len(),
            };
            self.fetches.insert(id, fetching);
        }
        fills
    }

    /// A fill ended; `done` says whether all of it was written. Returns whether it was the last of its fetch: nobody asks for
    /// the fetch's bytes any more, apart from plans that were made before.
    ///
    /// # Panics
    /// When it was not under way.
    pub fn filled(&mut self, fill: &Fill, done: bool) -> bool {
        let Some(fetching) = self
            .fetches
            .get_mut(&fill.fetch)
            .filter(|fetching| fetching.fills > 0)
        else {
            panic!("nothing is filled by {:?}", fill.fetch)
        };
        fetching.fills -= 1;
        let last = fetching.fills == 0;
        let key = (fetching.object, fill.bytes.start / LINE_BYTES);
        if last {
            self.fetches.remove(&fill.fetch);
        }
        self.slots[fill.slot as usize].filling = false;
        if self.lines.get(&key) == Some(&Line::Filling(fill.fetch, fill.slot)) {
            if done {
                self.lines.insert(key, Line::Ready(fill.slot));
            } else {
                self.drop_line(key);
            }
        }
        self.reuse(fill.slot);
        last
    }

    /// Forgets lines whose bytes did not open: they are fetched anew when they are wanted.
    pub fn distrust(&mut self, object: ObjectSeq, bytes: Range<u64>) {
        for line in bytes.start / LINE_BYTES..bytes.end.div_ceil(LINE_BYTES) {
            if self.drop_line((object, line)) {
                self.stats.distrusted += 1;
            }
        }
    }

    /// Forgets an object that is being deleted.
    pub fn forget(&mut self, object: ObjectSeq) {
        let keys: Vec<Key> = self
            .lines
            .range((object, 0)..=(object, u64::MAX))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.drop_line(key);
        }
    }

    /// Returns what it did so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            lines: self.lines.len() as u64,
            guarded: self.guard.is_on(),
            ..self.stats
        }
    }

    fn drop_line(&mut self, key: Key) -> bool {
        let Some(line) = self.lines.remove(&key) else {
            return false;
        };
        self.queues.remove(key);
        if let Line::Filling(_, slot) | Line::Ready(slot) = line {
            self.slots[slot as usize].left = true;
            self.reuse(slot);
        }
        true
    }

    /// Makes a slot free that no line lies in, once nobody reads or writes it.
    fn reuse(&mut self, slot: u32) {
        let used = &mut self.slots[slot as usize];
        if used.left && used.readers == 0 && !used.filling {
            used.left = false;
            self.free.push(slot);
        }
    }

    fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let (lines, slots) = (&self.lines, &self.slots);
        let idle = |key: &Key| match lines.get(key) {
            Some(Line::Ready(slot)) => slots[*slot as usize].readers == 0,
            Some(Line::Fetching(_) | Line::Filling(..)) | None => false,
        };
        let Evicted(key) = self.queues.evict(idle)?;
        match self.lines.remove(&key) {
            Some(Line::Ready(slot)) => Some(slot),
            line => unreachable!("{line:?} of {key:?} was idle"),
        }
    }
}

#[cfg(test)]
mod tests;
