//! How removing an image may end. Pure.

use std::io;

use serde::Serialize;

use super::digest::Digest;
use super::name::NameSyntax;

/// What a removal did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Removed {
    pub digest: Digest,
    /// Names that mean nothing any more.
    pub names: Vec<String>,
    /// Whether the image itself is gone; it stays while it has other names.
    pub image: bool,
    /// Bytes given back.
    pub freed_bytes: u64,
}

/// Why an image was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The name is malformed.
    #[error(transparent)]
    Name(#[from] NameSyntax),
    /// No image goes by that name.
    #[error("there is no image {name:?} in the store")]
    Unknown { name: String },
    /// A machine uses it.
    #[error(
        "image {digest} is in use by a machine; destroy the machine, or update it to another image, first"
    )]
    InUse { digest: Digest },
    /// The store could not be written.
    #[error("remove image {digest}")]
    Io {
        digest: Digest,
        #[source]
        source: io::Error,
    },
}

impl RemoveError {
    /// Returns the HTTP status that says whose fault it is.
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Name(_) => http::StatusCode::BAD_REQUEST,
            Self::Unknown { .. } => http::StatusCode::NOT_FOUND,
            // No conflict of two requests: trying again does not help.
            Self::InUse { .. } => http::StatusCode::PRECONDITION_FAILED,
            Self::Io { .. } => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
