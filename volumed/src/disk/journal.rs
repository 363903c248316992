//! What the journal holds, read back: from memory as long as it is fresh, else from the slice.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use log_disk::{BLOCK_BYTES, PAGE_BYTES, Record, Sealer, Seq};

use super::slice::Slice;
use super::sys::Pages;

/// Bytes of records kept in memory. Most are uploaded before they leave, so that the slice is written only.
const FRESH_BYTES_MAX: usize = 64 << 20;
/// Records of the slice whose tables are kept, opened.
const OPENED_MAX: usize = 1024;

/// Where blocks lie in the journal: [`Source::Journal`](log_disk::Source::Journal) and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which record.
    pub(super) seq: Seq,
    /// Where it begins, in pages.
    pub(super) position: u64,
    /// Which of its pieces.
    pub(super) piece: u16,
    /// How many blocks of the piece come before.
    pub(super) skip: u16,
    /// How many blocks.
    pub(super) blocks: u64,
}

/// A record in memory.
#[derive(Debug)]
struct Fresh {
    bytes: Bytes,
    opened: Option<Arc<Record>>,
}

#[derive(Debug, Default)]
struct Memory {
    fresh: BTreeMap<u64, Fresh>,
    bytes: usize,
    opened: BTreeMap<u64, Arc<Record>>,
}

/// The journal as readers see it; the volume's thread and the threads that seal share it.
pub(super) struct Journal {
    sealer: Arc<Sealer>,
    slice: Slice,
    memory: Mutex<Memory>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl Journal {
    pub(super) fn new(sealer: Arc<Sealer>, slice: Slice) -> Self {
        Self {
            sealer,
            slice,
            memory: Mutex::default(),
        }
    }

    /// Keeps a record that is being written. Older ones leave.
    pub(super) fn keep(&self, position: u64, bytes: Bytes) {
        let mut memory = self.memory();
        memory.bytes += bytes.len();
        memory.fresh.insert(position, Fresh { bytes, opened: None });
        while memory.bytes > FRESH_BYTES_MAX
            && let Some((_, old)) = memory.fresh.pop_first()
        {
            memory.bytes -= old.bytes.len();
        }
    }

    /// Returns the blocks, if their record is in memory.
    ///
    /// # Errors
    /// [`Unsound`] when what is there is not what was written.
    pub(super) fn read_fresh(&self, place: Place) -> Result<Option<Bytes>, Unsound> {
        let (record, bytes) = {
            let mut memory = self.memory();
            let Some(fresh) = memory.fresh.get_mut(&place.position) else {
                return Ok(None);
            };
            let record = match &fresh.opened {
                Some(record) => Arc::clone(record),
                None => {
                    let record = Arc::new(self.open(place, &fresh.bytes[..PAGE_BYTES])?);
                    fresh.opened = Some(Arc::clone(&record));
                    record
                }
            };
            (record, fresh.bytes.clone())
        };
        let (first, blocks) = span(&record, place)?;
        let from = (1 + usize::try_from(first).unwrap_or(usize::MAX)) * PAGE_BYTES;
        let len = usize::try_from(blocks).unwrap_or(usize::MAX) * PAGE_BYTES;
        let sealed = bytes.get(from..from + len).ok_or(Unsound { place })?;
        self.open_piece(&record, place, sealed).map(Some)
    }

    /// Returns the blocks, reading the slice where memory does not have them. Blocks its thread for the time of a read or two.
    ///
    /// # Errors
    /// [`Unsound`] when they cannot be read, or are not what was written.
    pub(super) fn read(&self, place: Place) -> Result<Bytes, Unsound> {
        if let Some(blocks) = self.read_fresh(place)? {
            return Ok(blocks);
        }
        let unsound = |_| Unsound { place };
        let record = match self.opened(place) {
            Some(record) => record,
            None => {
                let mut page = Pages::new(1);
                self.slice.read_ring(place.position, &mut page).map_err(unsound)?;
                self.remember(place, page.as_bytes())?
            }
        };
        let (first, blocks) = span(&record, place)?;
        let mut pages = Pages::new(usize::try_from(blocks).unwrap_or(usize::MAX));
        self.slice
            .read_ring(place.position + 1 + first, &mut pages)
            .map_err(unsound)?;
        self.open_piece(&record, place, pages.as_bytes())
    }

    /// Returns a record that was opened from the slice before.
    pub(super) fn opened(&self, place: Place) -> Option<Arc<Record>> {
        let record = self.memory().opened.get(&place.position).cloned();
        record.filter(|record| record.header.seq == place.seq)
    }

    /// Opens a record's first page, as it was read from the slice.
    ///
    /// # Errors
    /// [`Unsound`] when it is not what was written.
    pub(super) fn remember(&self, place: Place, page: &[u8]) -> Result<Arc<Record>, Unsound> {
        let record = Arc::new(self.open(place, page)?);
        let mut memory = self.memory();
        while memory.opened.len() >= OPENED_MAX {
            memory.opened.pop_first();
        }
        memory.opened.insert(place.position, Arc::clone(&record));
        Ok(record)
    }

    /// Opens the piece that holds the blocks from its pages and cuts them out.
    ///
    /// # Errors
    /// [`Unsound`] when it is not what was written.
    pub(super) fn open_piece(&self, record: &Record, place: Place, sealed: &[u8]) -> Result<Bytes, Unsound> {
        let opened = record.open_piece(&self.sealer, usize::from(place.piece), sealed);
        let plain = Bytes::from(opened.map_err(|_| Unsound { place })?);
        let from = usize::from(place.skip) * BLOCK_BYTES;
        let end = from + usize::try_from(place.blocks).unwrap_or(usize::MAX) * BLOCK_BYTES;
        if end > plain.len() {
            return Err(Unsound { place });
        }
        Ok(plain.slice(from..end))
    }

    fn open(&self, place: Place, page: &[u8]) -> Result<Record, Unsound> {
        match Record::open(&self.sealer, page) {
            Ok(record) if record.header.seq == place.seq => Ok(record),
            Ok(_) | Err(_) => Err(Unsound { place }),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages of a piece, counted from the record's second.
///
/// # Errors
/// [`Unsound`] when the record has no such piece.
pub(super) fn span(record: &Record, place: Place) -> Result<(u64, u64), Unsound> {
    let piece = record.pieces.get(usize::from(place.piece));
    let piece = piece.ok_or(Unsound { place })?;
    let data = piece.data.as_ref().ok_or(Unsound { place })?;
    Ok((u64::from(data.page), piece.blocks))
}

/// What a place of the journal holds cannot be read, or is not what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {} of the journal cannot be read back", place.seq)]
pub(super) struct Unsound {
    /// Where.
    pub(super) place: Place,
}
