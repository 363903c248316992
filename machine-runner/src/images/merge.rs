//! Lays the layers of an image over each other. Pure: nothing is unpacked, a tree in memory refers to the archives.
//!
//! Rules, as containerd applies them:
//! * within a layer, whiteouts hide only what lower layers brought, wherever they stand in the archive;
//! * a path's parents are resolved inside the tree, symbolic links included, and never leave its root;
//! * a directory over a directory replaces its attributes and keeps its children; anything else replaces what was there;
//! * a hard link may lead to a file of a lower layer, even one that the same layer hides.

use std::collections::BTreeMap;

use super::tar_reader::{Extents, TarEntry, TarKind};
use crate::erofs::{self, FileTime, Inode, InodeId, Kind, Tree};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS_INTERNAL: &[u8] = b".wh..wh.";
const SYMLINKS_MAX: u32 = 40;
/// As the kernel's PATH_MAX.
const PATH_BYTES_MAX: usize = 4096;

/// How much of a hopeless path a message shows.
const NAME_BYTES_SHOWN: usize = 80;

/// Where a file's bytes lie.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// Index of the layer whose archive holds the bytes.
    pub(super) layer: usize,
    pub(super) extents: Extents,
}

/// Why a layer cannot be laid over the ones below.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A path would lead out of the image.
    #[error("entry {path:?} leads out of the image")]
    Escape { path: String },
    /// A path whose name no file system can hold.
    #[error(
        "entry {path:?} has a name longer than 255 bytes or with a NUL byte, or is longer than 4096 bytes"
    )]
    Name { path: String },
    /// A parent of the path is not a directory.
    #[error("entry {path:?} lies below something that is not a directory")]
    NotADirectory { path: String },
    /// More symbolic links on the way than a file system follows.
    #[error("entry {path:?} lies behind more than 40 symbolic links")]
    SymlinkLoop { path: String },
    /// More files than the limit.
    #[error("the image has more than {inodes_max} files")]
    TooMany { inodes_max: usize },
    /// A hard link to nothing.
    #[error("hard link {path:?} leads to {target:?}, which is not a file of the image")]
    LinkTarget { path: String, target: String },
}

/// The tree so far.
#[derive(Debug)]
pub(super) struct Merger {
    tree: Tree,
    contents: BTreeMap<InodeId, Content>,
    layers: usize,
    inodes_max: usize,
    /// Attributes that the image format cannot hold, or that would change the meaning of the overlay above.
    pub(super) xattrs_dropped: u64,
}

impl Merger {
    /// * `inodes_max`: how many inodes all layers together may bring, hidden ones included.
    pub(super) fn new(inodes_max: usize) -> Self {
        let tree = Tree::new(implied_directory());
        Self {
            tree,
            contents: BTreeMap::new(),
            layers: 0,
            inodes_max,
            xattrs_dropped: 0,
        }
    }

    pub(super) fn finish(self) -> (Tree, BTreeMap<InodeId, Content>) {
        (self.tree, self.contents)
    }

