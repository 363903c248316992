//! Operations on objects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, MetadataDirective, PutObjectInput, PutObjectOutput, StreamingBlob,
    Timestamp, TimestampFormat,
};
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::headers::{
    check_dates, check_key, check_read, kept_headers, put_condition, timestamp, unsatisfiable, user_metadata,
};
use super::{Service, blocking};
use crate::bucket::{Bucket, Condition, Temporary, doing};
use crate::checksum::Claims;
use crate::endpoint::State;
use crate::object_file::{Digest, ObjectReader, ObjectWriter, Record};

/// Up to here an answer is read and checked as a whole before its first byte is sent.
const CHECKED_FIRST_BYTES: u64 = 16 << 20;
/// Beyond, in pieces of this.
const PIECE_BYTES: u64 = 1 << 20;
/// How much of a body is gathered before a thread is asked to write it.
const GATHER_BYTES: usize = 1 << 20;

/// Fills the fields that a get and a head answer alike.
macro_rules! described {
    ($output:ident, $record:expr, $with_checksums:expr) => {{
        let record: &Record = $record;
        let header = |name: &str| record.headers.get(name).cloned();
        let checksum = |name: &str| record.checksums.get(name).filter(|_| $with_checksums).cloned();
        $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: header("cache-control"),
            checksum_crc32: checksum("crc32"),
            checksum_crc32c: checksum("crc32c"),
            checksum_crc64nvme: checksum("crc64nvme"),
            checksum_sha1: checksum("sha1"),
            checksum_sha256: checksum("sha256"),
            content_disposition: header("content-disposition"),
            content_encoding: header("content-encoding"),
            content_language: header("content-language"),
            content_type: Some(header("content-type").unwrap_or_else(|| "binary/octet-stream".to_owned())),
            e_tag: Some(ETag::Strong(record.etag.clone())),
            expires: header("expires")
                .and_then(|date| Timestamp::parse(TimestampFormat::HttpDate, &date).ok()),
            last_modified: Some(timestamp(record.modified)),
            metadata: Some(record.metadata.clone().into_iter().collect()),
            ..$output::default()
        }
    }};
}

pub(super) async fn put(
    service: &Service,
    request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let S3Request {
        input,
        headers,
        trailing_headers,
        ..
    } = request;
    let bucket = service.bucket(&input.bucket)?;
    let condition = put_condition(input.if_none_match.as_ref(), input.if_match.as_ref())?;
    let kept = kept_headers!(input);
    let metadata = user_metadata(input.metadata)?;
    check_key(&input.key)?;
    let received = receive(service, &bucket, input.body, &headers, trailing_headers).await?;
    let record = Record {
        key: input.key,
        etag: single_etag(&received.digest),
        modified: bucket.clock.now(),
        headers: kept,
        metadata,
        checksums: received.checksums.clone(),
    };
    let checksum = |name: &str| received.checksums.get(name).cloned();
    let output = PutObjectOutput {
        e_tag: Some(ETag::Strong(record.etag.clone())),
        checksum_crc32: checksum("crc32"),
        checksum_crc32c: checksum("crc32c"),
        checksum_crc64nvme: checksum("crc64nvme"),
        checksum_sha1: checksum("sha1"),
        checksum_sha256: checksum("sha256"),
        ..PutObjectOutput::default()
    };
    let Received {
        staged,
        writer,
        digest,
        ..
    } = received;
    // Once begun this runs to its end, even if the client is gone: a put is done or not done, never half.
    service
        .blocking(move || {
            writer.finish(&record).map_err(doing("finish an object"))?;
            bucket.commit(staged, &record, &digest, &condition)
        })
        .await??;
    Ok(S3Response::new(output))
}

/// A body in its temporary file, checked against what the client said of it.
pub(super) struct Received {
    pub(super) staged: Temporary,
    pub(super) writer: ObjectWriter,
    pub(super) digest: Digest,
    pub(super) checksums: BTreeMap<String, String>,
}

