//! A reader of EROFS images, independent of the writer's own layout code.

use std::collections::BTreeMap;

use super::listing::{Listing, Seen, SeenKind};
use crate::erofs::FileTime;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

struct Image<'a> {
    bytes: &'a [u8],
    build_time: FileTime,
}

pub(crate) fn read(bytes: &[u8]) -> Listing {
    let sb = &bytes[1024..1152];
    assert_eq!(u32_at(sb, 0), 0xE0F5_E1E2);
    assert_eq!(
        u32_at(sb, 36) as usize * 4096,
        bytes.len(),
        "the superblock states the size"
    );
    let image = Image {
        bytes,
        build_time: FileTime {
            seconds: u64_at(sb, 24),
            nanoseconds: u32_at(sb, 32),
        },
    };
    let mut listing = Listing::default();
    let root = u64::from(u16_at(sb, 14));
    let mut pending = vec![(Vec::new(), root, root)];
    while let Some((path, node, parent)) = pending.pop() {
        let (seen, data) = image.inode(node);
        if seen.kind == SeenKind::Directory {
            let entries = entries(&data);
            let names: Vec<&[u8]> = entries.iter().map(|entry| entry.0.as_slice()).collect();
            assert!(names.is_sorted(), "{names:?}");
            for (name, child) in &entries {
                match name.as_slice() {
                    b"." => assert_eq!(*child, node),
                    b".." => assert_eq!(*child, parent),
                    _ => pending.push(([path.as_slice(), b"/", name].concat(), *child, node)),
                }
            }
        }
        listing.0.insert(path, seen);
    }
    let distinct: std::collections::BTreeSet<u64> = listing.0.values().map(|seen| seen.identity).collect();
    assert_eq!(
        u64_at(sb, 16),
        distinct.len() as u64,
        "the superblock counts the inodes"
    );
    listing.normalised()
}

fn entries(data: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let mut all = Vec::new();
    for block in data.chunks(4096) {
        let count = usize::from(u16_at(block, 8)) / 12;
        for i in 0..count {
            let start = usize::from(u16_at(block, i * 12 + 8));
            let end = if i + 1 < count {
                usize::from(u16_at(block, i * 12 + 20))
            } else {
                block.len()
            };
            let name: Vec<u8> = block[start..end]
                .iter()
                .copied()
                .take_while(|byte| *byte != 0)
                .collect();
            all.push((name, u64_at(block, i * 12)));
        }
    }
    all
}

impl Image<'_> {
    fn inode(&self, node: u64) -> (Seen, Vec<u8>) {
        let at = usize::try_from(node * 32).unwrap();
        let raw = &self.bytes[at..];
        let format = u16_at(raw, 0);
        let extended = format & 1 == 1;
        let mode = u16_at(raw, 4);
        let (size, union_field) = if extended {
            (usize::try_from(u64_at(raw, 8)).unwrap(), u32_at(raw, 16))
        } else {
            (u32_at(raw, 8) as usize, u32_at(raw, 16))
        };
        let (uid, gid, links) = if extended {
            (u32_at(raw, 24), u32_at(raw, 28), u32_at(raw, 44))
        } else {
            (
                u32::from(u16_at(raw, 24)),
                u32::from(u16_at(raw, 26)),
                u32::from(u16_at(raw, 6)),
            )
        };
        let mtime = if extended {
            FileTime {
                seconds: u64_at(raw, 32),
                nanoseconds: u32_at(raw, 40),
            }
        } else {
            self.build_time
        };
        let inode_bytes = if extended { 64 } else { 32 };
        let (xattrs, xattr_bytes) = xattrs(&raw[inode_bytes..], u16_at(raw, 2));
        let data = self.data(format >> 1, size, union_field, at + inode_bytes + xattr_bytes);
        let major = (union_field >> 8) & 0xfff;
        let minor = (union_field & 0xff) | ((union_field >> 12) & 0xfff00);
        let kind = match mode & 0o170_000 {
            0o100_000 => SeenKind::File(data.clone()),
            0o040_000 => SeenKind::Directory,
            0o120_000 => SeenKind::Symlink(data.clone()),
            0o020_000 => SeenKind::CharacterDevice(major, minor),
            0o060_000 => SeenKind::BlockDevice(major, minor),
            0o010_000 => SeenKind::Fifo,
            0o140_000 => SeenKind::Socket,
            other => panic!("mode {other:o}"),
        };
        (
            Seen {
                mode,
                uid,
                gid,
                mtime,
                links,
                identity: node,
                xattrs,
                kind,
            },
            data,
        )
    }

    fn data(&self, layout: u16, size: usize, first_block: u32, after_inode: usize) -> Vec<u8> {
        if size == 0 {
            return Vec::new();
        }
        let start = first_block as usize * 4096;
        match layout {
            0 => self.bytes[start..start + size].to_vec(),
            2 => {
                let tail = size % 4096;
                let body = size - tail;
                assert!(after_inode % 4096 + tail <= 4096, "a tail crosses a block");
                let body_bytes = if body > 0 {
                    &self.bytes[start..start + body]
                } else {
                    &[]
                };
                [body_bytes, &self.bytes[after_inode..after_inode + tail]].concat()
            }
            other => panic!("layout {other}"),
        }
    }
}

fn xattrs(area: &[u8], count: u16) -> (BTreeMap<Vec<u8>, Vec<u8>>, usize) {
    let mut all = BTreeMap::new();
    if count == 0 {
        return (all, 0);
    }
    let end = 12 + (usize::from(count) - 1) * 4;
    let mut at = 12;
    while at < end {
        let prefix: &[u8] = match area[at + 1] {
            1 => b"user.",
            2 => b"system.posix_acl_access",
            4 => b"trusted.",
            6 => b"security.",
            other => panic!("name space {other}"),
        };
        let name_end = at + 4 + usize::from(area[at]);
        let value_end = name_end + usize::from(u16_at(area, at + 2));
        all.insert(
            [prefix, &area[at + 4..name_end]].concat(),
            area[name_end..value_end].to_vec(),
        );
        at = value_end.next_multiple_of(4);
    }
    (all, end)
}
