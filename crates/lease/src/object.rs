//! A lease that is one object, changed by conditional writes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use objstore::{ETag, GetError, Key, ObjectStore, Purpose, PutError};

use crate::{
    AskError, Holder, Timing,
    recorded::{Cell, RecordLease},
};

const PURPOSE: Purpose = Purpose("lease");

/// A lease whose record is an object.
pub type ObjectLease = RecordLease<ObjectCell>;

/// An object that holds a lease's record.
#[derive(Debug, Clone)]
pub struct ObjectCell {
    store: Arc<dyn ObjectStore>,
    key: Key,
}

impl ObjectLease {
    /// Keeps a lease under a key.
    ///
    /// * `me`: what others learn of this node while it holds the lease.
    pub fn new(store: Arc<dyn ObjectStore>, key: Key, me: Holder, timing: Timing) -> Self {
        Self::in_cell(ObjectCell { store, key }, me, timing)
    }
}

#[async_trait]
impl Cell for ObjectCell {
    const HANDED: &'static str = "object/";

    fn name(&self) -> String {
        self.key.to_string()
    }

    async fn read(&self) -> Result<Option<(Bytes, String)>, AskError> {
        match self.store.get(&self.key, None, PURPOSE).await {
            Ok(object) => Ok(Some((object.bytes, object.etag.as_str().to_owned()))),
            Err(GetError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn swap(&self, seen: Option<&str>, body: Bytes) -> Result<bool, AskError> {
        let put = match seen.map(ETag::new) {
            Some(etag) => self.store.put_if_match(&self.key, &etag, body, PURPOSE).await,
            None => self.store.put_if_absent(&self.key, body, PURPOSE).await,
        };
        match put {
            Ok(_) => Ok(true),
            Err(PutError::Stale { .. } | PutError::Exists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
