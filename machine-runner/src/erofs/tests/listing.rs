//! What a reader of an image sees, comparable between readers.

use std::collections::BTreeMap;

use crate::erofs::{FileTime, InodeId, Kind, Tree};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: FileTime,
    pub(crate) links: u32,
    /// The same for every name of one inode: the ordinal of the first path, in path order, that leads to it.
    pub(crate) identity: u64,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) kind: SeenKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SeenKind {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Socket,
}

/// Everything by path, the root being the empty path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Listing(pub(crate) BTreeMap<Vec<u8>, Seen>);

impl Listing {
    /// Replaces identities that are only unique by ordinals that two readers agree on.
    pub(crate) fn normalised(mut self) -> Self {
        let mut ordinals = BTreeMap::new();
        for node in self.0.values_mut() {
            let next = ordinals.len() as u64;
            node.identity = *ordinals.entry(node.identity).or_insert(next);
        }
        self
    }
}

pub(crate) fn assert_same(seen: &Listing, wanted: &Listing) {
    for (path, node) in &wanted.0 {
        assert_eq!(seen.0.get(path), Some(node), "{}", String::from_utf8_lossy(path));
    }
    assert_eq!(seen.0.len(), wanted.0.len(), "more paths than the tree has");
}

pub(crate) fn expected(tree: &Tree, contents: &BTreeMap<InodeId, Vec<u8>>) -> Listing {
    let mut links = BTreeMap::new();
    let mut paths = Vec::new();
    let mut pending = vec![(Vec::new(), InodeId::ROOT)];
    while let Some((path, id)) = pending.pop() {
        if let Kind::Directory(children) = &tree.get(id).kind {
            *links.entry(id).or_insert(1) += 1;
            for (name, child) in children {
                let child_path = [path.as_slice(), b"/", name].concat();
                *links.entry(*child).or_insert(0) += 1;
                if matches!(tree.get(*child).kind, Kind::Directory(_)) {
                    *links.entry(id).or_insert(0) += 1;
                }
                pending.push((child_path, *child));
            }
        }
        paths.push((path, id));
    }
    let nodes = paths.into_iter().map(|(path, id)| {
        let inode = tree.get(id);
        let (file_type, kind) = match &inode.kind {
            Kind::File { .. } => (0o100_000, SeenKind::File(contents[&id].clone())),
            Kind::Directory(_) => (0o040_000, SeenKind::Directory),
            Kind::Symlink(target) => (0o120_000, SeenKind::Symlink(target.clone())),
            Kind::CharacterDevice { major, minor } => (0o020_000, SeenKind::CharacterDevice(*major, *minor)),
            Kind::BlockDevice { major, minor } => (0o060_000, SeenKind::BlockDevice(*major, *minor)),
            Kind::Fifo => (0o010_000, SeenKind::Fifo),
            Kind::Socket => (0o140_000, SeenKind::Socket),
        };
        let seen = Seen {
            mode: file_type | inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            links: links[&id],
            identity: id.index() as u64,
            xattrs: inode.xattrs.clone(),
            kind,
        };
        (path, seen)
    });
    Listing(nodes.collect()).normalised()
}
