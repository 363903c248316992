//! Decides where everything goes before a byte is written. Pure.
//!
//! Block 0 holds the superblock, the blocks after it inodes with what is stored beside them, and the data area
//! follows. Records are packed best-fit, so that tails of files fill the gaps.

use std::collections::BTreeSet;

use super::format::{
    self, BLOCK_BYTES, DataLayout, INODE_COMPACT_BYTES, INODE_EXTENDED_BYTES, InodeRecord, NAME_BYTES_MAX,
    NO_BLOCK, SLOT_BYTES, SYMLINK_BYTES_MAX, XATTRS_BYTES_MAX,
};
use super::{InodeId, Kind, Options, Tree, WriteError, directory};

/// Where one inode goes.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) id: InodeId,
    /// The directory that holds it: the first one that names it.
    pub(super) parent: InodeId,
    /// A name of it, for messages.
    pub(super) name: String,
    pub(super) record: InodeRecord,
    /// Byte offset of the record in the image.
    pub(super) offset: u64,
}

impl Placed {
    /// Returns the bytes stored right after the inode.
    pub(super) fn tail_bytes(&self) -> u64 {
        match self.record.layout {
            DataLayout::Plain => 0,
            DataLayout::InlineTail => self.record.size_bytes % BLOCK_BYTES,
        }
    }

    /// Returns the bytes stored in the data area.
    pub(super) fn body_bytes(&self) -> u64 {
        self.record.size_bytes - self.tail_bytes()
    }

    /// Returns the number by which directories name the inode.
    pub(super) fn node(&self) -> u64 {
        self.offset / SLOT_BYTES
    }
}

/// The whole layout.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of their numbers; the root is first.
    pub(super) placed: Vec<Placed>,
    /// Index into `placed`, by [`InodeId`].
    by_id: Vec<Option<usize>>,
    /// Blocks before the data area.
    pub(super) meta_blocks: u64,
    pub(super) blocks: u32,
}

impl Plan {
    pub(super) fn new(tree: &Tree, options: &Options) -> Result<Self, WriteError> {
        let mut walk = Walk {
            tree,
            placed: Vec::new(),
            by_id: vec![None; tree.inodes.len()],
        };
        walk.visit_all()?;
        let Walk {
            mut placed, by_id, ..
        } = walk;
        let mut space = Space {
            next_block: 1,
            free: BTreeSet::new(),
        };
        for inode in &mut placed {
            place(tree, options, inode, &mut space)?;
        }
        let meta_blocks = space.next_block;
        let mut next = meta_blocks;
        for inode in &mut placed {
            let blocks = inode.body_bytes().div_ceil(BLOCK_BYTES);
            if blocks > 0 {
                inode.record.union_field = u32::try_from(next).map_err(|_| WriteError::TooLarge)?;
                next = next.checked_add(blocks).ok_or(WriteError::TooLarge)?;
            }
        }
        let blocks = u32::try_from(next).map_err(|_| WriteError::TooLarge)?;
        assert!(
            placed[0].node() <= u64::from(u16::MAX),
            "the root is placed first"
        );
        Ok(Self {
            placed,
            by_id,
            meta_blocks,
            blocks,
        })
    }

    /// Returns the place of an inode that the tree reaches.
    pub(super) fn of(&self, id: InodeId) -> &Placed {
        &self.placed[self.by_id[id.0].expect("every named inode was placed")]
    }
}

/// The walk over the tree that numbers inodes, counts links and checks what the format cannot hold.
struct Walk<'t> {
    tree: &'t Tree,
    placed: Vec<Placed>,
    by_id: Vec<Option<usize>>,
}

