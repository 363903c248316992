//! Makes the root file system of an image: layers to disk, merged in memory, written as EROFS.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crashsafe::{Disk, DiskFile, OpenOptions};

use super::manifest::{ConfigFile, ImageConfig};
use super::merge::{Content, Merger};
use super::source::FoundImage;
use super::spool::{self, Budget, Expected};
use super::tar_reader::{TarEntry, TarKind, TarReader};
use super::{ImportError, Limits, ProgressEvent};
use crate::erofs::{self, Contents, FileTime, InodeId, Options, Output};

/// A directory for one import, removed when it is over.
#[derive(Debug)]
pub(super) struct Scratch<'d> {
    disk: &'d dyn Disk,
    path: PathBuf,
}

impl<'d> Scratch<'d> {
    pub(super) fn new(disk: &'d dyn Disk, path: PathBuf) -> io::Result<Self> {
        disk.create_dir_all("images:scratch", &path)?;
        Ok(Self { disk, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // What stays is swept when the store opens.
        let _swept_at_open = self.disk.remove_dir_all("images:scratch", &self.path);
    }
}

/// What was built.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) config: ImageConfig,
    pub(super) size_bytes: u64,
    pub(super) inodes: u64,
    pub(super) xattrs_dropped: u64,
}

/// Writes the root file system of `found` to `output`, synced, using `scratch` for the layers.
pub(super) fn build(
    disk: &dyn Disk,
    scratch: &Path,
    found: &FoundImage,
    output: &Path,
    limits: &Limits,
    architecture: &str,
    progress: &dyn Fn(ProgressEvent),
) -> Result<Built, ImportError> {
    let config = parse_config(found, architecture)?;
    if found.layers.len() > limits.layers_max {
        return Err(ImportError::TooManyLayers {
            layers: found.layers.len(),
            layers_max: limits.layers_max,
        });
    }
    let diff_ids = &config.rootfs.diff_ids;
    if !diff_ids.is_empty() && diff_ids.len() != found.layers.len() {
        return Err(ImportError::LayerCount {
            manifest: found.layers.len(),
            config: diff_ids.len(),
        });
    }
    let mut unpacked = Budget::new(limits.unpacked_bytes_max);
    let mut content_bytes = Budget::new(limits.unpacked_bytes_max);
    let mut entries_left = limits.entries_max;
    let mut merger = Merger::new(limits.entries_max);
    let mut archives = Vec::new();
    let layers = found.layers.len();
    for (index, (blob, descriptor)) in found.layers.iter().zip(&found.manifest.layers).enumerate() {
        let digest = descriptor.digest;
        if descriptor.media_type.contains("encrypted") {
            return Err(ImportError::Encrypted { digest });
        }
        let path = scratch.join(format!("layer-{index}.tar"));
        let expected = Expected {
            blob: digest,
            diff_id: diff_ids.get(index).copied(),
        };
        let mut on_bytes = |bytes| {
            progress(ProgressEvent::Unpack {
                layer: index + 1,
                layers,
                bytes,
            })
        };
        let archive = spool::spool(disk, &path, blob, &expected, &mut unpacked, &mut on_bytes)?;
        let entries = entries(&*archive, limits, &mut entries_left, &mut content_bytes, digest)?;
        merger
            .add_layer(entries)
            .map_err(|source| ImportError::Layer { digest, source })?;
        archives.push(archive);
    }
    let xattrs_dropped = merger.xattrs_dropped;
    let (tree, contents) = merger.finish();
    progress(ProgressEvent::Write { digest: found.digest });
    let options = Options {
        uuid: found.digest.uuid(),
        build_time: FileTime::default(),
    };
    let write_error = |source| ImportError::Write {
        path: output.to_owned(),
        source,
    };
    let file = disk
        .open("images:rootfs", output, OpenOptions::CREATE_NEW)
        .map_err(write_error)?;
    let mut spooled = Spooled { archives, contents };
    let summary = erofs::write(&tree, &options, &mut spooled, &mut ToFile(&*file))
        .map_err(|source| ImportError::FileSystem { source })?;
    file.set_len(summary.size_bytes).map_err(write_error)?;
    file.sync_data().map_err(write_error)?;
    Ok(Built {
        config: config.config.into(),
        size_bytes: summary.size_bytes,
        inodes: summary.inodes,
        xattrs_dropped,
    })
}

fn parse_config(found: &FoundImage, architecture: &str) -> Result<ConfigFile, ImportError> {
    let digest = found.manifest.config.digest;
    let config: ConfigFile =
        serde_json::from_slice(&found.config).map_err(|source| ImportError::Config { digest, source })?;
    if config.os != "linux" || config.architecture != architecture {
        let offered = vec![format!("{}/{}", config.os, config.architecture)];
        return Err(ImportError::Platform {
            architecture: architecture.to_owned(),
            offered,
        });
    }
    Ok(config)
}

fn entries(
    archive: &dyn DiskFile,
    limits: &Limits,
    entries_left: &mut usize,
    content_bytes: &mut Budget,
    digest: super::Digest,
) -> Result<Vec<TarEntry>, ImportError> {
    let archive_error = |source| ImportError::Archive { digest, source };
    let mut reader = TarReader::new(archive).map_err(archive_error)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().map_err(archive_error)? {
        *entries_left = entries_left.checked_sub(1).ok_or(ImportError::TooManyEntries {
            entries_max: limits.entries_max,
        })?;
        if let TarKind::File(extents) = &entry.kind {
            content_bytes.spend(extents.size_bytes)?;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads files out of the layers' archives.
struct Spooled {
    archives: Vec<Box<dyn DiskFile>>,
    contents: BTreeMap<InodeId, Content>,
}

impl Contents for Spooled {
    fn read_at(&mut self, file: InodeId, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let content = self.contents.get(&file).ok_or(io::ErrorKind::NotFound)?;
        let archive = &self.archives[content.layer];
        let runs = &content.extents.runs;
        let end = offset + buf.len() as u64;
        buf.fill(0);
        let first = runs.partition_point(|run| run.at + run.len <= offset);
        for run in runs[first..].iter().take_while(|run| run.at < end) {
            let from = run.at.max(offset);
            let to = (run.at + run.len).min(end);
            let within = |position: u64| usize::try_from(position - offset).expect("inside the buffer");
            archive.read_exact_at(&mut buf[within(from)..within(to)], run.source + (from - run.at))?;
        }
        Ok(())
    }
}

struct ToFile<'f>(&'f dyn DiskFile);

impl Output for ToFile<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
}
