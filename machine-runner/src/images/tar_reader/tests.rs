use std::path::Path;
use std::process::Command;

use crashsafe::{Disk, OpenOptions, RealDisk};

use super::*;

fn read_all(bytes: &[u8]) -> Result<Vec<TarEntry>, TarError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let file = RealDisk.open("test", &path, OpenOptions::CREATE_NEW).unwrap();
    file.write_at(bytes, 0).unwrap();
    entries(&path)
}

fn entries(path: &Path) -> Result<Vec<TarEntry>, TarError> {
    let file = RealDisk.open("test", path, OpenOptions::READ).unwrap();
    let mut reader = TarReader::new(&*file)?;
    let mut all = Vec::new();
    while let Some(entry) = reader.next()? {
        all.push(entry);
    }
    Ok(all)
}

fn content(path: &Path, extents: &Extents) -> Vec<u8> {
    let file = RealDisk.open("test", path, OpenOptions::READ).unwrap();
    let mut bytes = vec![0; usize::try_from(extents.size_bytes).unwrap()];
    for run in &extents.runs {
        let at = usize::try_from(run.at).unwrap();
        let len = usize::try_from(run.len).unwrap();
        file.read_exact_at(&mut bytes[at..at + len], run.source).unwrap();
    }
    bytes
}

fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_cksum();
    header
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let len = (rest + 1..)
        .find(|len| len.to_string().len() + rest == *len)
        .unwrap();
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

fn with_pax(records: &[u8], header: &Header) -> Vec<u8> {
    let extended = self::header("pax", EntryType::XHeader, records.len() as u64);
    [extended.as_bytes(), padded(records).as_slice(), header.as_bytes()].concat()
}

#[test]
fn attributes_with_line_feeds_and_equals_signs_survive() {
    let capability = [1, 0, 0, 2, b'\n', b'=', 0, b'\n'];
    let records = [
        pax_record("SCHILY.xattr.security.capability", &capability),
        pax_record("SCHILY.xattr.user.empty", b""),
        pax_record("path", "über/lang".as_bytes()),
        pax_record("uid", b"3000000000"),
        pax_record("mtime", b"1700000000.25"),
    ]
    .concat();
    let entries = read_all(&with_pax(&records, &header("short", EntryType::Regular, 0))).unwrap();
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}")
    };
    assert_eq!(entry.xattrs[&b"security.capability"[..]], capability);
    assert_eq!(entry.xattrs[&b"user.empty"[..]], b"");
    assert_eq!(
        (entry.path.as_slice(), entry.uid),
        ("über/lang".as_bytes(), 3_000_000_000)
    );
    assert_eq!(
        entry.mtime,
        FileTime {
            seconds: 1_700_000_000,
            nanoseconds: 250_000_000
        }
    );
}

#[test]
fn a_number_of_blanks_is_zero() {
    let mut header = Header::new_gnu();
    header.set_path("null").unwrap();
    header.set_entry_type(EntryType::Char);
    header.as_old_mut().uid.fill(b' ');
    header.set_cksum();
    let entries = read_all(header.as_bytes()).unwrap();
    assert_eq!(entries[0].kind, TarKind::CharacterDevice { major: 0, minor: 0 });
    assert_eq!(
        (entries[0].mode, entries[0].uid, entries[0].gid, entries[0].mtime),
        (0, 0, 0, FileTime::default())
    );
}

#[test]
fn a_time_before_1970_becomes_1970() {
    let records = pax_record("mtime", b"-5.5");
    let entries = read_all(&with_pax(&records, &header("a", EntryType::Regular, 0))).unwrap();
    assert_eq!(entries[0].mtime, FileTime::default());
}

#[test]
fn damage_is_named_with_its_place() {
    let good = [
        header("a", EntryType::Regular, 5).as_bytes(),
        padded(b"hello").as_slice(),
    ]
    .concat();
    assert_eq!(read_all(&good).unwrap().len(), 1);
    let message = |bytes: &[u8]| read_all(bytes).unwrap_err().to_string();
    assert_eq!(
        message(&good[..300]),
        "the archive ends inside the entry at byte 0"
    );
    assert_eq!(
        message(&good[..514]),
        "the archive ends inside the entry at byte 0"
    );
    let mut flipped = good.clone();
    flipped[2] ^= 1;
    assert_eq!(message(&flipped), "the header at byte 0 has a wrong checksum");
    let huge = header("x", EntryType::XHeader, 1 << 40);
    assert_eq!(
        message(huge.as_bytes()),
        "the extended header at byte 0 is malformed or longer than 1 MiB"
    );
    let bad_pax = with_pax(b"99 path=x\n", &header("a", EntryType::Regular, 0));
    assert_eq!(
        message(&bad_pax),
        "the extended header at byte 0 is malformed or longer than 1 MiB"
    );
    let unknown = header("weird", EntryType::new(b'Q'), 0);
    assert_eq!(
        message(unknown.as_bytes()),
        "entry \"weird\" has the unknown type 'Q'"
    );
    let mut number = header("a", EntryType::Regular, 0);
    number.as_old_mut().uid = *b"not oct\0";
    number.set_cksum();
    assert_eq!(
        message(number.as_bytes()),
        "the header at byte 0 has no valid uid"
    );
    let too_wide = with_pax(
        &pax_record("uid", b"4294967296"),
        &header("a", EntryType::Regular, 0),
    );
    assert_eq!(message(&too_wide), "the header at byte 1024 has no valid uid");
}

