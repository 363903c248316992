//! Images in an OCI image layout.

use std::collections::BTreeMap;
use std::path::Path;

use crashsafe::{Disk, OpenOptions};

use super::tar_index::Members;
use super::{Blob, FoundImage};
use crate::images::ImportError;
use crate::images::digest::Digest;
use crate::images::manifest::{self, Descriptor, Document, Index};
use crate::images::name;

/// Indexes within indexes, at most.
const DEPTH_MAX: u32 = 4;

/// Where the layout's files are.
pub(super) enum Blobs<'l> {
    Directory { disk: &'l dyn Disk, path: &'l Path },
    Archive(&'l Members),
}

impl Blobs<'_> {
    fn open(&self, name: &str) -> Result<Blob, ImportError> {
        match self {
            Self::Directory { disk, path } => {
                let path = path.join(name);
                disk.open("images:import", &path, OpenOptions::READ)
                    .and_then(Blob::of_file)
                    .map_err(|source| ImportError::Read { path, source })
            }
            Self::Archive(members) => members
                .get(name)
                .ok_or_else(|| ImportError::Missing { path: name.into() }),
        }
    }

    fn blob(&self, digest: Digest) -> Result<Blob, ImportError> {
        self.open(&format!("blobs/sha256/{}", digest.hex()))
    }

    /// Reads a document and compares it with its digest.
    fn document(&self, digest: Digest) -> Result<Vec<u8>, ImportError> {
        let bytes = self
            .blob(digest)?
            .read_document()
            .map_err(|source| ImportError::Document { digest, source })?;
        let actual = Digest::of(&bytes);
        if actual == digest {
            Ok(bytes)
        } else {
            Err(ImportError::Corrupt { digest, actual })
        }
    }
}

/// Finds every image of a layout: one per name in its index, and one for the entries without a name.
pub(super) fn find(
    blobs: &Blobs<'_>,
    stem: &str,
    architecture: &str,
) -> Result<Vec<FoundImage>, ImportError> {
    let bytes = blobs
        .open("index.json")?
        .read_document()
        .map_err(|source| ImportError::Read {
            path: "index.json".into(),
            source,
        })?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|source| ImportError::Index { source })?;
    let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
    for entry in index.manifests {
        let annotations = &entry.annotations;
        let name = annotations.get(manifest::ANNOTATION_IMAGE_NAME);
        let name = name
            .or_else(|| annotations.get(manifest::ANNOTATION_REF_NAME))
            .cloned();
        by_name.entry(name).or_default().push(entry);
    }
    let mut found: Vec<FoundImage> = Vec::new();
    for (annotation, entries) in by_name {
        let mut image = descend(blobs, &entries, architecture)?;
        image
            .names
            .extend(annotation.and_then(|annotation| name::from_annotation(&annotation, stem)));
        match found.iter_mut().find(|other| other.digest == image.digest) {
            Some(other) => other.names.append(&mut image.names),
            None => found.push(image),
        }
    }
    if found.is_empty() {
        Err(ImportError::Empty)
    } else {
        Ok(found)
    }
}

/// Follows indexes down to the manifest of our platform.
fn descend(blobs: &Blobs<'_>, entries: &[Descriptor], architecture: &str) -> Result<FoundImage, ImportError> {
    let mut entries = entries.to_vec();
    let mut indexes = Vec::new();
    for _ in 0..DEPTH_MAX {
        let picked = manifest::pick(&entries, architecture).ok_or_else(|| ImportError::Platform {
            architecture: architecture.to_owned(),
            offered: manifest::platforms(&entries),
        })?;
        let digest = picked.digest;
        let bytes = blobs.document(digest)?;
        match serde_json::from_slice(&bytes).map_err(|source| ImportError::Manifest { digest, source })? {
            Document::Index(index) => {
                indexes.push(digest);
                entries = index.manifests;
            }
            Document::Manifest(manifest) => {
                let config = blobs.document(manifest.config.digest)?;
                let layers = manifest
                    .layers
                    .iter()
                    .map(|layer| blobs.blob(layer.digest))
                    .collect::<Result<_, _>>()?;
                return Ok(FoundImage {
                    digest,
                    indexes,
                    names: Vec::new(),
                    manifest,
                    config,
                    layers,
                });
            }
        }
    }
    Err(ImportError::Empty)
}
