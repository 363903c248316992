//! The port: keys, etags, the [`ObjectStore`] trait and its errors.

use std::borrow::Borrow;
use std::fmt::{self, Debug, Display};
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A bucket of objects with compare-and-swap.
///
/// Promises every implementation keeps, and [`probe`](crate::probe()) checks:
///
/// * of any number of concurrent [`put_if_absent`](Self::put_if_absent) of one key, exactly one succeeds;
/// * a [`put_if_match`](Self::put_if_match) succeeds only while the object carries the expected etag;
/// * a put that was answered is seen by every later get and list;
/// * a get returns all the bytes it says it does, or an error.
///
/// A put that ends in [`PutError::Unavailable`] may have happened, and may still happen later.
#[async_trait]
pub trait ObjectStore: Send + Sync + Debug {
    /// Creates `key`, refusing to replace it.
    ///
    /// # Errors
    /// [`PutError::Exists`] when another object has the key.
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError>;

    /// Replaces `key` if it still carries the etag `expected`.
    ///
    /// # Errors
    /// [`PutError::Stale`] when it carries another one or does not exist.
    async fn put_if_match(
        &self,
        key: &Key,
        expected: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError>;

    /// Reads `key`, or the bytes `range` of it.
    ///
    /// A range that ends past the object is clipped to the object's end, so `bytes.len()` is always
    /// `min(range.end, total_bytes) - range.start`.
    ///
    /// # Errors
    /// [`GetError::NotFound`]; [`GetError::OutOfRange`] when `range` is empty or starts at or past the end;
    /// [`GetError::Short`] or [`GetError::Corrupt`] when the answer was not what the store had announced.
    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError>;

    /// Lists the keys that begin with `prefix`, in ascending byte order, those after `after` only.
    ///
    /// * `prefix`: any string, empty for all; it need not end at a `/`.
    /// * `after`: a key, itself not returned; pass the last key of the previous page to go on.
    /// * `limit`: most entries to return, 1 and up. An implementation may return fewer and still say `more`.
    ///
    /// # Errors
    /// [`ListError`]; never a page that looks complete and is not.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError>;

    /// Deletes `key`. A key that does not exist is a success.
    ///
    /// # Errors
    /// [`DeleteError`]; the object may be gone all the same.
    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError>;
}

/// The name of an object: 1–900 bytes of UTF-8, parts separated by single slashes, no `.` or `..` part and no
/// control character.
///
/// Stricter than S3, so that no client, proxy or file system on the way reads a key differently.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// Longest [`Key`], in bytes: S3's 1,024 less room for a configured prefix.
pub const KEY_BYTES_MAX: usize = 900;

/// Why a string is no [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or more than [`KEY_BYTES_MAX`] bytes.
    #[error("object key of {bytes} bytes, must be 1 to {KEY_BYTES_MAX}")]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// A part between slashes is empty, `.` or `..`.
    #[error("object key {key:?} has the part {part:?}")]
    Part {
        /// The whole string.
        key: String,
        /// The offending part.
        part: String,
    },
    /// A control character, which XML listings cannot carry.
    #[error("object key {key:?} has a control character")]
    Control {
        /// The whole string.
        key: String,
    },
}

impl Key {
    /// Checks `key` and wraps it.
    ///
    /// # Errors
    /// [`KeyError`] says which rule it breaks.
    pub fn new(key: impl Into<String>) -> Result<Self, KeyError> {
        let key = key.into();
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(KeyError::Length { bytes: key.len() });
        }
        if key.chars().any(char::is_control) {
            return Err(KeyError::Control { key });
        }
        if let Some(part) = key.split('/').find(|part| matches!(*part, "" | "." | "..")) {
            let part = part.to_owned();
            return Err(KeyError::Part { key, part });
        }
        Ok(Self(key))
    }

    /// The key as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(key: String) -> Result<Self, KeyError> {
        Self::new(key)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

/// An object's compare-and-swap token, exactly as the store gave it (S3's carry their quotes).
///
/// Equal etags mean equal content; nothing else may be read from one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// Wraps a token that a store gave.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a request is for, e.g. `Purpose("backup_block")`: a label of the metrics, from a bounded set, never an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Purpose(pub &'static str);

