//! The object store, as the tools see it: one question after the other.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use log_disk_tools::{Bucket, BucketError};
use objstore::{GetError, Key, ObjectStore, Purpose};
use tokio::runtime::Handle;
use tracing::warn;

const PURPOSE: Purpose = Purpose("disk_tools");
/// Keys of one page of a listing.
const LIST_PAGE: usize = 1000;

/// Asks the store, and waits on the caller's thread.
#[derive(Clone, Debug)]
pub(super) struct StoreBucket {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
}

impl StoreBucket {
    /// To be called within a runtime; its calls are for threads that may block.
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            runtime: Handle::current(),
        }
    }
}

fn failed(
    doing: &'static str,
    key: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> BucketError {
    BucketError {
        doing,
        key: key.to_owned(),
        source: Box::new(source),
    }
}

fn says_damaged(error: &GetError) -> bool {
    match error {
        GetError::Corrupt { .. } => true,
        GetError::Refused { source, .. } => source.is_damage(),
        _ => false,
    }
}

impl Bucket for StoreBucket {
    fn get(&mut self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, BucketError> {
        let named = Key::new(key).map_err(|error| failed("get", key, error))?;
        match self.runtime.block_on(self.store.get(&named, range, PURPOSE)) {
            Ok(object) => Ok(Some(object.bytes)),
            Err(GetError::NotFound { .. }) => Ok(None),
            // It ends before the range.
            Err(GetError::OutOfRange { .. }) => Ok(Some(Bytes::new())),
            Err(error) if says_damaged(&error) => {
                warn!(key, error = %error, "the store itself finds an object damaged");
                Ok(Some(Bytes::new()))
            }
            Err(error) => Err(failed("get", key, error)),
        }
    }

    fn list(&mut self, prefix: &str) -> Result<Vec<(String, u64)>, BucketError> {
        let mut listed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(prefix, after.as_deref(), LIST_PAGE, PURPOSE);
            let page = self
                .runtime
                .block_on(page)
                .map_err(|error| failed("list", prefix, error))?;
            let found = page.entries.iter();
            listed.extend(found.map(|entry| (entry.key.as_str().to_owned(), entry.size_bytes)));
            match page.entries.last() {
                Some(last) if page.more => after = Some(last.key.as_str().to_owned()),
                Some(_) | None => return Ok(listed),
            }
        }
    }
}
