//! What the store says of an image. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::digest::{Digest, is_digest_text};
use super::manifest::ImageConfig;
use super::name::ImageName;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Digest of the manifest: the image's identity.
    pub digest: Digest,
    /// Full names that mean this image now, sorted.
    pub names: Vec<String>,
    /// The root file system: EROFS, never changed.
    pub rootfs: PathBuf,
    /// Size of the root file system.
    pub size_bytes: u64,
    /// When it was imported.
    pub created: Timestamp,
    pub config: ImageConfig,
}

/// `image_ref` of the Machines API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageRef {
    pub registry: String,
    pub repository: String,
    pub tag: String,
    pub digest: String,
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// Describes the image in the words of the Machines API.
    ///
    /// * `asked`: the name by which it was asked for; something else than a name gives empty fields.
    #[must_use]
    pub fn image_ref(&self, asked: &str) -> ImageRef {
        let name: Option<ImageName> = asked.parse().ok().filter(|_| !is_digest_text(asked));
        let field =
            |get: fn(&ImageName) -> Option<&str>| name.as_ref().and_then(get).unwrap_or_default().to_owned();
        ImageRef {
            registry: field(|name| Some(name.registry())),
            repository: field(|name| Some(name.repository())),
            tag: field(ImageName::tag),
            digest: self.digest.to_string(),
            labels: self.config.labels.clone(),
        }
    }
}
