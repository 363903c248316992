//! Operations on buckets.

use std::sync::Arc;

use s3s::dto::{
    Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
    GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
    HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::Service;

pub(super) async fn list(
    service: &Service,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let credential = service.credential(&request)?;
    let names = service.0.bucket_names().into_iter();
    let buckets = names
        .map(|name| Bucket {
            name: Some(name),
            ..Bucket::default()
        })
        .collect();
    let owner = Owner {
        display_name: Some(credential.name.clone()),
        id: Some(credential.name),
    };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets),
        owner: Some(owner),
        ..Default::default()
    }))
}

pub(super) async fn create(
    service: &Service,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let name = request.input.bucket;
    if !s3s::path::check_bucket_name(&name) {
        return Err(s3_error!(InvalidBucketName));
    }
    let (state, location) = (Arc::clone(&service.0), format!("/{name}"));
    let created = service.blocking(move || state.create_bucket(&name)).await?;
    if created.map_err(S3Error::internal_error)? {
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(location),
        }))
    } else {
        Err(s3_error!(BucketAlreadyOwnedByYou, "the bucket exists"))
    }
}

pub(super) async fn head(
    service: &Service,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    service.bucket(&request.input.bucket)?;
    Ok(S3Response::new(HeadBucketOutput::default()))
}

pub(super) async fn delete(
    service: &Service,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    service.bucket(&request.input.bucket)?;
    let state = Arc::clone(&service.0);
    let removed = service
        .blocking(move || state.delete_bucket(&request.input.bucket))
        .await?;
    if removed.map_err(S3Error::internal_error)? {
        Ok(S3Response::new(DeleteBucketOutput::default()))
    } else {
        Err(s3_error!(BucketNotEmpty, "the bucket holds objects or uploads"))
    }
}

pub(super) async fn location(
    service: &Service,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    service.bucket(&request.input.bucket)?;
    Ok(S3Response::new(GetBucketLocationOutput::default()))
}

/// Buckets have no versions: a delete is a delete.
pub(super) async fn versioning(
    service: &Service,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    service.bucket(&request.input.bucket)?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}
