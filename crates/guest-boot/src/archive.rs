//! An initramfs: a newc archive, the same bytes for the same inputs, made without root.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::Path,
};

use cpio::newc::{Builder, trailer};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// Why an archive could not be made.
#[derive(Debug, thiserror::Error)]
#[error("add {path} to the archive")]
pub struct ArchiveError {
    path: String,
    #[source]
    source: io::Error,
}

struct Node {
    mode: u32,
    device: (u32, u32),
    bytes: Vec<u8>,
}

/// Files on their way into an initramfs. Paths may begin with a slash; parents are made as needed.
#[derive(Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.nodes.keys()).finish()
    }
}

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, path: &str) {
        self.add(path, DIRECTORY, (0, 0), &[]);
    }

    /// Adds a file that can be run.
    pub fn program(&mut self, path: &str, bytes: &[u8]) {
        self.add(path, PROGRAM, (0, 0), bytes);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, bytes: &[u8]) {
        self.add(path, FILE, (0, 0), bytes);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.add(path, LINK, (0, 0), target.as_bytes());
    }

    /// Adds the directories that PID 1 mounts on, and the console it speaks on.
    pub fn system_directories(&mut self) {
        for directory in ["dev", "proc", "sys", "run", "tmp", "etc", "mnt", "root"] {
            self.directory(directory);
        }
        self.add("dev/console", CONSOLE, (5, 1), &[]);
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        let node = Node {
            mode,
            device,
            bytes: bytes.to_vec(),
        };
        self.nodes.insert(path.trim_start_matches('/').to_owned(), node);
    }

    /// Writes the archive, in the order of the names, which puts each directory before what is in it.
    ///
    /// Archives can be put one behind another: the kernel unpacks all of them.
    ///
    /// # Errors
    /// When a file is larger than the format can say (4 GiB).
    pub fn build(mut self) -> Result<Vec<u8>, ArchiveError> {
        self.add_parents();
        let mut archive = Vec::new();
        for (index, (path, node)) in self.nodes.iter().enumerate() {
            let at = |source| ArchiveError {
                path: path.clone(),
                source,
            };
            let entry = Builder::new(path)
                .ino(u32::try_from(index + 1).map_err(|error| at(io::Error::other(error)))?)
                .mode(node.mode)
                .nlink(1)
                .mtime(0)
                .rdev_major(node.device.0)
                .rdev_minor(node.device.1);
            let bytes = u32::try_from(node.bytes.len()).map_err(|error| at(io::Error::other(error)))?;
            let mut writer = entry.write(&mut archive, bytes);
            writer.write_all(&node.bytes).map_err(at)?;
            writer.finish().map_err(at)?;
        }
        trailer(&mut archive).map_err(|source| ArchiveError {
            path: "the trailer".to_owned(),
            source,
        })?;
        // The kernel looks for archives at four-byte borders; QEMU hands over pages.
        archive.resize(archive.len().next_multiple_of(512), 0);
        Ok(archive)
    }

    fn add_parents(&mut self) {
        let mut parents = BTreeSet::new();
        for path in self.nodes.keys() {
            let ancestors = Path::new(path).ancestors().skip(1);
            parents.extend(
                ancestors
                    .map(|parent| parent.to_string_lossy().into_owned())
                    .filter(|parent| !parent.is_empty()),
            );
        }
        for parent in parents {
            self.nodes.entry(parent).or_insert(Node {
                mode: DIRECTORY,
                device: (0, 0),
                bytes: Vec::new(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