impl Walk<'_> {
    fn visit_all(&mut self) -> Result<(), WriteError> {
        self.visit(InodeId::ROOT, InodeId::ROOT, b"/")?;
        // An explicit stack: trees may be deeper than ours.
        let mut pending = vec![InodeId::ROOT];
        while let Some(directory) = pending.pop() {
            let Kind::Directory(children) = &self.tree.get(directory).kind else {
                continue;
            };
            let mut subdirectories = Vec::new();
            for (name, child) in children {
                check_name(name)?;
                self.visit(*child, directory, name)?;
                if matches!(self.tree.get(*child).kind, Kind::Directory(_)) {
                    subdirectories.push(*child);
                }
            }
            let links = u32::try_from(subdirectories.len()).map_err(|_| WriteError::TooLarge)?;
            let index = self.by_id[directory.0].expect("visited before it was pushed");
            self.placed[index].record.links += links;
            pending.extend(subdirectories.into_iter().rev());
        }
        Ok(())
    }

    fn visit(&mut self, id: InodeId, parent: InodeId, name: &[u8]) -> Result<(), WriteError> {
        let inode = self.tree.get(id);
        let is_directory = matches!(inode.kind, Kind::Directory(_));
        if let Some(index) = self.by_id[id.0] {
            if is_directory {
                return Err(WriteError::LinkedDirectory { name: lossy(name) });
            }
            let record = &mut self.placed[index].record;
            record.links = record.links.checked_add(1).ok_or(WriteError::TooLarge)?;
            return Ok(());
        }
        self.by_id[id.0] = Some(self.placed.len());
        let record = InodeRecord {
            extended: true,
            layout: DataLayout::Plain,
            xattr_count: 0,
            mode: format::mode_of(&inode.kind, inode.mode),
            links: if is_directory { 2 } else { 1 },
            size_bytes: 0,
            union_field: NO_BLOCK,
            number: u32::try_from(self.placed.len() + 1).map_err(|_| WriteError::TooLarge)?,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
        };
        self.placed.push(Placed {
            id,
            parent,
            name: lossy(name),
            record,
            offset: 0,
        });
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<(), WriteError> {
    let bad = name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.iter().any(|byte| matches!(byte, b'/' | 0))
        || name == b"."
        || name == b"..";
    if bad {
        Err(WriteError::Name { name: lossy(name) })
    } else {
        Ok(())
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Fills in size, form and layout of one inode, and gives it its place among the inodes.
fn place(tree: &Tree, options: &Options, inode: &mut Placed, space: &mut Space) -> Result<(), WriteError> {
    let source = tree.get(inode.id);
    inode.record.size_bytes = match &source.kind {
        Kind::File { size_bytes } => *size_bytes,
        Kind::Directory(children) => {
            let mut names: Vec<&[u8]> = children
                .keys()
                .map(Vec::as_slice)
                .chain([&b"."[..], &b".."[..]])
                .collect();
            names.sort_unstable();
            directory::size_bytes(names.into_iter())
        }
        Kind::Symlink(target) => {
            if target.is_empty() || target.len() > SYMLINK_BYTES_MAX {
                return Err(WriteError::SymlinkTarget {
                    name: inode.name.clone(),
                    bytes: target.len(),
                });
            }
            target.len() as u64
        }
        Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            inode.record.union_field =
                format::device_number(*major, *minor).ok_or_else(|| WriteError::Device {
                    name: inode.name.clone(),
                    major: *major,
                    minor: *minor,
                })?;
            0
        }
        Kind::Fifo | Kind::Socket => {
            inode.record.union_field = 0;
            0
        }
    };
    let (xattr_bytes, xattr_count) = xattr_area(source, &inode.name)?;
    inode.record.xattr_count = xattr_count;
    inode.record.extended = format::needs_extended(&inode.record, options.build_time);
    let inode_bytes = if inode.record.extended {
        INODE_EXTENDED_BYTES
    } else {
        INODE_COMPACT_BYTES
    };
    let header_bytes = (inode_bytes + xattr_bytes) as u64;
    let tail_bytes = inode.record.size_bytes % BLOCK_BYTES;
    let mut need_bytes = header_bytes;
    if tail_bytes > 0 && header_bytes + tail_bytes <= BLOCK_BYTES {
        inode.record.layout = DataLayout::InlineTail;
        need_bytes += tail_bytes;
    }
    inode.offset = space.take(need_bytes);
    Ok(())
}

fn xattr_area(inode: &super::Inode, name: &str) -> Result<(usize, u16), WriteError> {
    let mut bytes = 0;
    for (xattr, value) in &inode.xattrs {
        let rest = format::split_xattr_name(xattr).filter(|_| u16::try_from(value.len()).is_ok());
        let Some((_, rest)) = rest else {
            return Err(WriteError::Xattr {
                name: name.to_owned(),
                xattr: lossy(xattr),
            });
        };
        bytes += format::xattr_entry_bytes(rest, value);
    }
    if bytes > XATTRS_BYTES_MAX {
        return Err(WriteError::XattrsTooLarge {
            name: name.to_owned(),
            bytes,
        });
    }
    Ok(format::xattr_area(bytes))
}

/// The blocks of the inode area, with the room that is left in them.
struct Space {
    next_block: u64,
    /// (free bytes, block): the free bytes are the last ones of the block.
    free: BTreeSet<(u64, u64)>,
}

impl Space {
    /// Returns the offset of a new record. One that fits a block never crosses into the next: the kernel refuses a
    /// tail that does.
    fn take(&mut self, need_bytes: u64) -> u64 {
        let need_bytes = need_bytes.next_multiple_of(SLOT_BYTES);
        if let Some((free_bytes, block)) = self.free.range((need_bytes, 0)..).next().copied() {
            self.free.remove(&(free_bytes, block));
            self.give(free_bytes - need_bytes, block);
            return (block + 1) * BLOCK_BYTES - free_bytes;
        }
        let start = self.next_block;
        let blocks = need_bytes.div_ceil(BLOCK_BYTES);
        self.next_block += blocks;
        self.give(blocks * BLOCK_BYTES - need_bytes, self.next_block - 1);
        start * BLOCK_BYTES
    }

    fn give(&mut self, free_bytes: u64, block: u64) {
        if free_bytes >= INODE_COMPACT_BYTES as u64 {
            self.free.insert((free_bytes, block));
        }
    }
}
