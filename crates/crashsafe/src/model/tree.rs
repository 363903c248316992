//! A whole file system at rest: what is left after a power cut, or what was there before.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use super::content::Content;
use crate::{Disk, OpenOptions};

/// How much is copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// A file or a directory of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A file.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its bytes.
        content: Content,
    },
}

/// Files and directories by path, relative to the root, which itself is not listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    pub(crate) fn insert(&mut self, path: PathBuf, node: Node) {
        self.nodes.insert(path, node);
    }

    /// Returns all paths with what they are, parents before their children.
    pub fn nodes(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// Returns a file's bytes, or `None` when there is no file of that path.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&Content> {
        match self.nodes.get(path.as_ref()) {
            Some(Node::File { content, .. }) => Some(content),
            Some(Node::Dir) | None => None,
        }
    }

    /// Tells whether there is a file or a directory of that path.
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        self.nodes.contains_key(path.as_ref())
    }

    /// Reads what stands below `root` on `disk`, holes as holes. Every file gets mode 0600.
    ///
    /// # Errors
    /// As the disk; `InvalidInput` when `root` is there and is no directory. A missing root is an empty tree.
    pub fn read<D: Disk + ?Sized>(disk: &D, root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        match disk.stat(root)? {
            None => return Ok(tree),
            Some(stat) if stat.is_dir => {}
            Some(_) => {
                let message = format!("{} is no directory", root.display());
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let mut open = vec![PathBuf::new()];
        while let Some(directory) = open.pop() {
            for entry in disk.list(&root.join(&directory))? {
                let path = directory.join(&entry.name);
                if entry.is_dir {
                    tree.insert(path.clone(), Node::Dir);
                    open.push(path);
                } else {
                    let content = read_content(disk, &root.join(&path))?;
                    tree.insert(path, Node::File { mode: 0o600, content });
                }
            }
        }
        Ok(tree)
    }

    /// Writes the tree below `root`, which is created when it is missing and must be empty.
    ///
    /// # Errors
    /// As the disk; `DirectoryNotEmpty` when something stands there.
    pub fn write<D: Disk + ?Sized>(&self, disk: &D, root: &Path) -> Result<()> {
        const LABEL: &str = "tree:write";
        disk.create_dir_all(LABEL, root)?;
        if !disk.list(root)?.is_empty() {
            let message = format!("{} is not empty", root.display());
            return Err(Error::new(ErrorKind::DirectoryNotEmpty, message));
        }
        for (path, node) in &self.nodes {
            let path = root.join(path);
            match node {
                Node::Dir => disk.create_dir_all(LABEL, &path)?,
                Node::File { mode, content } => {
                    let file = disk.open(
                        LABEL,
                        &path,
                        OpenOptions {
                            mode: *mode,
                            ..OpenOptions::CREATE_NEW
                        },
                    )?;
                    file.set_len(content.len())?;
                    for (offset, bytes) in content.data() {
                        file.write_at(bytes, offset)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn read_content<D: Disk + ?Sized>(disk: &D, path: &Path) -> Result<Content> {
    let file = disk.open("tree:read", path, OpenOptions::READ)?;
    let mut content = Content::default();
    let mut offset = 0;
    while let Some(run) = file.next_data(offset)? {
        let mut at = run.start;
        while at < run.end {
            let wanted = (run.end - at).min(COPY_BYTES);
            let mut bytes = vec![0; usize::try_from(wanted).expect("a piece fits into memory")];
            file.read_exact_at(&mut bytes, at)?;
            content.put(at, &bytes);
            at += wanted;
        }
        offset = run.end;
    }
    content.resize(file.len()?);
    Ok(content)
}

#[cfg(test)]
mod tests;