impl Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An object, or a range of one.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    /// The bytes asked for.
    pub bytes: Bytes,
    /// The version that `bytes` are of.
    pub etag: ETag,
    /// Size of the whole object.
    pub total_bytes: u64,
}

impl Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Megabytes of content stay out of logs.
        f.debug_struct("Object")
            .field("bytes", &self.bytes.len())
            .field("etag", &self.etag)
            .field("total_bytes", &self.total_bytes)
            .finish()
    }
}

/// One part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Ascending by key.
    pub entries: Vec<Entry>,
    /// Whether keys remain after the last entry.
    pub more: bool,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its size.
    pub size_bytes: u64,
    /// Its version.
    pub etag: ETag,
    /// When the store says it was written. For people and for grace periods in days; orders nothing.
    pub modified: jiff::Timestamp,
}

/// What a caller can do about an error. Outer layers branch on this and on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The same call may succeed later.
    Retry,
    /// Somebody else changed the object: give up, or load it and decide again.
    Stop,
    /// The call, the credentials or the configuration must change first.
    FixRequest,
    /// The stored data is damaged.
    FixData,
    /// The store broke its own protocol: a person must look.
    Report,
}

/// How a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// No answer in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The deadline that passed.
        after: Duration,
    },
    /// The connection could not be made, or broke.
    #[error("connection: {message}")]
    Connection {
        /// The transport's chain of reasons.
        message: String,
    },
    /// The store said that it cannot at the moment.
    #[error("status {status} {code}")]
    Status {
        /// HTTP status, 429 or 5xx.
        status: u16,
        /// S3 error code, e.g. `SlowDown`; empty when there was none.
        code: String,
    },
}

/// S3 error code by which a store says that what it keeps is not what was put. Not of S3's own: our embedded endpoint
/// answers it, with status 422, so that no client takes the loss for an outage and asks for ever.
pub const OBJECT_DAMAGED: &str = "ObjectDamaged";

/// A store's answer that the same request will get again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("status {status} {code}: {message}")]
pub struct Refusal {
    /// HTTP status; 0 when the request could not even be built.
    pub status: u16,
    /// S3 error code, e.g. `AccessDenied`.
    pub code: String,
    /// The store's sentence.
    pub message: String,
}

impl Refusal {
    /// Tells whether the store says that it has lost what was put.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.code == OBJECT_DAMAGED
    }

    /// What the caller can do.
    fn remedy(&self) -> Remedy {
        if self.is_damage() {
            Remedy::FixData
        } else {
            Remedy::FixRequest
        }
    }
}

/// Why a put was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The key is taken.
    #[error("put {key}: it exists already{}", aside(.maybe_applied))]
    Exists {
        /// The key.
        key: Key,
        /// An attempt went unanswered before: this body may have stood under the key for a while, and may have
        /// been deleted and replaced since. Never set when the object that stands there is this put's own.
        maybe_applied: bool,
    },
    /// The object does not carry the expected etag, or is gone.
    #[error("put {key}: it changed since it was read{}", aside(.maybe_applied))]
    Stale {
        /// The key.
        key: Key,
        /// As in [`PutError::Exists`]: this body may have been current for a moment, and others may have seen it.
        maybe_applied: bool,
    },
    /// The store kept answering that a conflicting request is running.
    #[error("put {key}: conflicting requests after {attempts} attempts")]
    Conflict {
        /// The key.
        key: Key,
        /// Attempts made.
        attempts: u32,
    },
    /// Nobody knows whether the put happened; it may even happen later.
    #[error("put {key}: not confirmed after {attempts} attempts")]
    Unavailable {
        /// The key.
        key: Key,
        /// Attempts made.
        attempts: u32,
        /// What the last attempt met.
        #[source]
        source: Outage,
    },
    /// The store will not take it.
    #[error("put {key}: refused")]
    Refused {
        /// The key.
        key: Key,
        /// Its answer.
        #[source]
        source: Refusal,
    },
}