    /// Lays one layer over the tree, the lowest first.
    pub(super) fn add_layer(&mut self, entries: Vec<TarEntry>) -> Result<(), MergeError> {
        // Hard links into lower layers are looked up before whiteouts hide their targets.
        let mut hidden_targets = BTreeMap::new();
        for entry in &entries {
            if let TarKind::HardLink(target) = &entry.kind
                && let Some(id) = self.lookup(target)?
            {
                hidden_targets.insert(target.clone(), id);
            }
        }
        let mut added = Vec::with_capacity(entries.len());
        for entry in entries {
            let components = components(&entry.path)?;
            let is_marker = components.iter().any(|name| name.starts_with(WHITEOUT));
            if is_marker {
                self.whiteout(&entry.path, &components)?
            } else {
                added.push((entry, components))
            }
        }
        let mut links = Vec::new();
        for (entry, components) in added {
            match entry.kind {
                TarKind::HardLink(target) => links.push(HardLink {
                    path: entry.path,
                    components,
                    target,
                }),
                _ => self.add_entry(entry, &components)?,
            }
        }
        self.add_links(links, &hidden_targets)?;
        self.layers += 1;
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], components: &[Vec<u8>]) -> Result<(), MergeError> {
        let Some((name, parents)) = components.split_last() else {
            return Ok(());
        };
        if parents.iter().any(|parent| parent.starts_with(WHITEOUT)) {
            return Ok(()); // below a directory that only aufs looks into
        }
        let hidden = &name[WHITEOUT.len()..];
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(MergeError::Escape { path: lossy(path) });
        }
        let Some(parent) = self.resolve(path, parents, Missing::Leave)? else {
            return Ok(());
        };
        let Kind::Directory(children) = &mut self.tree.get_mut(parent).kind else {
            return Ok(());
        };
        if name == OPAQUE {
            children.clear();
        } else if !name.starts_with(AUFS_INTERNAL) {
            children.remove(hidden);
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: TarEntry, components: &[Vec<u8>]) -> Result<(), MergeError> {
        let TarEntry {
            path,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
            kind,
        } = entry;
        let (kind, content) = match kind {
            TarKind::File(extents) => (
                Kind::File {
                    size_bytes: extents.size_bytes,
                },
                Some(extents),
            ),
            TarKind::Directory => (Kind::Directory(BTreeMap::new()), None),
            TarKind::Symlink(target) => (Kind::Symlink(target), None),
            TarKind::CharacterDevice { major, minor } => (Kind::CharacterDevice { major, minor }, None),
            TarKind::BlockDevice { major, minor } => (Kind::BlockDevice { major, minor }, None),
            TarKind::Fifo => (Kind::Fifo, None),
            TarKind::HardLink(_) => unreachable!("hard links are added after everything else"),
        };
        let xattrs = self.storable(xattrs);
        let inode = Inode {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
            kind,
        };
        let is_directory = matches!(inode.kind, Kind::Directory(_));
        let Some((name, parents)) = components.split_last() else {
            if !is_directory {
                return Err(MergeError::NotADirectory { path: lossy(&path) });
            }
            self.replace_attributes(InodeId::ROOT, inode);
            return Ok(());
        };
        let parent = self.resolve_or_create(&path, parents)?;
        let existing = self.tree.child(parent, name);
        if let Some(id) = existing.filter(|id| is_directory && self.is_directory(*id)) {
            self.replace_attributes(id, inode);
            return Ok(());
        }
        let id = self.add_inode(inode)?;
        if let Some(extents) = content {
            self.contents.insert(
                id,
                Content {
                    layer: self.layers,
                    extents,
                },
            );
        }
        self.name(parent, name, id);
        Ok(())
    }

    /// Adds hard links, which may stand before what they lead to and may lead to each other.
    fn add_links(
        &mut self,
        mut links: Vec<HardLink>,
        hidden_targets: &BTreeMap<Vec<u8>, InodeId>,
    ) -> Result<(), MergeError> {
        while !links.is_empty() {
            let before = links.len();
            let mut waiting = Vec::new();
            for link in links {
                match self.lookup(&link.target)? {
                    Some(id) => self.link(&link, id)?,
                    None => waiting.push(link),
                }
            }
            if waiting.len() == before {
                let link = waiting.remove(0);
                let Some(id) = hidden_targets.get(&link.target) else {
                    return Err(MergeError::LinkTarget {
                        path: lossy(&link.path),
                        target: lossy(&link.target),
                    });
                };
                self.link(&link, *id)?;
            }
            links = waiting;
        }
        Ok(())
    }

    fn link(&mut self, link: &HardLink, id: InodeId) -> Result<(), MergeError> {
        let Some((name, parents)) = link.components.split_last().filter(|_| !self.is_directory(id)) else {
            return Err(MergeError::LinkTarget {
                path: lossy(&link.path),
                target: lossy(&link.target),
            });
        };
        let parent = self.resolve_or_create(&link.path, parents)?;
        self.name(parent, name, id);
        Ok(())
    }

    /// Finds what a path names, without following it at the last step.
    fn lookup(&self, path: &[u8]) -> Result<Option<InodeId>, MergeError> {
        let components = components(path)?;
        let Some((name, parents)) = components.split_last() else {
            return Ok(Some(InodeId::ROOT));
        };
        // Looking never changes the tree.
        let parent = Walk {
            tree: &self.tree,
            path,
            symlinks: 0,
        }
        .down(parents)?;
        Ok(parent.existing().and_then(|parent| self.tree.child(parent, name)))
    }

    fn resolve(
        &mut self,
        path: &[u8],
        parents: &[Vec<u8>],
        missing: Missing,
    ) -> Result<Option<InodeId>, MergeError> {
        loop {
            match (
                Walk {
                    tree: &self.tree,
                    path,
                    symlinks: 0,
                }
                .down(parents)?,
                missing,
            ) {
                (Reached::Directory(id), _) => return Ok(Some(id)),
                (Reached::Missing { .. }, Missing::Leave) => return Ok(None),
                (Reached::Missing { parent, name }, Missing::Create) => {
                    let id = self.add_inode(implied_directory())?;
                    self.name(parent, &name, id);
                }
            }
        }
    }

    fn resolve_or_create(&mut self, path: &[u8], parents: &[Vec<u8>]) -> Result<InodeId, MergeError> {
        Ok(self
            .resolve(path, parents, Missing::Create)?
            .expect("missing directories are created"))
    }

    fn add_inode(&mut self, inode: Inode) -> Result<InodeId, MergeError> {
        let id = self.tree.add(inode);
        if id.index() >= self.inodes_max {
            Err(MergeError::TooMany {
                inodes_max: self.inodes_max,
            })
        } else {
            Ok(id)
        }
    }

    fn is_directory(&self, id: InodeId) -> bool {
        matches!(self.tree.get(id).kind, Kind::Directory(_))
    }

    fn name(&mut self, parent: InodeId, name: &[u8], id: InodeId) {
        let Kind::Directory(children) = &mut self.tree.get_mut(parent).kind else {
            unreachable!("parents were resolved to directories");
        };
        children.insert(name.to_vec(), id);
    }

    fn replace_attributes(&mut self, id: InodeId, from: Inode) {
        let Inode {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
            kind: _,
        } = from;
        let inode = self.tree.get_mut(id);
        (inode.mode, inode.uid, inode.gid, inode.mtime, inode.xattrs) = (mode, uid, gid, mtime, xattrs);
    }

    fn storable(&mut self, mut xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let before = xattrs.len();
        xattrs.retain(|name, value| {
            erofs::can_store_xattr(name)
                && !name.starts_with(b"trusted.overlay.")
                && u16::try_from(value.len()).is_ok()
        });
        self.xattrs_dropped += (before - xattrs.len()) as u64;
        xattrs
    }
}

