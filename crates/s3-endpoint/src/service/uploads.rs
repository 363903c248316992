//! Multipart uploads.

use std::sync::Arc;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload,
    Part, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Service;
use super::headers::{check_key, kept_headers, put_condition, timestamp, user_metadata};
use super::lists::encoder;
use super::objects::{Received, receive, single_etag};
use crate::bucket::doing;
use crate::multipart::{PARTS_MAX, Upload};
use crate::object_file::Record;

pub(super) async fn create(
    service: &Service,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    check_key(&input.key)?;
    let upload = Upload {
        key: input.key.clone(),
        initiated: bucket.clock.now(),
        headers: kept_headers!(input),
        metadata: user_metadata(input.metadata)?,
    };
    let id = service.blocking(move || bucket.create_upload(&upload)).await??;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) async fn part(
    service: &Service,
    request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let S3Request {
        input,
        headers,
        trailing_headers,
        ..
    } = request;
    let bucket = service.bucket(&input.bucket)?;
    let number = u32::try_from(input.part_number)
        .ok()
        .filter(|number| (1..=PARTS_MAX).contains(number));
    let number = number.ok_or_else(|| s3_error!(InvalidArgument, "part numbers are 1 to 10000"))?;
    let (id, key) = (input.upload_id, input.key);
    {
        // Before the body is received: an upload that is not there is not worth it.
        let (bucket, id, key) = (Arc::clone(&bucket), id.clone(), key.clone());
        service.blocking(move || bucket.upload(&id, &key)).await??;
    }
    let received = receive(service, &bucket, input.body, &headers, trailing_headers).await?;
    let Received {
        staged,
        writer,
        digest,
        checksums,
    } = received;
    let checksum = |name: &str| checksums.get(name).cloned();
    let etag = single_etag(&digest);
    let output = UploadPartOutput {
        e_tag: Some(ETag::Strong(etag.clone())),
        checksum_crc32: checksum("crc32"),
        checksum_crc32c: checksum("crc32c"),
        checksum_crc64nvme: checksum("crc64nvme"),
        checksum_sha1: checksum("sha1"),
        checksum_sha256: checksum("sha256"),
        ..UploadPartOutput::default()
    };
    let record = Record {
        key: key.clone(),
        etag,
        modified: bucket.clock.now(),
        headers: Default::default(),
        metadata: Default::default(),
        checksums,
    };
    service
        .blocking(move || {
            writer.finish(&record).map_err(doing("finish a part"))?;
            bucket.commit_part(&id, &key, number, staged)
        })
        .await??;
    Ok(S3Response::new(output))
}

pub(super) async fn complete(
    service: &Service,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    let condition = put_condition(input.if_none_match.as_ref(), input.if_match.as_ref())?;
    let mut wanted = Vec::new();
    for part in input
        .multipart_upload
        .and_then(|upload| upload.parts)
        .unwrap_or_default()
    {
        let number = part.part_number.and_then(|number| u32::try_from(number).ok());
        let (Some(number), Some(etag)) = (number, part.e_tag) else {
            return Err(s3_error!(MalformedXML, "each part needs a number and an etag"));
        };
        wanted.push((number, etag.into_value()));
    }
    let size_bytes = input.mpu_object_size.map(u64::try_from).transpose();
    let size_bytes = size_bytes.map_err(|_| s3_error!(InvalidArgument, "the object's size is negative"))?;
    let (id, key) = (input.upload_id, input.key.clone());
    let (record, digest) = service
        .blocking(move || bucket.complete_upload(&id, &key, &wanted, size_bytes, &condition))
        .await??;
    tracing::debug!(key = %record.key, size_bytes = digest.data_bytes, "upload was completed");
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(record.etag)),
        checksum_crc32: record.checksums.get("crc32").cloned(),
        ..CompleteMultipartUploadOutput::default()
    }))
}

pub(super) async fn abort(
    service: &Service,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    service
        .blocking(move || {
            bucket.upload(&input.upload_id, &input.key)?;
            bucket.abort_upload(&input.upload_id)
        })
        .await??;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(super) async fn list_parts(
    service: &Service,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    let after = input
        .part_number_marker
        .and_then(|marker| u32::try_from(marker).ok())
        .unwrap_or(0);
    let limit = input
        .max_parts
        .and_then(|max| usize::try_from(max).ok())
        .unwrap_or(1_000)
        .min(1_000);
    let (id, key) = (input.upload_id.clone(), input.key.clone());
    let mut parts = service.blocking(move || bucket.parts(&id, &key)).await??;
    parts.retain(|part| part.number > after);
    let more = parts.len() > limit;
    parts.truncate(limit);
    let last = parts.last().and_then(|part| i32::try_from(part.number).ok());
    let parts = parts.into_iter().map(|part| Part {
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(timestamp(part.modified)),
        part_number: i32::try_from(part.number).ok(),
        size: i64::try_from(part.size_bytes).ok(),
        ..Part::default()
    });
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        parts: Some(parts.collect()),
        is_truncated: Some(more),
        max_parts: i32::try_from(limit).ok(),
        part_number_marker: input.part_number_marker,
        next_part_number_marker: last.filter(|_| more),
        ..ListPartsOutput::default()
    }))
}

pub(super) async fn list(
    service: &Service,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let credential = service.credential(&request)?;
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    if input
        .delimiter
        .as_ref()
        .is_some_and(|delimiter| !delimiter.is_empty())
    {
        return Err(s3_error!(
            NotImplemented,
            "uploads are listed without a delimiter"
        ));
    }
    let encode = encoder(input.encoding_type.as_ref());
    let limit = input
        .max_uploads
        .and_then(|max| usize::try_from(max).ok())
        .unwrap_or(1_000)
        .min(1_000);
    let prefix = input.prefix.clone().unwrap_or_default();
    let key_marker = input.key_marker.clone().unwrap_or_default();
    let id_marker = input.upload_id_marker.clone().unwrap_or_default();
    let mut uploads = service.blocking(move || bucket.uploads()).await??;
    uploads.retain(|(upload, id)| {
        let after =
            upload.key > key_marker || (upload.key == key_marker && !id_marker.is_empty() && *id > id_marker);
        after && upload.key.starts_with(&prefix) && upload.key.starts_with(&credential.prefix)
    });
    let more = uploads.len() > limit;
    uploads.truncate(limit);
    let next = uploads
        .last()
        .filter(|_| more)
        .map(|(upload, id)| (encode(&upload.key), id.clone()));
    let (next_key_marker, next_upload_id_marker) = next.unzip();
    let uploads = uploads.into_iter().map(|(upload, id)| MultipartUpload {
        key: Some(encode(&upload.key)),
        upload_id: Some(id),
        initiated: Some(timestamp(upload.initiated)),
        ..MultipartUpload::default()
    });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        uploads: Some(uploads.collect()),
        is_truncated: Some(more),
        max_uploads: i32::try_from(limit).ok(),
        next_key_marker,
        next_upload_id_marker,
        prefix: input.prefix,
        key_marker: input.key_marker,
        upload_id_marker: input.upload_id_marker,
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    }))
}
