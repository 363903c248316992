//! Where images come from: each source yields the same description of documents and layers.

mod docker_archive;
mod layout;
mod tar_index;

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crashsafe::{Disk, DiskFile, OpenOptions};

use super::ImportError;
use super::digest::Digest;
use super::manifest::Manifest;
use super::name::ImageName;

/// The largest document: index, manifest or configuration.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// An image that can be built: its documents, checked, and where its layers are.
#[derive(Debug)]
pub(super) struct FoundImage {
    /// Digest of the manifest of our platform.
    pub(super) digest: Digest,
    /// Digests of the indexes through which it was found.
    pub(super) indexes: Vec<Digest>,
    pub(super) names: Vec<ImageName>,
    pub(super) manifest: Manifest,
    pub(super) config: Vec<u8>,
    /// In the order of the manifest.
    pub(super) layers: Vec<Blob>,
}

/// Bytes within a file.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    file: Arc<dyn DiskFile>,
    start: u64,
    pub(super) len: u64,
}

impl Blob {
    pub(super) fn of_file(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self {
            file: file.into(),
            start: 0,
            len,
        })
    }

    fn part(file: &Arc<dyn DiskFile>, start: u64, len: u64) -> Self {
        Self {
            file: Arc::clone(file),
            start,
            len,
        }
    }

    /// Returns a reader from the first byte on.
    pub(super) fn reader(&self) -> BlobReader {
        BlobReader {
            blob: self.clone(),
            position: 0,
        }
    }

    /// Reads a document whole.
    pub(super) fn read_document(&self) -> io::Result<Vec<u8>> {
        if self.len > DOCUMENT_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "a document of an image is at most 8 MiB",
            ));
        }
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a blob front to back.
#[derive(Debug)]
pub(super) struct BlobReader {
    blob: Blob,
    position: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.blob.len - self.position).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let read = self
            .blob
            .file
            .read_at(&mut buf[..want], self.blob.start + self.position)?;
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

/// Finds the images in an OCI layout (a directory or a tar of one) or in a docker-archive, told apart by what they hold.
pub(super) fn find(disk: &dyn Disk, path: &Path, architecture: &str) -> Result<Vec<FoundImage>, ImportError> {
    let read = |source| ImportError::Read {
        path: path.to_owned(),
        source,
    };
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let stat = disk
        .stat(path)
        .map_err(read)?
        .ok_or_else(|| ImportError::Missing {
            path: path.to_owned(),
        })?;
    if stat.is_dir {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        return layout::find(&layout::Blobs::Directory { disk, path }, &name, architecture);
    }
    let file: Arc<dyn DiskFile> = disk
        .open("images:import", path, OpenOptions::READ)
        .map_err(read)?
        .into();
    let members = tar_index::index(&file).map_err(|source| ImportError::Tar {
        path: path.to_owned(),
        source,
    })?;
    if members.get("oci-layout").is_some() {
        layout::find(&layout::Blobs::Archive(&members), &stem, architecture)
    } else if let Some(list) = members.get("manifest.json") {
        docker_archive::find(&members, &list)
    } else {
        Err(ImportError::Unrecognised {
            path: path.to_owned(),
        })
    }
}
