//! The byte layout of EROFS: superblock, inodes, directory entries, extended attributes. Pure.

use super::{FileTime, Kind};

/// The block size of every image: one page of the guest.
pub const BLOCK_BYTES: u64 = 4096;
/// The block size, for in-memory arithmetic.
pub(super) const BLOCK: usize = 4096;
/// The longest file name.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest target of a symbolic link.
pub(super) const SYMLINK_BYTES_MAX: usize = 4095;
/// Where the superblock starts.
pub(super) const SUPERBLOCK_OFFSET: usize = 1024;
/// Inodes lie at multiples of this; the multiple is the node id.
pub(super) const SLOT_BYTES: u64 = 32;
/// An inode without extended fields.
pub(super) const INODE_COMPACT_BYTES: usize = 32;
/// An inode with them.
pub(super) const INODE_EXTENDED_BYTES: usize = 64;
/// One directory entry, without its name.
pub(super) const DIRENT_BYTES: usize = 12;
/// Says that an inode has no data blocks.
pub(super) const NO_BLOCK: u32 = u32::MAX;

const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const XATTR_HEADER_BYTES: usize = 12;
const XATTR_ENTRY_BYTES: usize = 4;
/// What a header's 16-bit count can express, in bytes of entries.
pub(super) const XATTRS_BYTES_MAX: usize = (u16::MAX as usize - 1) * 4;

const _: () = assert!(BLOCK as u64 == BLOCK_BYTES);
const _: () = assert!(BLOCK_BYTES.is_multiple_of(SLOT_BYTES));

/// How an inode's data is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// All of it in consecutive blocks.
    Plain,
    /// Whole blocks as in `Plain`, the rest right after the inode.
    InlineTail,
}

/// The values of an inode record.
#[derive(Debug, Clone, Copy)]
pub(super) struct InodeRecord {
    pub(super) extended: bool,
    pub(super) layout: DataLayout,
    pub(super) xattr_count: u16,
    pub(super) mode: u16,
    pub(super) links: u32,
    pub(super) size_bytes: u64,
    /// First data block, or the device number, or [`NO_BLOCK`].
    pub(super) union_field: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: FileTime,
}

/// Says whether an inode needs the 64-byte form.
pub(super) fn needs_extended(record: &InodeRecord, build_time: FileTime) -> bool {
    record.mtime != build_time
        || u16::try_from(record.links).is_err()
        || u32::try_from(record.size_bytes).is_err()
        || u16::try_from(record.uid).is_err()
        || u16::try_from(record.gid).is_err()
}

