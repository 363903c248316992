use super::*;
use cpio::newc::Reader;
use std::path::PathBuf;

fn archive() -> Vec<u8> {
    let modules = Modules {
        files: BTreeMap::from([("a.ko".to_owned(), b"module".to_vec())]),
        orders: vec![("order", vec!["a.ko".to_owned()])],
    };
    let tools = [HostFile {
        path: PathBuf::from("/sbin/mke2fs"),
        bytes: b"tool".to_vec(),
    }];
    build(b"init", &modules, &tools).unwrap()
}

#[test]
fn every_directory_stands_before_what_is_in_it() {
    let archive = archive();
    let mut seen = BTreeSet::from([String::new()]);
    let mut rest = &archive[..];
    loop {
        let reader = Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            break;
        }
        let name = reader.entry().name().to_owned();
        let parent = Path::new(&name).parent().unwrap().to_string_lossy().into_owned();
        assert!(seen.contains(&parent), "{name} before {parent}");
        if name == "dev/console" {
            assert_eq!((reader.entry().rdev_major(), reader.entry().rdev_minor()), (5, 1));
        }
        seen.insert(name);
        rest = reader.finish().unwrap();
    }
    for name in [
        "init",
        "lib/modules/a.ko",
        "lib/modules/order",
        "sbin/mke2fs",
        "dev/console",
        "proc",
    ] {
        assert!(seen.contains(name), "{name} is missing in {seen:?}");
    }
}

#[test]
fn the_same_inputs_make_the_same_bytes() {
    assert_eq!(archive(), archive());
}
