//! S3's operations, as `s3s` names them: each is handed to the module that does it.

mod buckets;
mod headers;
mod lists;
mod objects;
mod uploads;

use std::sync::Arc;

use http::StatusCode;
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput, CreateBucketOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput, DeleteBucketOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use crate::bucket::{Bucket, BucketError};
use crate::credentials::{Credential, Credentials};
use crate::endpoint::State;
use crate::object_file::DamageError;

/// The S3 protocol over the endpoint's buckets.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<State>);

/// Decides whether a credential may touch what a request names.
#[derive(Debug, Clone)]
pub(crate) struct Gate(pub(crate) Arc<Credentials>);

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let credential = grant(&self.0, cx.credentials())?;
        let admitted = match (cx.s3_path().as_object(), cx.s3_op().name()) {
            (Some((_, key)), _) => key.starts_with(&credential.prefix),
            (None, "CreateBucket" | "DeleteBucket") => credential.prefix.is_empty(),
            // What these show or touch is cut to the credential's prefix where they are done.
            (
                None,
                "ListBuckets"
                | "HeadBucket"
                | "GetBucketLocation"
                | "ListObjects"
                | "ListObjectsV2"
                | "ListMultipartUploads"
                | "DeleteObjects",
            ) => true,
            (None, _) => credential.prefix.is_empty(),
        };
        if admitted {
            Ok(())
        } else {
            Err(s3_error!(
                AccessDenied,
                "outside the key prefix of this access key"
            ))
        }
    }
}

fn grant(held: &Credentials, signed: Option<&s3s::auth::Credentials>) -> S3Result<Credential> {
    let signed = signed.ok_or_else(|| s3_error!(AccessDenied, "requests must be signed"))?;
    held.of_access_key(&signed.access_key)
        .ok_or_else(|| s3_error!(InvalidAccessKeyId, "unknown access key"))
}

impl Service {
    fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        self.0
            .bucket(name)
            .ok_or_else(|| s3_error!(NoSuchBucket, "no such bucket"))
    }

    /// The credential that signed a request.
    fn credential<T>(&self, request: &S3Request<T>) -> S3Result<Credential> {
        grant(&self.0.credentials, request.credentials.as_ref())
    }

    /// Runs what blocks on a thread of its own, a bounded number at once.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> S3Result<T> {
        blocking(&self.0, work).await
    }
}

/// As [`Service::blocking`], for streams that outlive the call.
async fn blocking<T: Send + 'static>(
    state: &State,
    work: impl FnOnce() -> T + Send + 'static,
) -> S3Result<T> {
    let permit = Arc::clone(&state.blocking)
        .acquire_owned()
        .await
        .map_err(S3Error::internal_error)?;
    let work = move || {
        let result = work();
        drop(permit);
        result
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(S3Error::internal_error)
}

/// Error code of an object that is not what was put. S3 has none, and its 500 asks clients to come back: the loss would
/// look like an outage. The status is one that no client repeats.
const OBJECT_DAMAGED: &str = "ObjectDamaged";

fn with_causes(error: &BucketError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut words: Vec<_> = causes.map(ToString::to_string).collect();
    words.dedup();
    words.join(": ")
}

impl From<BucketError> for S3Error {
    fn from(error: BucketError) -> Self {
        let code = match &error {
            BucketError::NoSuchKey => S3ErrorCode::NoSuchKey,
            BucketError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            BucketError::Precondition => S3ErrorCode::PreconditionFailed,
            BucketError::InvalidPart => S3ErrorCode::InvalidPart,
            BucketError::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            BucketError::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
            BucketError::ReadOnly => S3ErrorCode::ServiceUnavailable,
            BucketError::Damaged(DamageError::Io(_)) | BucketError::Io { .. } => S3ErrorCode::InternalError,
            BucketError::Damaged(_) => S3ErrorCode::Custom(OBJECT_DAMAGED.into()),
        };
        let damaged = matches!(code, S3ErrorCode::Custom(_));
        if damaged || code == S3ErrorCode::InternalError {
            tracing::error!(error = &error as &dyn std::error::Error, "request was not served");
        }
        let mut answer = Self::with_message(code, with_causes(&error));
        if damaged {
            answer.set_status_code(StatusCode::UNPROCESSABLE_ENTITY);
        }
        answer.set_source(Box::new(error));
        answer
    }
}

/// Declares each operation as a call of a method of the same shape.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty = $done_by:path;)*) => {
        #[async_trait::async_trait]
        impl S3 for Service {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                $done_by(self, request).await
            })*
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput = buckets::list;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = buckets::create;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = buckets::head;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = buckets::delete;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = buckets::location;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = buckets::versioning;
    put_object(PutObjectInput) -> PutObjectOutput = objects::put;
    get_object(GetObjectInput) -> GetObjectOutput = objects::get;
    head_object(HeadObjectInput) -> HeadObjectOutput = objects::head;
    copy_object(CopyObjectInput) -> CopyObjectOutput = objects::copy;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = objects::delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = objects::delete_many;
    list_objects(ListObjectsInput) -> ListObjectsOutput = lists::list_v1;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = lists::list_v2;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = uploads::create;
    upload_part(UploadPartInput) -> UploadPartOutput = uploads::part;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = uploads::complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = uploads::abort;
    list_parts(ListPartsInput) -> ListPartsOutput = uploads::list_parts;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = uploads::list;
}
