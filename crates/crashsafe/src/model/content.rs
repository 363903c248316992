//! One file's bytes: what the page cache shows, what the disk has for sure, and what it may have.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rand::{Rng, RngExt as _};

use super::page_ranges::PageRanges;

/// The unit in which unsynced bytes survive or not.
pub const PAGE_BYTES: u64 = 4096;
/// The unit in which a page may be torn.
const SECTOR_BYTES: usize = 512;
/// How many unsynced versions of one page are remembered; the disk may have any of them.
const VERSIONS_MAX: usize = 4;

const PAGE_LEN: usize = 4096;
const _: () = assert!(PAGE_LEN as u64 == PAGE_BYTES);
const _: () = assert!(PAGE_LEN.is_multiple_of(SECTOR_BYTES));

type PageBytes = [u8; PAGE_LEN];
static ZEROS: PageBytes = [0; PAGE_LEN];

/// The bytes of a file, holes included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    len: u64,
    /// Pages with bytes; the others are holes. Bytes past `len` are zero.
    pages: BTreeMap<u64, Arc<PageBytes>>,
    allocated: PageRanges,
}

impl Content {
    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Tells whether the file has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns all bytes, holes as zeros.
    ///
    /// # Panics
    /// When the file is larger than memory could be.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).expect("the file fits into memory")];
        for (number, page) in &self.pages {
            let start = usize::try_from(number * PAGE_BYTES).expect("a page lies within its file");
            let end = bytes.len().min(start + PAGE_LEN);
            bytes[start..end].copy_from_slice(&page[..end - start]);
        }
        bytes
    }

    /// Returns the pages that are no holes: byte offset and bytes, the last one cut at the file's end.
    pub fn data(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(number, page)| {
            let offset = number * PAGE_BYTES;
            (offset, &page[..in_page(self.len - offset)])
        })
    }
}

/// Cuts `bytes` to a page's length.
fn in_page(bytes: u64) -> usize {
    usize::try_from(bytes.min(PAGE_BYTES)).expect("a page's length fits")
}

/// A file with its unsynced past.
#[derive(Debug, Clone, Default)]
pub(crate) struct CachedFile {
    durable: Content,
    /// Pages changed since the last sync, oldest version first; the last is what a reader sees. `None` is a hole.
    versions: BTreeMap<u64, Vec<Option<Arc<PageBytes>>>>,
    /// Pages that a failed sync dropped: still seen, never written, and clean in the kernel's eyes.
    dropped: BTreeMap<u64, Option<Arc<PageBytes>>>,
    /// Lengths since the last sync; the last is what a reader sees.
    lens: Vec<u64>,
    /// What a reader of `st_blocks` sees.
    allocated: PageRanges,
}

impl CachedFile {
    /// A file all of which is durable.
    pub(crate) fn durable(content: Content) -> Self {
        let allocated = content.allocated.clone();
        Self {
            durable: content,
            allocated,
            ..Self::default()
        }
    }

    /// A file with the bytes of `self` as a reader sees them, none of which is durable.
    pub(crate) fn reflinked(&self) -> Self {
        let seen = self.seen();
        let versions = seen
            .pages
            .into_iter()
            .map(|(number, page)| (number, vec![Some(page)]))
            .collect();
        Self {
            versions,
            lens: vec![seen.len],
            allocated: seen.allocated,
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.lens.last().copied().unwrap_or(self.durable.len)
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.allocated.pages() * PAGE_BYTES
    }

    /// How many more bytes the disk must give for a write or a reservation of `len` bytes at `offset`.
    pub(crate) fn missing_bytes(&self, offset: u64, len: u64) -> u64 {
        self.allocated.missing(pages_touched(offset, len)) * PAGE_BYTES
    }

    fn page(&self, number: u64) -> Option<&Arc<PageBytes>> {
        let changed = self.versions.get(&number).and_then(|versions| versions.last());
        match changed.or_else(|| self.dropped.get(&number)) {
            Some(seen) => seen.as_ref(),
            None => self.durable.pages.get(&number),
        }
    }

    fn put_page(&mut self, number: u64, page: Option<Arc<PageBytes>>) {
        let versions = self.versions.entry(number).or_default();
        if versions.len() == VERSIONS_MAX {
            versions.remove(0);
        }
        versions.push(page);
        self.dropped.remove(&number);
    }

    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> usize {
        let left = self.len().saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let start = in_page(at % PAGE_BYTES);
            let piece = (PAGE_LEN - start).min(wanted - done);
            let page = self.page(at / PAGE_BYTES).map_or(&ZEROS, |page| &**page);
            bytes[done..done + piece].copy_from_slice(&page[start..start + piece]);
            done += piece;
        }
        wanted
    }

