//! PAX extended headers: `length key=value` records. Pure.

use std::collections::BTreeMap;

use crate::erofs::FileTime;

const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// The records of one extended header; a later one replaces an earlier one of the same key.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

/// Parses an extended header; `None` when it is malformed.
///
/// Records are found by their stated lengths, since values may hold line feeds.
pub(super) fn parse(mut bytes: &[u8]) -> Option<Records> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() && bytes[0] != 0 {
        let digits = bytes.iter().position(|byte| *byte == b' ')?;
        let len: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
        let record = bytes.get(digits + 1..len)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (record[..equals].to_vec(), record[equals + 1..].to_vec());
        if value.is_empty() && !key.starts_with(XATTR_PREFIX.as_bytes()) {
            // An empty value takes a record back.
            records.remove(&key);
        } else {
            records.insert(key, value);
        }
        bytes = &bytes[len..];
    }
    Some(Records(records))
}

impl Records {
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// A decimal number; the error is the key.
    pub(super) fn number(&self, key: &'static str) -> Result<Option<u64>, &'static str> {
        let parsed = self
            .get(key)
            .map(|value| std::str::from_utf8(value).ok()?.parse().ok());
        parsed.map(|value| value.ok_or(key)).transpose()
    }

    /// A decimal time with an optional fraction; times before 1970 become 1970. The error is the key.
    pub(super) fn time(&self, key: &'static str) -> Result<Option<FileTime>, &'static str> {
        self.get(key)
            .map(|value| parse_time(value).ok_or(key))
            .transpose()
    }

    pub(super) fn xattrs(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let named = self.0.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix(XATTR_PREFIX.as_bytes())?.to_vec(), value.clone()))
        });
        named.collect()
    }

    /// The size of a sparse file in one of GNU tar's PAX forms.
    pub(super) fn sparse_size(&self) -> Option<u64> {
        let size = self
            .get("GNU.sparse.realsize")
            .or_else(|| self.get("GNU.sparse.size"))?;
        std::str::from_utf8(size).ok()?.parse().ok()
    }
}

fn parse_time(value: &[u8]) -> Option<FileTime> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let Ok(seconds) = u64::try_from(seconds) else {
        return Some(FileTime::default());
    };
    let nine_digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some(FileTime {
        seconds,
        nanoseconds: nine_digits.parse().ok()?,
    })
}
