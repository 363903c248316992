//! Where a disk's objects come from.

use std::{collections::BTreeMap, error::Error, ops::Range};

use bytes::Bytes;
use log_disk::{DiskId, ObjectName, Role};

/// A request that the store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {key}: {source}")]
pub struct BucketError {
    /// What was asked for: `get` or `list`.
    pub doing: &'static str,
    /// Of what.
    pub key: String,
    /// What went wrong.
    pub source: Box<dyn Error + Send + Sync>,
}

/// Objects by their keys. Answers are definite: who implements it asks again as long as that may help.
pub trait Bucket {
    /// Returns an object, or a range of it that ends where the object ends; `None` when there is none. One that the store itself
    /// finds damaged has no bytes.
    ///
    /// # Errors
    ///
    /// When the store does not say.
    fn get(&mut self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, BucketError>;

    /// Returns all keys that begin so, with the objects' sizes in bytes.
    ///
    /// # Errors
    ///
    /// When the store does not say.
    fn list(&mut self, prefix: &str) -> Result<Vec<(String, u64)>, BucketError>;
}

/// What there is of a disk.
#[derive(Debug, Default)]
pub struct Listed {
    /// Objects and their sizes in bytes.
    pub objects: BTreeMap<ObjectName, u64>,
    /// Keys in the disk's folders that are no names of objects.
    pub strangers: Vec<String>,
}

impl Listed {
    /// Lists a disk.
    ///
    /// # Errors
    ///
    /// When the store does not say.
    pub fn of(bucket: &mut dyn Bucket, disk: DiskId) -> Result<Self, BucketError> {
        let mut listed = Self::default();
        for role in [Role::Data, Role::Gc, Role::Checkpoint] {
            let prefix = ObjectName::prefix(disk, role);
            for (key, bytes) in bucket.list(&prefix)? {
                let name = key
                    .strip_prefix(&prefix)
                    .and_then(|rest| ObjectName::parse(role, rest));
                match name {
                    Some(name) => drop(listed.objects.insert(name, bytes)),
                    None => listed.strangers.push(key),
                }
            }
        }
        Ok(listed)
    }
}
