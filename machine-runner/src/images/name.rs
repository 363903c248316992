//! Names of images: `demo`, `docker.io/library/demo:latest`, `localhost:5000/a/b@sha256:…`. Pure.

use std::fmt;
use std::str::FromStr;

use oci_client::Reference;

use super::digest::Digest;

/// A name as registries know it, written out in full: host, repository, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    reference: Reference,
}

/// The text does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the name of an image: expected something like demo, demo:1.0 or registry.example/demo:1.0"
)]
pub struct NameSyntax {
    /// The text as given.
    pub text: String,
}

impl ImageName {
    /// Returns the host of the registry: `docker.io` when the name has none.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.reference.registry()
    }

    /// Returns the repository: `library/demo` for the familiar `demo`.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.reference.repository()
    }

    /// Returns the tag: `latest` when the name has neither tag nor digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.reference.tag()
    }

    /// Returns the digest, when the name asks for exactly one content.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.reference.digest().and_then(|digest| digest.parse().ok())
    }

    /// Returns the name with its tag and without its digest: what a store lists.
    #[must_use]
    pub fn tagged(&self) -> Option<String> {
        self.tag()
            .map(|tag| format!("{}/{}:{tag}", self.registry(), self.repository()))
    }

    /// Returns the name as people write it: without `docker.io/library/`.
    #[must_use]
    pub fn familiar(full: &str) -> &str {
        full.strip_prefix("docker.io/library/")
            .or_else(|| full.strip_prefix("docker.io/"))
            .unwrap_or(full)
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }
}

impl FromStr for ImageName {
    type Err = NameSyntax;

    fn from_str(text: &str) -> Result<Self, NameSyntax> {
        let syntax = || NameSyntax {
            text: text.to_owned(),
        };
        let reference: Reference = text.parse().map_err(|_| syntax())?;
        if reference
            .digest()
            .is_some_and(|digest| digest.parse::<Digest>().is_err())
        {
            return Err(syntax());
        }
        Ok(Self { reference })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reference.whole())
    }
}

/// Turns the name in an index's annotation into a full one.
///
/// Tools write either a whole name or only a tag; a tag is joined to the layout's own file name. `None` when neither
/// gives a name.
pub(super) fn from_annotation(annotation: &str, layout_stem: &str) -> Option<ImageName> {
    let is_only_a_tag = !annotation.contains([':', '/', '@']);
    let text = if is_only_a_tag {
        format!("{layout_stem}:{annotation}")
    } else {
        annotation.to_owned()
    };
    text.parse().ok().filter(|name: &ImageName| name.tag().is_some())
}
