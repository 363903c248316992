//! The transport: aws-sdk-s3, one attempt each, its own retries and checksums switched off.

use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::{Bytes, BytesMut};

use crate::config::S3Config;
use crate::store::{ETag, Outage, Refusal};
use crate::wire::{Condition, Fetched, Flaw, Head, Listed, Part, Row, Stamp, Wire, WireError, classify};

/// User metadata (`x-amz-meta-…`) that carries the nonce of the put.
const NONCE: &str = "hangar-nonce";
/// User metadata that carries the CRC-32, 8 hex digits, for stores that keep no checksum of their own.
const CRC32: &str = "hangar-crc32";
/// Larger answers are grown into, so that a lying length cannot exhaust memory.
const PREALLOCATE_BYTES_MAX: u64 = 64 << 20;

/// A bucket, one request at a time.
#[derive(Debug)]
pub(crate) struct S3Wire {
    client: Client,
    bucket: String,
    /// Over TLS the payload needs no hash of its own in the signature: the CRC-32 is signed.
    unsigned_payload: bool,
}

impl S3Wire {
    /// Builds the client. Without fixed credentials this looks at the environment, which may ask the host's
    /// metadata service.
    pub(crate) async fn connect(config: &S3Config) -> Self {
        let plain = config
            .endpoint
            .as_deref()
            .is_some_and(|endpoint| endpoint.starts_with("http://"));
        let http = http_client(plain);
        let mut builder = match (&config.access_key_id, &config.secret_access_key) {
            (Some(id), Some(secret)) => {
                let token = config.session_token.clone();
                let credentials = Credentials::new(id, secret, token, None, "hangar-config");
                aws_sdk_s3::Config::builder().credentials_provider(credentials)
            }
            _ => {
                let found = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(http.clone())
                    .load()
                    .await;
                aws_sdk_s3::config::Builder::from(&found)
            }
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_millis(config.timeouts.connect_ms))
            .build();
        builder = builder
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(config.path_style.unwrap_or(config.endpoint.is_some()));
        if let Some(endpoint) = &config.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(builder.build()),
            bucket: config.bucket.clone(),
            unsigned_payload: !plain,
        }
    }
}

fn http_client(plain: bool) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    if plain {
        return builder.build_http();
    }
    builder
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build_https()
}

#[async_trait]
impl Wire for S3Wire {
    async fn put(
        &self,
        key: &str,
        condition: &Condition,
        body: Bytes,
        stamp: &Stamp,
    ) -> Result<ETag, WireError> {
        let mut put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_crc32(aws_smithy_types::base64::encode(stamp.crc32.to_be_bytes()))
            .metadata(NONCE, &stamp.nonce)
            .metadata(CRC32, format!("{:08x}", stamp.crc32))
            .body(ByteStream::from(body));
        put = match condition {
            Condition::Absent => put.if_none_match("*"),
            Condition::Matches(etag) => put.if_match(etag.as_str()),
        };
        let mut request = put.customize();
        if self.unsigned_payload {
            request = request.disable_payload_signing();
        }
        let answer = request.send().await.map_err(|error| sort(&error))?;
        etag(answer.e_tag())
    }

    async fn head(&self, key: &str) -> Result<Option<Head>, WireError> {
        match self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
        {
            Ok(answer) => {
                let nonce = answer
                    .metadata()
                    .and_then(|metadata| metadata.get(NONCE))
                    .cloned();
                Ok(Some(Head {
                    etag: etag(answer.e_tag())?,
                    nonce,
                }))
            }
            Err(error) => match sort(&error) {
                WireError::NotFound => Ok(None),
                other => Err(other),
            },
        }
    }