    pub(crate) fn write_at(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = in_page(at % PAGE_BYTES);
            let piece = (PAGE_LEN - start).min(bytes.len() - done);
            let mut page = self.page(at / PAGE_BYTES).map_or(ZEROS, |page| **page);
            page[start..start + piece].copy_from_slice(&bytes[done..done + piece]);
            self.put_page(at / PAGE_BYTES, Some(Arc::new(page)));
            done += piece;
        }
        self.allocated.insert(pages_touched(offset, bytes.len() as u64));
        self.grow_to(offset + bytes.len() as u64);
    }

    fn grow_to(&mut self, len: u64) {
        if len > self.len() {
            self.lens.push(len);
        }
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        let old = self.len();
        if len < old {
            self.zero(len..old.next_multiple_of(PAGE_BYTES));
            self.allocated.remove(len.div_ceil(PAGE_BYTES)..u64::MAX);
        }
        if len != old {
            self.lens.push(len);
        }
    }

    pub(crate) fn allocate(&mut self, offset: u64, len: u64) {
        self.allocated.insert(pages_touched(offset, len));
        self.grow_to(offset + len);
    }

    pub(crate) fn punch_hole(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        self.zero(offset..end);
        self.allocated
            .remove(offset.div_ceil(PAGE_BYTES)..end / PAGE_BYTES);
    }

    /// Makes `range` read zero: whole pages become holes, the others lose the bytes within.
    fn zero(&mut self, range: Range<u64>) {
        let touched = pages_touched(range.start, range.end - range.start);
        let present: Vec<u64> = self
            .seen_pages(touched.start)
            .take_while(|number| *number < touched.end)
            .collect();
        for number in present {
            let offset = number * PAGE_BYTES;
            let start = in_page(range.start.saturating_sub(offset));
            let end = in_page(range.end - offset);
            let page = if end - start == PAGE_LEN {
                None
            } else {
                let mut page = self.page(number).map_or(ZEROS, |page| **page);
                page[start..end].fill(0);
                Some(Arc::new(page))
            };
            self.put_page(number, page);
        }
    }

    /// The pages from `from` on that a reader sees bytes in, ascending.
    fn seen_pages(&self, from: u64) -> impl Iterator<Item = u64> {
        let durable = self.durable.pages.range(from..).map(|(number, _)| *number);
        let changed = self.versions.range(from..).map(|(number, _)| *number);
        let dropped = self.dropped.range(from..).map(|(number, _)| *number);
        merged(merged(durable, changed), dropped).filter(|number| self.page(*number).is_some())
    }

    pub(crate) fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        let mut pages = self.seen_pages(offset / PAGE_BYTES);
        let first = pages.next()?;
        let mut end = first + 1;
        while pages.next() == Some(end) {
            end += 1;
        }
        let range = offset.max(first * PAGE_BYTES)..self.len().min(end * PAGE_BYTES);
        (range.start < range.end).then_some(range)
    }

    pub(crate) fn sync(&mut self) {
        for (number, mut versions) in std::mem::take(&mut self.versions) {
            self.durable.put_page(number, versions.pop().flatten());
        }
        self.durable.len = self.len();
        self.durable.allocated = self.allocated.clone();
        self.lens.clear();
    }

    pub(crate) fn sync_range(&mut self, offset: u64, len: u64) {
        assert!(self.lens.is_empty(), "a length is never synced by a range");
        let later = self.versions.split_off(&pages_touched(offset, len).end);
        let within = self.versions.split_off(&pages_touched(offset, len).start);
        self.versions.extend(later);
        for (number, mut versions) in within {
            self.durable.put_page(number, versions.pop().flatten());
        }
    }

    /// A sync that failed: some pages reached the disk, the others never will, and the kernel forgets which.
    pub(crate) fn fail_sync<R: Rng + ?Sized>(&mut self, rng: &mut R) {
        for (number, mut versions) in std::mem::take(&mut self.versions) {
            let newest = versions.pop().flatten();
            if rng.random_bool(0.5) {
                self.durable.put_page(number, newest);
            } else {
                self.dropped.insert(number, newest);
            }
        }
    }

    /// The file as a reader sees it.
    pub(crate) fn seen(&self) -> Content {
        let mut synced = self.clone();
        for (number, page) in std::mem::take(&mut synced.dropped) {
            synced.durable.put_page(number, page);
        }
        synced.sync();
        synced.durable
    }

    /// One of the states that a power cut may leave.
    pub(crate) fn crash<R: Rng + ?Sized>(&self, luck: &Luck, rng: &mut R) -> Content {
        let mut left = self.durable.clone();
        if let Some(len) = luck.pick(&self.lens, rng) {
            left.len = *len;
            left.allocated = self.allocated.clone();
        }
        for (number, versions) in &self.versions {
            let Some(version) = luck.pick(versions, rng) else {
                continue;
            };
            let mut page = version.clone();
            if luck.tears(rng) {
                page = Some(Arc::new(torn(
                    self.durable.pages.get(number),
                    version.as_ref(),
                    rng,
                )));
            }
            left.put_page(*number, page);
        }
        left.cut_pages();
        left
    }
}