/// A hard link that waits for its target.
struct HardLink {
    path: Vec<u8>,
    components: Vec<Vec<u8>>,
    target: Vec<u8>,
}

/// What to do about directories that are not there.
#[derive(Debug, Clone, Copy)]
enum Missing {
    Leave,
    Create,
}

/// How far a walk came.
enum Reached {
    Directory(InodeId),
    Missing { parent: InodeId, name: Vec<u8> },
}

impl Reached {
    fn existing(self) -> Option<InodeId> {
        match self {
            Self::Directory(id) => Some(id),
            Self::Missing { .. } => None,
        }
    }
}

/// A walk down the tree.
struct Walk<'t> {
    tree: &'t Tree,
    path: &'t [u8],
    symlinks: u32,
}

impl Walk<'_> {
    fn down(mut self, parents: &[Vec<u8>]) -> Result<Reached, MergeError> {
        let mut way = vec![InodeId::ROOT];
        let mut ahead: Vec<Vec<u8>> = parents.iter().rev().cloned().collect();
        while let Some(name) = ahead.pop() {
            let here = *way.last().expect("the root stays");
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(child) = self.tree.child(here, &name) else {
                return Ok(Reached::Missing { parent: here, name });
            };
            match &self.tree.get(child).kind {
                Kind::Directory(_) => way.push(child),
                Kind::Symlink(target) => {
                    self.symlinks += 1;
                    if self.symlinks > SYMLINKS_MAX {
                        return Err(MergeError::SymlinkLoop {
                            path: lossy(self.path),
                        });
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    let steps = target
                        .split(|byte| *byte == b'/')
                        .filter(|step| !step.is_empty() && *step != b".");
                    ahead.extend(steps.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev());
                }
                _ => {
                    return Err(MergeError::NotADirectory {
                        path: lossy(self.path),
                    });
                }
            }
        }
        Ok(Reached::Directory(*way.last().expect("the root stays")))
    }
}

/// Splits a path of an archive: absolute paths become relative, `..` is refused.
fn components(path: &[u8]) -> Result<Vec<Vec<u8>>, MergeError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(MergeError::Name {
            path: lossy(&path[..NAME_BYTES_SHOWN]),
        });
    }
    let steps = path
        .split(|byte| *byte == b'/')
        .filter(|step| !step.is_empty() && *step != b".");
    let checked = steps.map(|step| {
        if step == b".." {
            Err(MergeError::Escape { path: lossy(path) })
        } else if step.len() > erofs::NAME_BYTES_MAX || step.contains(&0) {
            Err(MergeError::Name { path: lossy(path) })
        } else {
            Ok(step.to_vec())
        }
    });
    checked.collect()
}

fn implied_directory() -> Inode {
    Inode {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: FileTime::default(),
        xattrs: BTreeMap::new(),
        kind: Kind::Directory(BTreeMap::new()),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
