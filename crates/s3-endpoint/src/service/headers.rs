//! What requests say of objects in headers: conditions, metadata, dates.

use std::collections::BTreeMap;

use http::HeaderMap;
use s3s::dto::{ETagCondition, Timestamp, TimestampFormat};
use s3s::{S3Error, S3Result, s3_error};

use crate::bucket::Condition;
use crate::object_file::Record;

/// Longest key, as on S3.
const KEY_BYTES_MAX: usize = 1_024;
/// User metadata of one object, as on S3.
const METADATA_BYTES_MAX: usize = 2 << 10;
/// Collects the headers that an object keeps, of any of the inputs that have them.
macro_rules! kept_headers {
    ($input:expr) => {{
        let mut headers = std::collections::BTreeMap::new();
        let fields = [
            ("cache-control", $input.cache_control.clone()),
            ("content-disposition", $input.content_disposition.clone()),
            (
                "content-encoding",
                crate::service::headers::real_encoding($input.content_encoding.as_deref()),
            ),
            ("content-language", $input.content_language.clone()),
            ("content-type", $input.content_type.clone()),
            (
                "expires",
                $input
                    .expires
                    .as_ref()
                    .and_then(crate::service::headers::http_date),
            ),
        ];
        for (name, value) in fields {
            headers.extend(value.map(|value| (name.to_owned(), value)));
        }
        headers
    }};
}
pub(super) use kept_headers;

/// Reads the conditions of a put. S3 knows `If-None-Match: *` and `If-Match: "etag"` there, and nothing else.
pub(super) fn put_condition(
    if_none_match: Option<&ETagCondition>,
    if_match: Option<&ETagCondition>,
) -> S3Result<Condition> {
    match (if_none_match, if_match) {
        (None, None) => Ok(Condition::None),
        (Some(ETagCondition::Any), None) => Ok(Condition::Absent),
        (None, Some(ETagCondition::ETag(etag))) => Ok(Condition::Matches(etag.value().to_owned())),
        _ => Err(s3_error!(
            NotImplemented,
            "a put takes If-None-Match: * or If-Match with one etag, not both"
        )),
    }
}

pub(super) fn check_read(
    record: &Record,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == record.etag,
    };
    if if_match.is_some_and(|condition| !is(condition)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if if_none_match.is_some_and(is) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

pub(super) fn check_dates(
    record: &Record,
    since: Option<&Timestamp>,
    until: Option<&Timestamp>,
) -> S3Result<()> {
    // HTTP dates are whole seconds.
    let modified = jiff::Timestamp::from_second(record.modified.as_second()).unwrap_or(record.modified);
    let modified = timestamp(modified);
    if until.is_some_and(|until| modified > *until) {
        return Err(s3_error!(PreconditionFailed));
    }
    if since.is_some_and(|since| modified <= *since) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

pub(super) fn unsatisfiable(total_bytes: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange, "the range is not within the object");
    let mut headers = HeaderMap::new();
    if let Ok(value) = format!("bytes */{total_bytes}").parse() {
        headers.insert(http::header::CONTENT_RANGE, value);
    }
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/xml"),
    );
    error.set_headers(headers);
    error
}

pub(super) fn check_key(key: &str) -> S3Result<()> {
    if key.len() > KEY_BYTES_MAX {
        Err(s3_error!(KeyTooLongError))
    } else {
        Ok(())
    }
}

pub(super) fn user_metadata(metadata: Option<s3s::dto::Metadata>) -> S3Result<BTreeMap<String, String>> {
    let metadata: BTreeMap<String, String> = metadata.unwrap_or_default().into_iter().collect();
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        Err(s3_error!(MetadataTooLarge))
    } else {
        Ok(metadata)
    }
}

/// Strips the transfer's own `aws-chunked` from a content encoding.
pub(super) fn real_encoding(encoding: Option<&str>) -> Option<String> {
    let kept: Vec<&str> = encoding?
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty() && *one != "aws-chunked")
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn http_date(date: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    date.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

pub(super) fn timestamp(time: jiff::Timestamp) -> Timestamp {
    Timestamp::from(std::time::SystemTime::from(time))
}