#[test]
fn sparse_files_of_gnu_tar_are_read_in_all_three_forms() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealDisk
        .open("test", &dir.path().join("holes"), OpenOptions::CREATE_NEW)
        .unwrap();
    let mut wanted = vec![0; 3_000_000];
    // More runs than one map block holds.
    for at in (0..2_900_000).step_by(100_000) {
        wanted[at..at + 4096].fill(u8::try_from(at / 100_000 + 1).unwrap());
        file.write_at(&wanted[at..at + 4096], at as u64).unwrap();
    }
    file.set_len(3_000_000).unwrap();
    let versions = [
        vec!["--format=gnu"],
        vec!["--format=posix", "--sparse-version=0.1"],
        vec!["--format=posix", "--sparse-version=1.0"],
    ];
    for options in &versions {
        let archive = dir.path().join("a.tar");
        let status = Command::new("tar")
            .args(["-C", dir.path().to_str().unwrap(), "--sparse", "-cf"])
            .arg(&archive)
            .args(options)
            .arg("holes")
            .status()
            .unwrap();
        assert!(status.success());
        assert!(
            std::fs::metadata(&archive).unwrap().len() < 1_000_000,
            "the archive is sparse"
        );
        let entries = entries(&archive).unwrap();
        let [
            TarEntry {
                path,
                kind: TarKind::File(extents),
                ..
            },
        ] = entries.as_slice()
        else {
            panic!("{options:?}: {entries:?}")
        };
        assert_eq!(path, b"holes", "{options:?}");
        assert!(content(&archive, extents) == wanted, "{options:?}");
    }
}

#[test]
fn what_gnu_tar_writes_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("d")).unwrap();
    let long = "l".repeat(200);
    let file = RealDisk
        .open("test", &root.join(&long), OpenOptions::CREATE_NEW)
        .unwrap();
    file.write_at(b"content", 0).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), root.join("link")).unwrap();
    std::fs::hard_link(root.join(&long), root.join("zz-hard")).unwrap();
    for format in ["gnu", "posix", "ustar"] {
        let archive = dir.path().join(format!("{format}.tar"));
        let mut tar = Command::new("tar");
        tar.args([
            "--sort=name",
            &format!("--format={format}"),
            "-C",
            root.to_str().unwrap(),
            "-cf",
        ])
        .arg(&archive);
        if format == "ustar" {
            // Its names end at 100 bytes.
            tar.args(["--exclude=lll*", "--exclude=link", "--exclude=zz-hard"]);
        }
        assert!(tar.arg(".").status().unwrap().success());
        let entries = entries(&archive).unwrap();
        let find = |path: &str| entries.iter().find(|entry| entry.path == path.as_bytes());
        assert_eq!(find("./d/").unwrap().kind, TarKind::Directory);
        if format == "ustar" {
            continue;
        }
        let TarKind::File(extents) = &find(&format!("./{long}")).unwrap().kind else {
            panic!()
        };
        assert_eq!(content(&archive, extents), b"content");
        assert_eq!(
            find("./link").unwrap().kind,
            TarKind::Symlink("t".repeat(150).into_bytes())
        );
        assert_eq!(
            find("./zz-hard").unwrap().kind,
            TarKind::HardLink(format!("./{long}").into_bytes())
        );
    }
}

proptest::proptest! {
    #[test]
    fn prop_no_bytes_make_the_reader_panic(
        mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048),
        kind in proptest::prelude::any::<u8>(),
        fix_checksums in proptest::prelude::any::<bool>(),
    ) {
        if fix_checksums {
            for block in bytes.chunks_exact_mut(512) {
                block[156] = kind;
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        let _outcome = read_all(&bytes);
    }
}
