//! Listings of objects.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, ObjectStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Service;
use super::headers::timestamp;
use crate::bucket::Indexed;
use crate::listing::{After, Item, Query};

/// Most entries of a page, as on S3.
const PAGE_MAX: i32 = 1_000;

/// A page, as both versions of the operation answer it.
struct Page {
    contents: Vec<Object>,
    common_prefixes: Vec<CommonPrefix>,
    next: Option<After>,
}

pub(super) async fn list_v2(
    service: &Service,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let credential = service.credential(&request)?;
    let input = request.input;
    let after = match &input.continuation_token {
        Some(token) => Some(
            After::from_token(token).ok_or_else(|| s3_error!(InvalidArgument, "not a continuation token"))?,
        ),
        None => input.start_after.clone().map(After::Key),
    };
    let encode = encoder(input.encoding_type.as_ref());
    let query = query(
        input.prefix.as_ref(),
        input.delimiter.as_ref(),
        after,
        input.max_keys,
    )?;
    let page = page(service, &input.bucket, &query, credential.prefix, encode).await?;
    let key_count = i32::try_from(page.contents.len() + page.common_prefixes.len()).ok();
    let output = ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encode(&prefix)),
        delimiter: input.delimiter.map(|delimiter| encode(&delimiter)),
        start_after: input.start_after.map(|start| encode(&start)),
        max_keys: i32::try_from(query.limit).ok(),
        key_count,
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|next| next.to_token()),
        contents: Some(page.contents),
        common_prefixes: Some(page.common_prefixes),
        encoding_type: input.encoding_type,
        request_charged: None,
    };
    Ok(S3Response::new(output))
}

pub(super) async fn list_v1(
    service: &Service,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let credential = service.credential(&request)?;
    let input = request.input;
    let delimiter = input.delimiter.clone().unwrap_or_default();
    // A marker that a page ended on may be a common prefix: then all of its keys were listed.
    let after = input
        .marker
        .clone()
        .filter(|marker| !marker.is_empty())
        .map(|marker| {
            if !delimiter.is_empty() && marker.ends_with(&delimiter) {
                After::CommonPrefix(marker)
            } else {
                After::Key(marker)
            }
        });
    let encode = encoder(input.encoding_type.as_ref());
    let query = query(
        input.prefix.as_ref(),
        input.delimiter.as_ref(),
        after,
        input.max_keys,
    )?;
    let page = page(service, &input.bucket, &query, credential.prefix, encode).await?;
    let next_marker = page.next.as_ref().map(|next| match next {
        After::Key(marker) | After::CommonPrefix(marker) => encode(marker),
    });
    let output = ListObjectsOutput {
        name: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encode(&prefix)),
        marker: Some(input.marker.map(|marker| encode(&marker)).unwrap_or_default()),
        max_keys: i32::try_from(query.limit).ok(),
        is_truncated: Some(page.next.is_some()),
        contents: Some(page.contents),
        common_prefixes: Some(page.common_prefixes),
        delimiter: input.delimiter.map(|delimiter| encode(&delimiter)),
        next_marker,
        encoding_type: input.encoding_type,
        request_charged: None,
    };
    Ok(S3Response::new(output))
}

fn query(
    prefix: Option<&String>,
    delimiter: Option<&String>,
    after: Option<After>,
    max_keys: Option<i32>,
) -> S3Result<Query> {
    let max_keys = max_keys.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let limit = usize::try_from(max_keys).map_err(|_| s3_error!(InvalidArgument, "max-keys is negative"))?;
    Ok(Query {
        prefix: prefix.cloned().unwrap_or_default(),
        delimiter: delimiter.cloned().unwrap_or_default(),
        after,
        limit,
    })
}

async fn page(
    service: &Service,
    bucket: &str,
    query: &Query,
    visible_prefix: String,
    encode: fn(&str) -> String,
) -> S3Result<Page> {
    let bucket = service.bucket(bucket)?;
    if query.limit == 0 {
        return Ok(Page {
            contents: Vec::new(),
            common_prefixes: Vec::new(),
            next: None,
        });
    }
    let query = query.clone();
    let listed = move || {
        let visible = |key: &str| key.starts_with(&visible_prefix);
        bucket.list(&query, visible, |items, more| of_items(items, more, encode))
    };
    Ok(service.blocking(listed).await??)
}

fn of_items(items: Vec<Item<'_, Indexed>>, more: bool, encode: fn(&str) -> String) -> Page {
    let next = items.last().filter(|_| more).map(Item::after);
    let (mut contents, mut common_prefixes) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Object(key, indexed) => contents.push(object(encode(key), indexed)),
            Item::CommonPrefix(prefix) => common_prefixes.push(CommonPrefix {
                prefix: Some(encode(&prefix)),
            }),
        }
    }
    Page {
        contents,
        common_prefixes,
        next,
    }
}

fn object(key: String, indexed: &Indexed) -> Object {
    Object {
        key: Some(key),
        size: i64::try_from(indexed.size_bytes).ok(),
        e_tag: Some(ETag::Strong(indexed.etag.clone())),
        last_modified: Some(timestamp(indexed.modified)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Object::default()
    }
}

/// How keys are written: as they are, or with `encoding-type=url`, which lets XML carry control characters.
pub(super) fn encoder(wanted: Option<&EncodingType>) -> fn(&str) -> String {
    if wanted.is_some_and(|wanted| wanted.as_str() == EncodingType::URL) {
        percent_encode
    } else {
        str::to_owned
    }
}

/// What RFC 3986 calls unreserved stays as it is, and the slashes of keys.
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}
