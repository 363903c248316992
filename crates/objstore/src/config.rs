//! Where the bucket is, and how patient to be with it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How to reach a bucket: a section of a daemon's configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// Base URL, e.g. `http://127.0.0.1:9000`; AWS's own for the region when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region that requests are signed for.
    #[serde(default = "default_region")]
    pub region: String,
    /// Name of the bucket. It must exist.
    pub bucket: String,
    /// Put before every key, with a `/` between; none when empty. At most [`PREFIX_BYTES_MAX`] bytes.
    #[serde(default)]
    pub prefix: String,
    /// With `secret_access_key`, fixed credentials; when both are absent they come from the environment, the
    /// shared profile or the host's metadata service, as the AWS tools find theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// See `access_key_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// Goes with temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// Address the bucket as `host/bucket` rather than `bucket.host`. Default: whether `endpoint` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How often to try.
    #[serde(default)]
    pub retries: Retries,
}

/// Longest [`S3Config::prefix`], in bytes: what [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX) leaves of S3's 1,024.
pub const PREFIX_BYTES_MAX: usize = 100;

/// How long a call may take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To connect.
    pub connect_ms: u64,
    /// One request and its answer, body included.
    pub attempt_ms: u64,
    /// A get or a list with all its retries.
    pub read_ms: u64,
    /// A put or a delete with all its retries.
    pub write_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 3_000,
            attempt_ms: 30_000,
            read_ms: 60_000,
            write_ms: 120_000,
        }
    }
}

/// How often a call is tried, and how long to wait in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// Most attempts of one call, 1 and up.
    pub attempts_max: u32,
    /// Longest wait after the first attempt; doubles after each further one. The wait itself is uniform between
    /// nothing and that.
    pub delay_ms_min: u64,
    /// Where the doubling ends.
    pub delay_ms_max: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts_max: 10,
            delay_ms_min: 50,
            delay_ms_max: 5_000,
        }
    }
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// What is wrong with an [`S3Config`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is not an `http://` or `https://` URL with a host.
    #[error("s3 endpoint {endpoint:?} is not an http or https URL")]
    Endpoint {
        /// As configured.
        endpoint: String,
    },
    /// The bucket has no name.
    #[error("s3 bucket has no name")]
    Bucket,
    /// The prefix is no key by itself, or too long.
    #[error(
        "s3 prefix {prefix:?} must be 1 to {PREFIX_BYTES_MAX} bytes of parts separated by single slashes"
    )]
    Prefix {
        /// As configured.
        prefix: String,
    },
    /// Half a pair of credentials.
    #[error("s3 access_key_id and secret_access_key go together: {missing} is missing")]
    HalfCredentials {
        /// The absent field.
        missing: &'static str,
    },
    /// A number that allows no attempt at all.
    #[error("s3 {field} must be at least 1")]
    Zero {
        /// The offending field.
        field: &'static str,
    },
}

impl S3Config {
    /// Names a bucket behind `endpoint` with fixed credentials, all else by default.
    #[must_use]
    pub fn new(endpoint: &str, bucket: &str, access_key_id: &str, secret_access_key: &str) -> Self {
        Self {
            endpoint: Some(endpoint.to_owned()),
            region: default_region(),
            bucket: bucket.to_owned(),
            prefix: String::new(),
            access_key_id: Some(access_key_id.to_owned()),
            secret_access_key: Some(secret_access_key.to_owned()),
            session_token: None,
            path_style: None,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }

    /// Checks what can be checked without asking the store.
    ///
    /// # Errors
    /// [`ConnectError`] names the first wrong field.
    pub fn check(&self) -> Result<(), ConnectError> {
        if let Some(endpoint) = &self.endpoint {
            let uri: Option<http::Uri> = endpoint.parse().ok();
            let good = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.host().is_some_and(|host| !host.is_empty())
            });
            if !good {
                return Err(ConnectError::Endpoint {
                    endpoint: endpoint.clone(),
                });
            }
        }
        if self.bucket.is_empty() {
            return Err(ConnectError::Bucket);
        }
        let prefix = self.prefix.strip_suffix('/').unwrap_or(&self.prefix);
        if !self.prefix.is_empty() && (prefix.len() > PREFIX_BYTES_MAX || crate::Key::new(prefix).is_err()) {
            return Err(ConnectError::Prefix {
                prefix: self.prefix.clone(),
            });
        }
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => {
                return Err(ConnectError::HalfCredentials {
                    missing: "secret_access_key",
                });
            }
            (None, Some(_)) => {
                return Err(ConnectError::HalfCredentials {
                    missing: "access_key_id",
                });
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        let Timeouts {
            connect_ms,
            attempt_ms,
            read_ms,
            write_ms,
        } = self.timeouts;
        let numbers = [
            ("timeouts.connect_ms", connect_ms),
            ("timeouts.attempt_ms", attempt_ms),
            ("timeouts.read_ms", read_ms),
            ("timeouts.write_ms", write_ms),
            ("retries.attempts_max", u64::from(self.retries.attempts_max)),
        ];
        match numbers.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(ConnectError::Zero { field }),
            None => Ok(()),
        }
    }

    /// What stands before every key: the prefix with its slash, or nothing.
    #[must_use]
    pub fn key_prefix(&self) -> String {
        match self.prefix.strip_suffix('/').unwrap_or(&self.prefix) {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