    async fn get(&self, key: &str, range: Option<&Range<u64>>) -> Result<Fetched, WireError> {
        let mut get = self.client.get_object().bucket(&self.bucket).key(key);
        if let Some(Range { start, end }) = range {
            get = get.range(format!("bytes={start}-{}", end - 1));
        }
        // The SDK's own switch for this header would also make it check, and hide what it found in a body error.
        let request = get.customize().mutate_request(|request| {
            request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        });
        let answer = request.send().await.map_err(|error| sort(&error))?;
        let etag = etag(answer.e_tag())?;
        let announced_bytes = answer
            .content_length()
            .and_then(|length| u64::try_from(length).ok());
        let part = match answer.content_range() {
            None => None,
            Some(header) => Some(Part::parse(header).ok_or_else(|| odd("unreadable Content-Range"))?),
        };
        let kept = answer.metadata().and_then(|metadata| metadata.get(CRC32));
        let crc32 = answer
            .checksum_crc32()
            .and_then(stored_crc32)
            .or_else(|| kept.and_then(|hex| u32::from_str_radix(hex, 16).ok()));
        let bytes = read_body(answer.body, announced_bytes).await?;
        Ok(Fetched {
            bytes,
            etag,
            announced_bytes,
            part,
            crc32,
        })
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Listed, WireError> {
        let mut list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        if let Some(after) = after {
            list = list.start_after(after);
        }
        let limit = i32::try_from(limit.min(1_000)).unwrap_or(1_000);
        let answer = list.max_keys(limit).send().await.map_err(|error| sort(&error))?;
        let mut rows = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let (Some(key), Some(size), Some(modified)) =
                (object.key(), object.size(), object.last_modified())
            else {
                return Err(odd("a listed object lacks key, size or date"));
            };
            rows.push(Row {
                key: key.to_owned(),
                size_bytes: u64::try_from(size).map_err(|_| odd("a listed object has a negative size"))?,
                etag: etag(object.e_tag())?,
                modified: jiff::Timestamp::from_second(modified.secs())
                    .map_err(|_| odd("a date out of range"))?,
            });
        }
        Ok(Listed {
            rows,
            more: answer.is_truncated().unwrap_or(false),
        })
    }

    async fn delete(&self, key: &str) -> Result<(), WireError> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(key);
        delete.send().await.map(drop).map_err(|error| sort(&error))
    }
}

/// Reads a body to its end. One that breaks off is short, whatever the transport calls it.
async fn read_body(mut body: ByteStream, announced_bytes: Option<u64>) -> Result<Bytes, WireError> {
    let room = announced_bytes.unwrap_or(0).min(PREALLOCATE_BYTES_MAX);
    let mut bytes = BytesMut::with_capacity(usize::try_from(room).unwrap_or(0));
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => {
                let got_bytes = bytes.len() as u64;
                return Err(match announced_bytes {
                    Some(expected_bytes) => WireError::Damaged(Flaw::Short {
                        expected_bytes,
                        got_bytes,
                    }),
                    None => WireError::Outage(Outage::Connection {
                        message: chain(&error),
                    }),
                });
            }
        }
    }
    Ok(bytes.freeze())
}

fn etag(header: Option<&str>) -> Result<ETag, WireError> {
    header
        .map(ETag::new)
        .ok_or_else(|| odd("an answer without an ETag"))
}

fn odd(message: &str) -> WireError {
    WireError::Refused(Refusal {
        status: 0,
        code: String::new(),
        message: message.to_owned(),
    })
}

/// Reads a base64 checksum header. Those of multipart objects (`…-3`) are of the parts' checksums, not of the bytes.
fn stored_crc32(header: &str) -> Option<u32> {
    let bytes = aws_smithy_types::base64::decode(header).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn sort<E>(error: &SdkError<E, HttpResponse>) -> WireError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => odd(&chain(error)),
        SdkError::ServiceError(context) => {
            let (code, message) = (context.err().code(), context.err().message());
            let raw = context.raw();
            match classify(
                raw.status().as_u16(),
                code.unwrap_or_default(),
                message.unwrap_or_default(),
            ) {
                WireError::OutOfRange { .. } => WireError::OutOfRange {
                    total_bytes: unsatisfied_total(raw),
                },
                other => other,
            }
        }
        // The answer made no sense to the SDK; its status still does, unless it claims success.
        SdkError::ResponseError(context) if context.raw().status().as_u16() >= 300 => {
            classify(context.raw().status().as_u16(), "", &chain(error))
        }
        _ => WireError::Outage(Outage::Connection {
            message: chain(error),
        }),
    }
}

/// Reads the object's size from `Content-Range: bytes */1234`, as sent with a 416; 0 when absent.
fn unsatisfied_total(answer: &HttpResponse) -> u64 {
    let header = answer
        .headers()
        .get("content-range")
        .and_then(|header| header.strip_prefix("bytes */"));
    header.and_then(|total| total.parse().ok()).unwrap_or(0)
}

/// Joins an error and its sources into one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