fn aside(maybe_applied: &bool) -> &'static str {
    if *maybe_applied {
        " (an earlier attempt may have been applied and replaced)"
    } else {
        ""
    }
}

impl PutError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Exists { .. } | Self::Stale { .. } => Remedy::Stop,
            Self::Conflict { .. } | Self::Unavailable { .. } => Remedy::Retry,
            Self::Refused { source, .. } => source.remedy(),
        }
    }
}

/// Why a get returned nothing.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No such object.
    #[error("get {key}: not found")]
    NotFound {
        /// The key.
        key: Key,
    },
    /// The range is empty, or starts at or past the object's end.
    #[error("get {key}: range {start}..{end} lies outside its {total_bytes} bytes")]
    OutOfRange {
        /// The key.
        key: Key,
        /// First byte asked for.
        start: u64,
        /// End of the range asked for.
        end: u64,
        /// Size of the object; 0 when the store did not say.
        total_bytes: u64,
    },
    /// Every attempt brought fewer bytes, or others, than announced.
    #[error("get {key}: {got_bytes} bytes came of {expected_bytes}")]
    Short {
        /// The key.
        key: Key,
        /// Bytes announced or asked for.
        expected_bytes: u64,
        /// Bytes received by the last attempt.
        got_bytes: u64,
    },
    /// Every attempt brought bytes that do not have the CRC-32 stored with the object.
    #[error("get {key}: crc32 {found:08x}, stored with {expected:08x}")]
    Corrupt {
        /// The key.
        key: Key,
        /// CRC-32 recorded at the put.
        expected: u32,
        /// CRC-32 of what came.
        found: u32,
    },
    /// The store did not answer in time.
    #[error("get {key}: no answer after {attempts} attempts")]
    Unavailable {
        /// The key.
        key: Key,
        /// Attempts made.
        attempts: u32,
        /// What the last attempt met.
        #[source]
        source: Outage,
    },
    /// The store will not give it.
    #[error("get {key}: refused")]
    Refused {
        /// The key.
        key: Key,
        /// Its answer.
        #[source]
        source: Refusal,
    },
}

impl GetError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NotFound { .. } => Remedy::Stop,
            Self::Short { .. } | Self::Unavailable { .. } => Remedy::Retry,
            Self::Corrupt { .. } => Remedy::FixData,
            Self::OutOfRange { .. } => Remedy::FixRequest,
            Self::Refused { source, .. } => source.remedy(),
        }
    }
}

/// Why a listing stopped.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The store did not answer in time.
    #[error("list {prefix:?}: no answer after {attempts} attempts")]
    Unavailable {
        /// The prefix asked for.
        prefix: String,
        /// Attempts made.
        attempts: u32,
        /// What the last attempt met.
        #[source]
        source: Outage,
    },
    /// The store will not list.
    #[error("list {prefix:?}: refused")]
    Refused {
        /// The prefix asked for.
        prefix: String,
        /// Its answer.
        #[source]
        source: Refusal,
    },
    /// The listing contradicts itself: out of order, outside the prefix, or "more" with nothing to go on from.
    #[error("list {prefix:?}: the store's answer makes no sense: {what}")]
    Senseless {
        /// The prefix asked for.
        prefix: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl ListError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable { .. } => Remedy::Retry,
            Self::Refused { source, .. } => source.remedy(),
            Self::Senseless { .. } => Remedy::Report,
        }
    }
}

/// Why a delete was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The store did not answer in time; the object may be gone.
    #[error("delete {key}: not confirmed after {attempts} attempts")]
    Unavailable {
        /// The key.
        key: Key,
        /// Attempts made.
        attempts: u32,
        /// What the last attempt met.
        #[source]
        source: Outage,
    },
    /// The store will not delete it.
    #[error("delete {key}: refused")]
    Refused {
        /// The key.
        key: Key,
        /// Its answer.
        #[source]
        source: Refusal,
    },
}

impl DeleteError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable { .. } => Remedy::Retry,
            Self::Refused { source, .. } => source.remedy(),
        }
    }
}

#[cfg(test)]
mod tests;
