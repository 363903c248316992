//! One request and one answer: what the retrying store asks of a transport, and the checks on what comes back.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{ETag, Object, Outage, Refusal};

/// A transport that tries once. Keys are full keys, prefix included.
#[async_trait]
pub(crate) trait Wire: Send + Sync + Debug {
    async fn put(
        &self,
        key: &str,
        condition: &Condition,
        body: Bytes,
        stamp: &Stamp,
    ) -> Result<ETag, WireError>;
    /// Asks for an object's etag and nonce; `None` when it does not exist.
    async fn head(&self, key: &str) -> Result<Option<Head>, WireError>;
    async fn get(&self, key: &str, range: Option<&Range<u64>>) -> Result<Fetched, WireError>;
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Listed, WireError>;
    async fn delete(&self, key: &str) -> Result<(), WireError>;
}

/// Under which condition a put may change the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Absent,
    Matches(ETag),
}

/// What goes along with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Unique to one put, the same for all its attempts: tells whose object it is that stands there.
    pub(crate) nonce: String,
    /// CRC-32 of the body.
    pub(crate) crc32: u32,
}

/// What is known of an object without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) etag: ETag,
    pub(crate) nonce: Option<String>,
}

/// An answer to a get, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    pub(crate) etag: ETag,
    /// `Content-Length`.
    pub(crate) announced_bytes: Option<u64>,
    /// `Content-Range`, on partial answers.
    pub(crate) part: Option<Part>,
    /// CRC-32 of the whole object, if the store keeps one.
    pub(crate) crc32: Option<u32>,
}

/// Which part of an object an answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) range: Range<u64>,
    pub(crate) total_bytes: u64,
}

/// A page of a listing, keys as the store spells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) rows: Vec<Row>,
    pub(crate) more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) size_bytes: u64,
    pub(crate) etag: ETag,
    pub(crate) modified: jiff::Timestamp,
}

/// Why one attempt did not succeed.
#[derive(Debug)]
pub(crate) enum WireError {
    /// 412: the condition does not hold.
    Precondition,
    /// 409: a conflicting request is running.
    Conflict,
    /// 404 of an object.
    NotFound,
    /// 416, with the object's size where the store told it.
    OutOfRange { total_bytes: u64 },
    /// The body came incomplete or changed.
    Damaged(Flaw),
    /// No answer, or one that asks to come back.
    Outage(Outage),
    /// An answer that will not change.
    Refused(Refusal),
}

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    Short { expected_bytes: u64, got_bytes: u64 },
    Corrupt { expected: u32, found: u32 },
}

impl Part {
    /// Reads `bytes 0-9/100`; the end of the text is inclusive. `None` when it is anything else.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, total_bytes): (u64, u64, u64) =
            (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
        (first <= last && last < total_bytes).then(|| Self {
            range: first..last + 1,
            total_bytes,
        })
    }
}

impl Fetched {
    /// Checks that the bytes are those asked for, all of them and unchanged.
    ///
    /// A store that ignored the range and sent everything is cut to it.
    pub(crate) fn check(self, asked: Option<&Range<u64>>) -> Result<Object, WireError> {
        let got_bytes = self.bytes.len() as u64;
        let short = |expected_bytes| {
            Err(WireError::Damaged(Flaw::Short {
                expected_bytes,
                got_bytes,
            }))
        };
        if let Some(announced) = self.announced_bytes.filter(|announced| *announced != got_bytes) {
            return short(announced);
        }
        let (start, total_bytes) = match (&self.part, asked) {
            (None, _) => (0, got_bytes),
            (Some(part), None) => return short(part.total_bytes),
            (Some(part), Some(asked)) => {
                let wanted = asked.start..asked.end.min(part.total_bytes);
                let wanted_bytes = wanted.end.saturating_sub(wanted.start);
                if part.range != wanted || got_bytes != wanted_bytes {
                    return short(wanted_bytes);
                }
                (part.range.start, part.total_bytes)
            }
        };
        let whole = start == 0 && got_bytes == total_bytes;
        if let Some(expected) = self.crc32.filter(|_| whole) {
            let found = crc32fast::hash(&self.bytes);
            if found != expected {
                return Err(WireError::Damaged(Flaw::Corrupt { expected, found }));
            }
        }
        let bytes = match (&self.part, asked) {
            (None, Some(asked)) if asked.start >= total_bytes => {
                return Err(WireError::OutOfRange { total_bytes });
            }
            (None, Some(asked)) => {
                let (from, to) = (asked.start, asked.end.min(total_bytes));
                self.bytes
                    .slice(usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0))
            }
            _ => self.bytes,
        };
        Ok(Object {
            bytes,
            etag: self.etag,
            total_bytes,
        })
    }
}

/// Sorts a store's error answer.
///
/// * `code`: S3 error code, empty where the answer had none (HEAD).
pub(crate) fn classify(status: u16, code: &str, message: &str) -> WireError {
    let refusal = || {
        WireError::Refused(Refusal {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
        })
    };
    match (status, code) {
        // The bucket itself is missing: no object will ever be found there.
        (_, "NoSuchBucket") => refusal(),
        (412, _) | (_, "PreconditionFailed") => WireError::Precondition,
        (404, _) => WireError::NotFound,
        (409, "ConditionalRequestConflict" | "OperationAborted" | "") => WireError::Conflict,
        (416, _) => WireError::OutOfRange { total_bytes: 0 },
        // 501: the store lacks the feature, and will lack it in a second.
        (501, _) => refusal(),
        // The body was damaged or cut on its way up; S3 says that with a 400.
        (
            400,
            "RequestTimeout"
            | "IncompleteBody"
            | "BadDigest"
            | "XAmzContentChecksumMismatch"
            | "XAmzContentSHA256Mismatch",
        )
        | (408 | 429 | 500.., _) => WireError::Outage(Outage::Status {
            status,
            code: code.to_owned(),
        }),
        _ => refusal(),
    }
}

#[cfg(test)]
mod tests;