/// Receives a body into a temporary file.
pub(super) async fn receive(
    service: &Service,
    bucket: &Arc<Bucket>,
    body: Option<StreamingBlob>,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> S3Result<Received> {
    let mut claims = Claims::of(headers);
    let mut hashers = claims.hashers();
    let staging = Arc::clone(bucket);
    let (staged, mut writer) = service.blocking(move || staging.stage()).await??;
    let mut gathered: Vec<Bytes> = Vec::new();
    let mut gathered_bytes = 0;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                let message = format!("the body broke off, or is not what its signature says: {error}");
                s3_error!(IncompleteBody, "{message}")
            })?;
            gathered_bytes += chunk.len();
            gathered.push(chunk);
            if gathered_bytes >= GATHER_BYTES {
                let chunks = std::mem::take(&mut gathered);
                (writer, hashers) = write(service, writer, hashers, chunks).await?;
                gathered_bytes = 0;
            }
        }
    }
    (writer, hashers) = write(service, writer, hashers, gathered).await?;
    if let Some(trailers) = trailers.and_then(|trailers| trailers.take()) {
        claims.add(&trailers);
    }
    let digest = writer.digest();
    let checksums = claims.verify(hashers, digest.crc32).map_err(|mismatch| {
        let message = mismatch.to_string();
        s3_error!(BadDigest, "{message}")
    })?;
    Ok(Received {
        staged,
        writer,
        digest,
        checksums,
    })
}

async fn write(
    service: &Service,
    mut writer: ObjectWriter,
    mut hashers: crate::checksum::Hashers,
    chunks: Vec<Bytes>,
) -> S3Result<(ObjectWriter, crate::checksum::Hashers)> {
    let written = service.blocking(move || {
        for chunk in chunks {
            hashers.update(&chunk);
            writer.write(&chunk).map_err(doing("write an object"))?;
        }
        Ok::<_, crate::bucket::BucketError>((writer, hashers))
    });
    Ok(written.await??)
}

pub(super) async fn get(
    service: &Service,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = request.input;
    if input.part_number.is_some_and(|number| number != 1) {
        return Err(s3_error!(
            NotImplemented,
            "objects are read by range, not by part"
        ));
    }
    let reader = open(service, &input.bucket, input.key).await?;
    let record = reader.record();
    check_read(record, input.if_match.as_ref(), input.if_none_match.as_ref())?;
    check_dates(
        record,
        input.if_modified_since.as_ref(),
        input.if_unmodified_since.as_ref(),
    )?;
    let total = reader.data_bytes();
    let range = match &input.range {
        Some(range) => range.check(total).map_err(|_| unsatisfiable(total))?,
        None => 0..total,
    };
    let whole = range == (0..total);
    let with_checksums = whole && input.checksum_mode.is_some();
    let mut output = described!(GetObjectOutput, record, with_checksums);
    output.content_length = i64::try_from(range.end - range.start).ok();
    if input.range.is_some() {
        output.content_range = Some(format!(
            "bytes {}-{}/{total}",
            range.start,
            range.end.saturating_sub(1)
        ));
    }
    output.body = Some(body_of(&service.0, Arc::clone(&reader), range).await?);
    Ok(S3Response::new(output))
}

/// Reads a range for an answer: what fits is checked before the answer begins; of longer ones each piece is checked
/// before it is sent, and a damaged one breaks the connection off.
async fn body_of(
    state: &Arc<State>,
    reader: Arc<ObjectReader>,
    range: Range<u64>,
) -> S3Result<StreamingBlob> {
    if range.end - range.start <= CHECKED_FIRST_BYTES {
        let bytes = blocking(state, move || reader.read(range)).await?;
        let bytes = bytes.map_err(|error| S3Error::from(crate::bucket::BucketError::Damaged(error)))?;
        return Ok(StreamingBlob::from(Body::from(bytes)));
    }
    let pieces = stream::try_unfold(
        (Arc::clone(state), reader, range),
        |(state, reader, left)| async move {
            if left.is_empty() {
                return Ok(None);
            }
            let (from, to) = (left.start, (left.start + PIECE_BYTES).min(left.end));
            let reading = Arc::clone(&reader);
            let bytes = blocking(&state, move || reading.read(from..to))
                .await
                .map_err(std::io::Error::other)?;
            let bytes = bytes.map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "answer was broken off");
                std::io::Error::other(error)
            })?;
            Ok::<_, std::io::Error>(Some((bytes, (state, reader, to..left.end))))
        },
    );
    Ok(StreamingBlob::wrap(pieces))
}

pub(super) async fn head(
    service: &Service,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = request.input;
    let reader = open(service, &input.bucket, input.key).await?;
    let record = reader.record();
    check_read(record, input.if_match.as_ref(), input.if_none_match.as_ref())?;
    check_dates(
        record,
        input.if_modified_since.as_ref(),
        input.if_unmodified_since.as_ref(),
    )?;
    let mut output = described!(HeadObjectOutput, record, input.checksum_mode.is_some());
    output.content_length = i64::try_from(reader.data_bytes()).ok();
    Ok(S3Response::new(output))
}

async fn open(service: &Service, bucket: &str, key: String) -> S3Result<Arc<ObjectReader>> {
    let bucket = service.bucket(bucket)?;
    check_key(&key)?;
    Ok(Arc::new(service.blocking(move || bucket.read(&key)).await??))
}

