//! The files inside a tar archive, by name, read in place.

use std::collections::BTreeMap;
use std::sync::Arc;

use crashsafe::DiskFile;

use super::Blob;
use crate::images::tar_reader::{TarError, TarKind, TarReader};

/// An image archive holds a few files per layer.
const MEMBERS_MAX: usize = 100_000;

/// Names and places of an archive's files.
#[derive(Debug)]
pub(super) struct Members {
    files: BTreeMap<String, Blob>,
    /// docker save once wrote layers that several images share as links to one.
    links: BTreeMap<String, String>,
}

impl Members {
    pub(super) fn get(&self, name: &str) -> Option<Blob> {
        let name = self.links.get(name).map_or(name, String::as_str);
        self.files.get(name).cloned()
    }
}

pub(super) fn index(file: &Arc<dyn DiskFile>) -> Result<Members, TarError> {
    let mut members = Members {
        files: BTreeMap::new(),
        links: BTreeMap::new(),
    };
    let mut reader = TarReader::new(&**file)?;
    while let Some(entry) = reader.next()? {
        if members.files.len() + members.links.len() >= MEMBERS_MAX {
            return Err(TarError::TooMany {
                entries_max: MEMBERS_MAX,
            });
        }
        let name = normal(&String::from_utf8_lossy(&entry.path), "");
        match entry.kind {
            TarKind::File(extents) => {
                // A sparse member would be no blob of ours; its digest will not match.
                let start = extents.runs.first().map_or(0, |run| run.source);
                let stored: u64 = extents.runs.iter().map(|run| run.len).sum();
                members.files.insert(name, Blob::part(file, start, stored));
            }
            TarKind::Symlink(target) => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                let target = normal(&String::from_utf8_lossy(&target), parent);
                members.links.insert(name, target);
            }
            TarKind::HardLink(target) => {
                let target = normal(&String::from_utf8_lossy(&target), "");
                members.links.insert(name, target);
            }
            TarKind::Directory
            | TarKind::CharacterDevice { .. }
            | TarKind::BlockDevice { .. }
            | TarKind::Fifo => {}
        }
    }
    Ok(members)
}

/// Resolves `.` and `..` in a name relative to `parent`; names only select members, they are never opened.
fn normal(name: &str, parent: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in parent.split('/').chain(name.split('/')) {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    steps.join("/")
}
