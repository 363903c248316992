use super::*;
use cpio::newc::Reader;

fn archive() -> Vec<u8> {
    let mut archive = Archive::default();
    archive.program("/init", b"init");
    archive.file("lib/modules/a.ko", b"module");
    archive.program("/sbin/mke2fs", b"tool");
    archive.link("sbin/mkfs.ext4", "mke2fs");
    archive.system_directories();
    archive.build().unwrap()
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
        "sbin/mke2fs",
        "sbin/mkfs.ext4",
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