impl Content {
    fn put_page(&mut self, number: u64, page: Option<Arc<PageBytes>>) {
        match page {
            Some(page) => self.pages.insert(number, page),
            None => self.pages.remove(&number),
        };
    }

    /// Drops what lies past the end, and counts every page with bytes as allocated.
    fn cut_pages(&mut self) {
        let kept = self.len.div_ceil(PAGE_BYTES);
        drop(self.pages.split_off(&kept));
        self.allocated.remove(kept..u64::MAX);
        let end_in_page = in_page(self.len % PAGE_BYTES);
        if end_in_page != 0
            && let Some(last) = self.pages.get_mut(&(kept - 1))
        {
            Arc::make_mut(last)[end_in_page..].fill(0);
        }
        for number in self.pages.keys() {
            self.allocated.insert(*number..number + 1);
        }
    }

    /// Puts `bytes` into the content; used to build one up.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        let mut file = CachedFile::durable(std::mem::take(self));
        file.write_at(bytes, offset);
        file.sync();
        *self = file.durable;
    }

    /// Sets the length, keeping what lies within.
    pub(crate) fn resize(&mut self, len: u64) {
        let mut file = CachedFile::durable(std::mem::take(self));
        file.set_len(len);
        file.sync();
        *self = file.durable;
    }
}

/// Two ascending sequences as one, without repeats.
fn merged(one: impl Iterator<Item = u64>, other: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek().copied(), other.peek().copied()) {
        (Some(first), Some(second)) if first == second => {
            other.next();
            one.next()
        }
        (Some(first), Some(second)) if first > second => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

/// Mixes two versions of a page by sectors.
fn torn<R: Rng + ?Sized>(
    old: Option<&Arc<PageBytes>>,
    new: Option<&Arc<PageBytes>>,
    rng: &mut R,
) -> PageBytes {
    let mut page = old.map_or(ZEROS, |page| **page);
    let new = new.map_or(&ZEROS, |page| &**page);
    for (into, from) in page
        .chunks_exact_mut(SECTOR_BYTES)
        .zip(new.chunks_exact(SECTOR_BYTES))
    {
        if rng.random_bool(0.5) {
            into.copy_from_slice(from);
        }
    }
    page
}

fn pages_touched(offset: u64, len: u64) -> Range<u64> {
    if len == 0 {
        0..0
    } else {
        offset / PAGE_BYTES..offset.saturating_add(len).div_ceil(PAGE_BYTES)
    }
}

/// How kind one power cut is to what was not synced.
#[derive(Debug)]
pub(crate) struct Luck {
    /// The chance of each unsynced change to survive.
    survival: f64,
    /// The chance of a surviving page to be torn.
    tear: f64,
}

impl Luck {
    /// Draws a power cut: some lose everything, some nothing, most something.
    pub(crate) fn draw<R: Rng + ?Sized>(rng: &mut R) -> Self {
        const SURVIVALS: [f64; 5] = [0.0, 0.1, 0.5, 0.9, 1.0];
        const TEARS: [f64; 3] = [0.0, 0.0, 0.3];
        Self {
            survival: SURVIVALS[rng.random_range(0..SURVIVALS.len())],
            tear: TEARS[rng.random_range(0..TEARS.len())],
        }
    }

    /// Tells whether one unsynced change survives.
    pub(crate) fn survives<R: Rng + ?Sized>(&self, rng: &mut R) -> bool {
        rng.random_bool(self.survival)
    }

    fn tears<R: Rng + ?Sized>(&self, rng: &mut R) -> bool {
        rng.random_bool(self.tear)
    }

    /// Picks the version that reached the disk: none, the last, or now and then one between.
    fn pick<'a, T, R: Rng + ?Sized>(&self, versions: &'a [T], rng: &mut R) -> Option<&'a T> {
        if versions.is_empty() || !self.survives(rng) {
            return None;
        }
        let between = versions.len() > 1 && rng.random_bool(0.3);
        let index = if between {
            rng.random_range(0..versions.len())
        } else {
            versions.len() - 1
        };
        versions.get(index)
    }
}

#[cfg(test)]
mod tests;
