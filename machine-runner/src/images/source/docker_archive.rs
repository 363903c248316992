//! Images in the archive that `docker save` writes.

use super::tar_index::Members;
use super::{Blob, FoundImage};
use crate::images::ImportError;
use crate::images::digest::{Digest, DigestReader};
use crate::images::manifest::{ArchiveImage, Descriptor, Manifest};

/// Finds every image of an archive.
///
/// The archive has no manifest with digests. One is written from the digests of its parts, so that the same content has
/// the same identity each time.
pub(super) fn find(members: &Members, list: &Blob) -> Result<Vec<FoundImage>, ImportError> {
    let path = || "manifest.json".into();
    let bytes = list
        .read_document()
        .map_err(|source| ImportError::Read { path: path(), source })?;
    let images: Vec<ArchiveImage> =
        serde_json::from_slice(&bytes).map_err(|source| ImportError::Index { source })?;
    let mut found = Vec::new();
    for image in images {
        let member = |name: &str| {
            members.get(name).ok_or_else(|| ImportError::Missing {
                path: name.to_owned().into(),
            })
        };
        let config_blob = member(&image.config)?;
        let config = config_blob.read_document().map_err(|source| ImportError::Read {
            path: image.config.clone().into(),
            source,
        })?;
        let config_digest = Digest::of(&config);
        check_named_by_digest(&image.config, config_digest)?;
        let mut layers = Vec::new();
        let mut descriptors = Vec::new();
        for name in &image.layers {
            let blob = member(name)?;
            let read = |source| ImportError::Read {
                path: name.clone().into(),
                source,
            };
            let (digest, _) = DigestReader::new(blob.reader()).finish().map_err(read)?;
            descriptors.push(descriptor(
                "application/vnd.oci.image.layer.v1.tar",
                digest,
                blob.len,
            ));
            layers.push(blob);
        }
        let config_descriptor = descriptor(
            "application/vnd.oci.image.config.v1+json",
            config_digest,
            config.len() as u64,
        );
        let (manifest, bytes) = Manifest::synthetic(config_descriptor, descriptors);
        let names = image
            .repo_tags
            .iter()
            .filter_map(|tag| tag.parse().ok())
            .collect();
        found.push(FoundImage {
            digest: Digest::of(&bytes),
            indexes: Vec::new(),
            names,
            manifest,
            config,
            layers,
        });
    }
    if found.is_empty() {
        Err(ImportError::Empty)
    } else {
        Ok(found)
    }
}

/// Writers name the configuration by its digest: then it must match.
fn check_named_by_digest(name: &str, actual: Digest) -> Result<(), ImportError> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_suffix(".json").unwrap_or(last);
    match format!("sha256:{hex}").parse::<Digest>() {
        Ok(digest) if digest != actual => Err(ImportError::Corrupt { digest, actual }),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    }
}
