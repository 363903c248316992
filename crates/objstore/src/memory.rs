//! A store in memory, for tests and for the model that other stores are compared with.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use daemon::wall_clock::{SystemClock, WallClock};

use crate::store::{
    DeleteError, ETag, Entry, GetError, Key, ListError, Object, ObjectStore, Page, Purpose, PutError,
};

/// Objects in memory. Clones share them.
///
/// Etags are those of the content, as S3's are: putting the same bytes twice gives the same etag twice.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<Key, Stored>>>,
    clock: Arc<dyn WallClock>,
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Bytes,
    etag: ETag,
    modified: jiff::Timestamp,
}

/// Most entries that one page of [`MemoryStore::list`] holds, as on S3.
const PAGE_ENTRIES_MAX: usize = 1_000;

impl MemoryStore {
    /// Makes an empty store that stamps objects by the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// Makes an empty store that stamps objects by `clock`.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn WallClock>) -> Self {
        Self {
            objects: Arc::default(),
            clock,
        }
    }

    /// Changes the stored bytes of `key` behind the store's back, as a failing disk would; its etag stays.
    ///
    /// Returns whether there is such an object.
    pub fn damage(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut objects = self.lock();
        let Some(stored) = objects.get_mut(key) else {
            return false;
        };
        let mut bytes = stored.bytes.to_vec();
        change(&mut bytes);
        stored.bytes = bytes.into();
        true
    }

    /// Number of objects held.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Stored>> {
        // Every change is one map call: a panic elsewhere cannot leave the map half changed.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, bytes: Bytes) -> Stored {
        let etag = content_etag(&bytes);
        Stored {
            bytes,
            etag,
            modified: self.clock.now(),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the etag of `bytes`: equal for equal content only.
pub(crate) fn content_etag(bytes: &[u8]) -> ETag {
    let hex = blake3::hash(bytes).to_hex();
    ETag::new(format!("\"{}\"", &hex[..32]))
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put_if_absent(&self, key: &Key, body: Bytes, _purpose: Purpose) -> Result<ETag, PutError> {
        let stored = self.stored(body);
        let etag = stored.etag.clone();
        match self.lock().entry(key.clone()) {
            Slot::Occupied(_) => Err(PutError::Exists {
                key: key.clone(),
                maybe_applied: false,
            }),
            Slot::Vacant(slot) => {
                slot.insert(stored);
                Ok(etag)
            }
        }
    }

    async fn put_if_match(
        &self,
        key: &Key,
        expected: &ETag,
        body: Bytes,
        _purpose: Purpose,
    ) -> Result<ETag, PutError> {
        let stored = self.stored(body);
        let etag = stored.etag.clone();
        match self.lock().get_mut(key) {
            Some(current) if current.etag == *expected => {
                *current = stored;
                Ok(etag)
            }
            Some(_) | None => Err(PutError::Stale {
                key: key.clone(),
                maybe_applied: false,
            }),
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>, _purpose: Purpose) -> Result<Object, GetError> {
        let Some(stored) = self.lock().get(key).cloned() else {
            return Err(GetError::NotFound { key: key.clone() });
        };
        let total_bytes = stored.bytes.len() as u64;
        let bytes = match range {
            None => stored.bytes,
            Some(Range { start, end }) => {
                if start >= end || start >= total_bytes {
                    return Err(GetError::OutOfRange {
                        key: key.clone(),
                        start,
                        end,
                        total_bytes,
                    });
                }
                stored.bytes.slice(index(start)..index(end.min(total_bytes)))
            }
        };
        Ok(Object {
            bytes,
            etag: stored.etag,
            total_bytes,
        })
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        _purpose: Purpose,
    ) -> Result<Page, ListError> {
        let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
        let objects = self.lock();
        let mut entries: Vec<Entry> = Vec::new();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        for (key, stored) in objects.range::<str, _>((start, Bound::Unbounded)) {
            if !key.as_str().starts_with(prefix) {
                break;
            }
            if entries.len() == limit {
                return Ok(Page { entries, more: true });
            }
            entries.push(Entry {
                key: key.clone(),
                size_bytes: stored.bytes.len() as u64,
                etag: stored.etag.clone(),
                modified: stored.modified,
            });
        }
        Ok(Page { entries, more: false })
    }

    async fn delete(&self, key: &Key, _purpose: Purpose) -> Result<(), DeleteError> {
        self.lock().remove(key);
        Ok(())
    }
}

/// Narrows an offset that was checked against a length in memory.
pub(crate) fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
