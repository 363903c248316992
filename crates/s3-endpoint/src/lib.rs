//! An S3 endpoint over a directory: what `hangar up` offers where nothing else is installed.
//!
//! The protocol is `s3s`'s; the storage is ours, because conditional writes must be atomic and acknowledged ones durable.
//! A put is staged in a temporary file, synced, and then compared, renamed and indexed in one critical section of its
//! key; it is answered when the directory is synced. Data and metadata of an object share one file with checksums.

mod bucket;
mod checksum;
mod credentials;
mod endpoint;
mod listing;
mod multipart;
mod object_file;
mod service;

pub use credentials::{Credential, Credentials, CredentialsError, ROOT};
pub use endpoint::{Endpoint, EndpointConfig, Listener, OpenError};
