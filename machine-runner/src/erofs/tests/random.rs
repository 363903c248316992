//! Random trees.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::listing::expected;
use super::*;

/// A step of building a random tree.
#[derive(Debug, Clone)]
struct Add {
    parent: prop::sample::Index,
    name: Vec<u8>,
    what: What,
    meta: (u16, u32, u32, u64, u32),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug, Clone)]
enum What {
    Directory,
    File(usize),
    Symlink(Vec<u8>),
    Device(u32, u32),
    Link(prop::sample::Index),
}

fn any_add() -> impl Strategy<Value = Add> {
    let name = prop_oneof![
        8 => prop::collection::vec(prop_oneof![Just(b'!'), Just(b'.'), Just(b'z'), 1u8..=255], 1..20),
        1 => (1u8..=255).prop_map(|byte| vec![byte; 255]),
    ]
    .prop_filter("a legal name", |name| {
        !name.contains(&b'/') && name != b"." && name != b".."
    });
    let size = prop_oneof![
        Just(0),
        Just(1),
        Just(4095),
        Just(4096),
        Just(4097),
        0usize..20_000
    ];
    let what = prop_oneof![
        3 => Just(What::Directory),
        4 => size.prop_map(What::File),
        1 => prop::collection::vec(1u8..=255, 1..4096).prop_map(What::Symlink),
        1 => (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| What::Device(major, minor)),
        2 => any::<prop::sample::Index>().prop_map(What::Link),
    ];
    let uid = || prop_oneof![Just(0u32), Just(65_535), Just(65_536), any::<u32>()];
    let seconds = prop_oneof![Just(1_600_000_000u64), 0u64..1 << 40];
    let meta = (
        0u16..=0o7777,
        uid(),
        uid(),
        seconds,
        prop_oneof![Just(0u32), 0u32..1_000_000_000],
    );
    let xattr_name = prop_oneof![
        "user\\.[a-z]{1,30}",
        "security\\.[a-z]{1,9}",
        Just("trusted.x".to_owned())
    ];
    let xattrs = prop::collection::btree_map(
        xattr_name.prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..600),
        0..3,
    );
    (any::<prop::sample::Index>(), name, what, meta, xattrs).prop_map(|(parent, name, what, meta, xattrs)| {
        Add {
            parent,
            name,
            what,
            meta,
            xattrs,
        }
    })
}

fn grow(steps: &[Add]) -> (Tree, Bytes) {
    let mut tree = Tree::new(directory());
    let mut bytes = Bytes::default();
    let mut directories = vec![InodeId::ROOT];
    let mut others = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let parent = *step.parent.get(&directories);
        if tree.child(parent, &step.name).is_some() {
            continue;
        }
        let kind = match &step.what {
            What::Link(index) if !others.is_empty() => {
                let target = *index.get(&others);
                link(&mut tree, parent, step.name.clone(), target);
                continue;
            }
            What::Link(_) | What::Directory => Kind::Directory(BTreeMap::new()),
            What::File(size) => Kind::File {
                size_bytes: *size as u64,
            },
            What::Symlink(target) => Kind::Symlink(target.clone()),
            What::Device(major, minor) => Kind::CharacterDevice {
                major: *major,
                minor: *minor,
            },
        };
        let is_directory = matches!(kind, Kind::Directory(_));
        let (mode, uid, gid, seconds, nanoseconds) = step.meta;
        let mtime = FileTime { seconds, nanoseconds };
        let id = put(
            &mut tree,
            parent,
            step.name.clone(),
            Inode {
                mode,
                uid,
                gid,
                mtime,
                xattrs: step.xattrs.clone(),
                kind,
            },
        );
        if let What::File(size) = step.what {
            bytes
                .0
                .insert(id, pattern(size, u8::try_from(number % 256).unwrap()));
        }
        if is_directory {
            directories.push(id)
        } else {
            others.push(id)
        }
    }
    (tree, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn prop_any_tree_reads_back_and_passes_fsck(steps in prop::collection::vec(any_add(), 0..300)) {
        let (tree, bytes) = grow(&steps);
        let image = image_of(&tree, &bytes);
        let read = reader::read(&image);
        prop_assert_eq!(read, expected(&tree, &bytes.0));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.erofs");
        File::create(&path).unwrap().write_all_at(&image, 0).unwrap();
        fsck(&path, None);
    }
}
