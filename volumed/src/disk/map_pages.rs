//! Leaves of the map that memory has no room for: pages of the slice. The map has sealed them.

use std::collections::BTreeMap;
use std::io;

use log_disk::{PAGE_BYTES, PageStore};
use tracing::warn;

use super::slice::Slice;
use super::sys::Pages;

/// Where a leaf lies.
#[derive(Debug)]
enum Kept {
    /// In these pages of the region, one after the other.
    Pages { pages: Vec<u32>, len: usize },
    /// In memory: the region was full, or could not be written.
    Memory(Vec<u8>),
}

/// The store of leaves. A crash empties it: which leaf lies where is known to this process alone.
pub(super) struct MapPages {
    slice: Slice,
    /// Pages of the region that hold nothing.
    free: Vec<u32>,
    kept: BTreeMap<u32, Kept>,
    spilled: bool,
}

impl std::fmt::Debug for MapPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MapPages({} leaves)", self.kept.len())
    }
}

impl MapPages {
    /// Makes an empty store over the slice's region.
    pub(super) fn new(slice: Slice) -> Self {
        let pages = slice.settings().map_bytes / PAGE_BYTES as u64;
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        Self {
            slice,
            free: (0..pages).rev().collect(),
            kept: BTreeMap::new(),
            spilled: false,
        }
    }

    fn offset(&self, page: u32) -> u64 {
        self.slice.settings().map_at() + u64::from(page) * PAGE_BYTES as u64
    }

    fn write(&self, pages: &[u32], sealed: &[u8]) -> io::Result<()> {
        let mut room = Pages::new(1);
        for (page, bytes) in pages.iter().zip(sealed.chunks(PAGE_BYTES)) {
            room.as_bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            self.slice.write(self.offset(*page), &room)?;
        }
        Ok(())
    }

    fn release(&mut self, leaf: u32) {
        if let Some(Kept::Pages { pages, .. }) = self.kept.remove(&leaf) {
            self.free.extend(pages);
        }
    }
}

impl PageStore for MapPages {
    fn store(&mut self, leaf: u32, bytes: &[u8]) {
        self.release(leaf);
        let needed = bytes.len().div_ceil(PAGE_BYTES);
        let kept = if needed <= self.free.len() {
            let pages = self.free.split_off(self.free.len() - needed);
            match self.write(&pages, bytes) {
                Ok(()) => Kept::Pages {
                    pages,
                    len: bytes.len(),
                },
                Err(error) => {
                    warn!(leaf, error = %error, "leaf of the map was not written and stays in memory");
                    Kept::Memory(bytes.to_vec())
                }
            }
        } else {
            if !std::mem::replace(&mut self.spilled, true) {
                warn!(
                    leaves = self.kept.len(),
                    "no room for the map on the slice: it stays in memory"
                );
            }
            Kept::Memory(bytes.to_vec())
        };
        self.kept.insert(leaf, kept);
    }

    fn load(&mut self, leaf: u32) -> io::Result<Vec<u8>> {
        let (pages, len) = match self.kept.get(&leaf) {
            Some(Kept::Pages { pages, len }) => (pages, *len),
            Some(Kept::Memory(bytes)) => return Ok(bytes.clone()),
            None => return Err(io::Error::other("it was never kept")),
        };
        let mut sealed = Vec::with_capacity(pages.len() * PAGE_BYTES);
        let mut room = Pages::new(1);
        for page in pages {
            self.slice.read(self.offset(*page), &mut room)?;
            sealed.extend_from_slice(room.as_bytes());
        }
        sealed.truncate(len);
        Ok(sealed)
    }
}

#[cfg(test)]
mod tests;