/// Appends an inode record: 32 or 64 bytes.
pub(super) fn put_inode(out: &mut Vec<u8>, inode: &InodeRecord) {
    let start = out.len();
    let layout: u16 = match inode.layout {
        DataLayout::Plain => 0,
        DataLayout::InlineTail => 2,
    };
    out.extend_from_slice(&(layout << 1 | u16::from(inode.extended)).to_le_bytes());
    out.extend_from_slice(&inode.xattr_count.to_le_bytes());
    out.extend_from_slice(&inode.mode.to_le_bytes());
    if inode.extended {
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&inode.size_bytes.to_le_bytes());
        out.extend_from_slice(&inode.union_field.to_le_bytes());
        out.extend_from_slice(&inode.number.to_le_bytes());
        out.extend_from_slice(&inode.uid.to_le_bytes());
        out.extend_from_slice(&inode.gid.to_le_bytes());
        out.extend_from_slice(&inode.mtime.seconds.to_le_bytes());
        out.extend_from_slice(&inode.mtime.nanoseconds.to_le_bytes());
        out.extend_from_slice(&inode.links.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
        assert_eq!(out.len() - start, INODE_EXTENDED_BYTES);
    } else {
        out.extend_from_slice(&low_u16(inode.links).to_le_bytes());
        out.extend_from_slice(&low_u32(inode.size_bytes).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&inode.union_field.to_le_bytes());
        out.extend_from_slice(&inode.number.to_le_bytes());
        out.extend_from_slice(&low_u16(inode.uid).to_le_bytes());
        out.extend_from_slice(&low_u16(inode.gid).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        assert_eq!(out.len() - start, INODE_COMPACT_BYTES);
    }
}

fn low_u16(value: u32) -> u16 {
    u16::try_from(value).expect("a compact inode was chosen for values that fit")
}

fn low_u32(value: u64) -> u32 {
    u32::try_from(value).expect("a compact inode was chosen for values that fit")
}

/// Returns the mode field: file type and permissions.
pub(super) fn mode_of(kind: &Kind, permissions: u16) -> u16 {
    let file_type = match kind {
        Kind::File { .. } => 0o100_000,
        Kind::Directory(_) => 0o040_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::CharacterDevice { .. } => 0o020_000,
        Kind::BlockDevice { .. } => 0o060_000,
        Kind::Fifo => 0o010_000,
        Kind::Socket => 0o140_000,
    };
    file_type | (permissions & 0o7777)
}

/// Returns a directory entry's type byte.
pub(super) fn file_type_of(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => 1,
        Kind::Directory(_) => 2,
        Kind::CharacterDevice { .. } => 3,
        Kind::BlockDevice { .. } => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// Returns the kernel's 32-bit encoding of a device number; `None` when it does not fit.
pub(super) fn device_number(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Splits a full attribute name into its name-space index and the rest; `None` when the format has no such name space.
pub(super) fn split_xattr_name(name: &[u8]) -> Option<(u8, &[u8])> {
    const SPACES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    let (index, rest) = SPACES
        .iter()
        .find_map(|(space, index)| Some((*index, name.strip_prefix(*space)?)))?;
    (!rest.is_empty() && rest.len() <= NAME_BYTES_MAX).then_some((index, rest))
}

/// Returns the bytes that an attribute takes, padded to 4.
pub(super) fn xattr_entry_bytes(name_rest: &[u8], value: &[u8]) -> usize {
    (XATTR_ENTRY_BYTES + name_rest.len() + value.len()).next_multiple_of(4)
}

/// Returns the bytes of an inode's attribute area with `entries_bytes` of entries, and the count that its inode states.
pub(super) fn xattr_area(entries_bytes: usize) -> (usize, u16) {
    if entries_bytes == 0 {
        return (0, 0);
    }
    let count = u16::try_from(entries_bytes / 4 + 1).expect("checked against XATTRS_BYTES_MAX");
    (XATTR_HEADER_BYTES + entries_bytes, count)
}

/// Appends the attribute area: a header of zeros (nothing shared), then the entries.
pub(super) fn put_xattrs<'a>(out: &mut Vec<u8>, xattrs: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) {
    let mut header_written = false;
    for (name, value) in xattrs {
        if !header_written {
            out.extend_from_slice(&[0; XATTR_HEADER_BYTES]);
            header_written = true;
        }
        let (index, rest) = split_xattr_name(name).expect("attribute names were checked by the plan");
        let start = out.len();
        out.push(u8::try_from(rest.len()).expect("checked"));
        out.push(index);
        out.extend_from_slice(
            &u16::try_from(value.len())
                .expect("checked by the plan")
                .to_le_bytes(),
        );
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(start + xattr_entry_bytes(rest, value), 0);
    }
}

/// The values of a superblock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    pub(super) root_node: u16,
    pub(super) inodes: u64,
    pub(super) build_time: FileTime,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
}

/// Returns the first block of the image, with its checksum.
pub(super) fn first_block(superblock: &Superblock) -> Vec<u8> {
    let mut sb = Vec::with_capacity(BLOCK - SUPERBLOCK_OFFSET);
    sb.extend_from_slice(&MAGIC.to_le_bytes());
    sb.extend_from_slice(&[0; 4]); // checksum, below
    sb.extend_from_slice(&(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
    sb.push(12); // block size, as a power of two
    sb.push(0); // no extension slots
    sb.extend_from_slice(&superblock.root_node.to_le_bytes());
    sb.extend_from_slice(&superblock.inodes.to_le_bytes());
    sb.extend_from_slice(&superblock.build_time.seconds.to_le_bytes());
    sb.extend_from_slice(&superblock.build_time.nanoseconds.to_le_bytes());
    sb.extend_from_slice(&superblock.blocks.to_le_bytes());
    sb.extend_from_slice(&[0; 8]); // node ids count from byte 0; no shared attributes
    sb.extend_from_slice(&superblock.uuid);
    sb.resize(BLOCK - SUPERBLOCK_OFFSET, 0); // volume name, incompatible features, reserved: none
    let checksum = crc32c_unfinished(&sb);
    sb[4..8].copy_from_slice(&checksum.to_le_bytes());
    let mut block = vec![0; SUPERBLOCK_OFFSET];
    block.append(&mut sb);
    assert_eq!(block.len(), BLOCK);
    block
}

/// Returns CRC-32C with an initial value of all ones and no final inversion, as the kernel's `crc32c(~0, …)`.
///
/// Bit by bit: an image needs it once, over 3 KiB.
pub(super) fn crc32c_unfinished(bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REFLECTED: u32 = 0x82F6_3B78;
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL_REFLECTED
            } else {
                crc >> 1
            }
        })
    })
}