pub(super) async fn copy(
    service: &Service,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let credential = service.credential(&request)?;
    let input = request.input;
    let CopySource::Bucket {
        bucket: source_bucket,
        key: source_key,
        version_id: None,
    } = &input.copy_source
    else {
        return Err(s3_error!(NotImplemented, "a copy's source is a bucket and a key"));
    };
    if !source_key.starts_with(&credential.prefix) {
        return Err(s3_error!(
            AccessDenied,
            "outside the key prefix of this access key"
        ));
    }
    check_key(&input.key)?;
    let bucket = service.bucket(&input.bucket)?;
    let source = open(service, source_bucket, source_key.to_string()).await?;
    check_read(
        source.record(),
        input.copy_source_if_match.as_ref(),
        input.copy_source_if_none_match.as_ref(),
    )
    .map_err(|_| s3_error!(PreconditionFailed))?;
    let replace = matches!(&input.metadata_directive, Some(directive) if directive.as_str() == MetadataDirective::REPLACE);
    let (headers, metadata) = if replace {
        (kept_headers!(input), user_metadata(input.metadata)?)
    } else if **source_bucket == *input.bucket && **source_key == *input.key {
        return Err(s3_error!(
            InvalidRequest,
            "a copy onto itself must replace the metadata"
        ));
    } else {
        (source.record().headers.clone(), source.record().metadata.clone())
    };
    let key = input.key;
    let record = service
        .blocking(move || {
            let (staged, mut writer) = bucket.stage()?;
            let mut at = 0;
            while at < source.data_bytes() {
                let end = (at + PIECE_BYTES).min(source.data_bytes());
                let bytes = source
                    .read(at..end)
                    .map_err(crate::bucket::BucketError::Damaged)?;
                writer.write(&bytes).map_err(doing("write a copy"))?;
                at = end;
            }
            let digest = writer.digest();
            let etag = single_etag(&digest);
            let checksums = source.record().checksums.clone();
            let record = Record {
                key,
                etag,
                modified: bucket.clock.now(),
                headers,
                metadata,
                checksums,
            };
            writer.finish(&record).map_err(doing("finish a copy"))?;
            bucket.commit(staged, &record, &digest, &Condition::None)?;
            Ok::<_, crate::bucket::BucketError>(record)
        })
        .await??;
    let result = CopyObjectResult {
        e_tag: Some(ETag::Strong(record.etag)),
        last_modified: Some(timestamp(record.modified)),
        ..CopyObjectResult::default()
    };
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        ..CopyObjectOutput::default()
    }))
}

pub(super) async fn delete(
    service: &Service,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    check_key(&input.key)?;
    let condition = put_condition(None, input.if_match.as_ref())?;
    service
        .blocking(move || bucket.delete(&input.key, &condition))
        .await??;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn delete_many(
    service: &Service,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let credential = service.credential(&request)?;
    let bucket = service.bucket(&request.input.bucket)?;
    let delete = request.input.delete;
    if delete.objects.is_empty() || delete.objects.len() > 1_000 {
        return Err(s3_error!(MalformedXML, "1 to 1000 keys at once"));
    }
    let quiet = delete.quiet.unwrap_or(false);
    let output = service
        .blocking(move || {
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in delete.objects {
                let result = match &object.e_tag {
                    _ if !object.key.starts_with(&credential.prefix) => Err(s3_error!(
                        AccessDenied,
                        "outside the key prefix of this access key"
                    )),
                    Some(etag) => bucket
                        .delete(&object.key, &Condition::Matches(etag.value().to_owned()))
                        .map_err(S3Error::from),
                    None => bucket
                        .delete(&object.key, &Condition::None)
                        .map_err(S3Error::from),
                };
                match result {
                    Ok(()) if quiet => {}
                    Ok(()) => deleted.push(DeletedObject {
                        key: Some(object.key),
                        ..DeletedObject::default()
                    }),
                    Err(error) => errors.push(s3s::dto::Error {
                        code: Some(error.code().as_str().to_owned()),
                        key: Some(object.key),
                        message: error.message().map(str::to_owned),
                        version_id: None,
                    }),
                }
            }
            DeleteObjectsOutput {
                deleted: Some(deleted),
                errors: Some(errors),
                request_charged: None,
            }
        })
        .await?;
    Ok(S3Response::new(output))
}

/// The etag of an object or a part that was put at once: of its content, and marked as those of multipart objects are,
/// since clients such as s3cmd take any other for the MD5 and compare.
pub(super) fn single_etag(digest: &Digest) -> String {
    format!("{}-1", digest.hash)
}
