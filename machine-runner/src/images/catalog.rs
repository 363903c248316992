//! What the store keeps on disk: a directory per image, and one file with all names.
//!
//! ```text
//! images/<64 hex digits>/rootfs.erofs   the file system
//!                        config.json    the image's configuration, as published
//!                        image.json     what the store knows of it
//! images/names.json                     names and index digests, each with the image it means
//! images/tmp/                           imports under way; emptied when the store opens
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crashsafe::{Disk, OpenOptions};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::manifest::ImageConfig;

/// The version of everything in the store, and of the way images are built.
pub(super) const FORMAT_VERSION: u32 = 1;

/// `image.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) format_version: u32,
    pub(super) digest: Digest,
    pub(super) created: Timestamp,
    pub(super) size_bytes: u64,
    pub(super) inodes: u64,
    pub(super) xattrs_dropped: u64,
    pub(super) config: ImageConfig,
}

/// `names.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) format_version: u32,
    /// `docker.io/library/demo:latest` and the like.
    pub(super) names: BTreeMap<String, Digest>,
    /// Digests of indexes that led to an image.
    pub(super) indexes: BTreeMap<Digest, Digest>,
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory could not be created, read or cleaned.
    #[error("open the image store {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file that the store wrote does not parse.
    #[error("{} is damaged; remove it, and import its images again", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer version of this program.
    #[error("{} has format version {found}; this program knows {FORMAT_VERSION}", path.display())]
    Newer { path: PathBuf, found: u32 },
}

pub(super) fn image_dir(root: &Path, digest: Digest) -> PathBuf {
    root.join(digest.hex())
}

pub(super) fn rootfs(root: &Path, digest: Digest) -> PathBuf {
    image_dir(root, digest).join("rootfs.erofs")
}

pub(super) fn scratch_root(root: &Path) -> PathBuf {
    root.join("tmp")
}

/// Creates what is missing, sweeps what a crash left, and reads the rest.
pub(super) fn load(
    disk: &dyn Disk,
    root: &Path,
) -> Result<(BTreeMap<Digest, ImageRecord>, Names), OpenError> {
    let io = |source| OpenError::Io {
        path: root.to_owned(),
        source,
    };
    crashsafe::create_dir_durable(disk, "images:open", root).map_err(io)?;
    crashsafe::sweep_temporaries(disk, "images:open", root).map_err(io)?;
    let scratch = scratch_root(root);
    if disk.stat(&scratch).map_err(io)?.is_some() {
        disk.remove_dir_all("images:open", &scratch).map_err(io)?;
    }
    let mut images = BTreeMap::new();
    for entry in disk.list(root).map_err(io)? {
        let digest: Option<Digest> = format!("sha256:{}", entry.name).parse().ok();
        let Some(digest) = digest.filter(|_| entry.is_dir) else {
            continue;
        };
        let path = image_dir(root, digest).join("image.json");
        let record: ImageRecord = read_json(disk, &path)?;
        check_version(&path, record.format_version)?;
        images.insert(digest, record);
    }
    let path = root.join("names.json");
    let mut names = match disk.stat(&path).map_err(io)? {
        Some(_) => read_json(disk, &path)?,
        None => Names::default(),
    };
    check_version(&path, names.format_version)?;
    // A crash between the two steps of a removal leaves names of nothing.
    names.names.retain(|_, digest| images.contains_key(digest));
    names.indexes.retain(|_, digest| images.contains_key(digest));
    Ok((images, names))
}

pub(super) fn save_names(disk: &dyn Disk, root: &Path, names: &Names) -> io::Result<()> {
    let names = Names {
        format_version: FORMAT_VERSION,
        ..names.clone()
    };
    let bytes = serde_json::to_vec_pretty(&names).map_err(io::Error::other)?;
    crashsafe::write_atomic(disk, "images:names", &root.join("names.json"), &bytes, 0o600)
}

/// Completes the directory of a new image, and gives it its name: from then on it is in the store.
pub(super) fn install(
    disk: &dyn Disk,
    root: &Path,
    built: &Path,
    record: &ImageRecord,
    config: &[u8],
) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
    crashsafe::write_atomic(disk, "images:config", &built.join("config.json"), config, 0o600)?;
    crashsafe::write_atomic(disk, "images:record", &built.join("image.json"), &bytes, 0o600)?;
    // Writing the record synced the directory, and with it the name of the file system.
    disk.rename("images:install", built, &image_dir(root, record.digest))?;
    disk.sync_dir("images:install", root)
}

/// Takes an image out of the store in one step, then frees its bytes.
pub(super) fn uninstall(disk: &dyn Disk, root: &Path, digest: Digest) -> io::Result<()> {
    let scratch = scratch_root(root);
    let doomed = scratch.join(format!("removed-{}", digest.hex()));
    disk.create_dir_all("images:remove", &scratch)?;
    disk.rename("images:remove", &image_dir(root, digest), &doomed)?;
    disk.sync_dir("images:remove", root)?;
    disk.remove_dir_all("images:remove", &doomed)
}

fn check_version(path: &Path, found: u32) -> Result<(), OpenError> {
    if found > FORMAT_VERSION {
        Err(OpenError::Newer {
            path: path.to_owned(),
            found,
        })
    } else {
        Ok(())
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(disk: &dyn Disk, path: &Path) -> Result<T, OpenError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open("images:open", path, OpenOptions::READ)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| OpenError::Damaged {
        path: path.to_owned(),
        source,
    })
}
