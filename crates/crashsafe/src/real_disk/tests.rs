use super::*;

fn scratch(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    (directory, path)
}

#[test]
fn a_read_is_short_only_at_the_end_of_the_file() {
    let (_directory, path) = scratch("a");
    let file = RealDisk.open("t", &path, OpenOptions::CREATE_NEW).unwrap();
    file.write_at(b"hello", 3).unwrap();
    let mut bytes = [9; 10];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 8);
    assert_eq!(&bytes, b"\0\0\0hello\x09\x09");
    assert_eq!(
        file.read_exact_at(&mut bytes, 0).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(file.len().unwrap(), 8);
}

#[test]
fn holes_are_found_and_data_between_them() {
    let (_directory, path) = scratch("a");
    let file = RealDisk.open("t", &path, OpenOptions::CREATE_NEW).unwrap();
    file.set_len(4 << 20).unwrap();
    file.write_at(&[1; 4096], 1 << 20).unwrap();
    file.write_at(&[1; 65_536], 2 << 20).unwrap();
    file.punch_hole(2 << 20, 65_536).unwrap();
    let run = file.next_data(0).unwrap().unwrap();
    assert!(
        run.start <= 1 << 20 && run.end >= (1 << 20) + 4096 && run.end < 2 << 20,
        "{run:?}"
    );
    assert_eq!(file.next_data(run.end).unwrap(), None);
    assert_eq!(file.next_data(4 << 20).unwrap(), None);
    let mut bytes = [7; 16];
    file.read_exact_at(&mut bytes, 2 << 20).unwrap();
    assert_eq!(bytes, [0; 16]);
}

#[test]
fn a_reservation_takes_room_and_sets_the_length() {
    let (_directory, path) = scratch("a");
    let file = RealDisk.open("t", &path, OpenOptions::CREATE_NEW).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    let stat = RealDisk.stat(&path).unwrap().unwrap();
    assert_eq!((stat.len, stat.is_dir), (1 << 20, false));
    assert!(stat.allocated_bytes >= 1 << 20, "{stat:?}");
}

#[test]
fn a_reflink_is_a_copy_of_its_own_or_leaves_nothing() {
    let (directory, path) = scratch("a");
    let copy = directory.path().join("b");
    let file = RealDisk.open("t", &path, OpenOptions::CREATE_NEW).unwrap();
    file.write_at(&[1; 8192], 0).unwrap();
    match RealDisk.reflink("t", &path, &copy) {
        Ok(()) => {
            file.write_at(&[2; 8192], 0).unwrap();
            assert_eq!(std::fs::read(&copy).unwrap(), [1; 8192]);
            let again = RealDisk.reflink("t", &path, &copy).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert_eq!(RealDisk.stat(&copy).unwrap(), None);
        }
    }
}

#[test]
fn a_reflink_never_touches_a_file_that_is_there() {
    let (directory, path) = scratch("a");
    let other = directory.path().join("b");
    for (path, bytes) in [(&path, b"one"), (&other, b"two")] {
        RealDisk
            .open("t", path, OpenOptions::CREATE_NEW)
            .unwrap()
            .write_at(bytes, 0)
            .unwrap();
    }
    assert_eq!(
        RealDisk.reflink("t", &path, &other).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(std::fs::read(&other).unwrap(), b"two");
}

#[test]
fn a_directory_lists_its_names_in_order_with_their_sizes() {
    let (directory, path) = scratch("b");
    RealDisk
        .open("t", &path, OpenOptions::CREATE_NEW)
        .unwrap()
        .set_len(5)
        .unwrap();
    RealDisk
        .create_dir_all("t", &directory.path().join("a/x"))
        .unwrap();
    assert_eq!(
        RealDisk.list(directory.path()).unwrap(),
        [
            Entry {
                name: "a".into(),
                is_dir: true,
                len: 0
            },
            Entry {
                name: "b".into(),
                is_dir: false,
                len: 5
            }
        ]
    );
}

#[test]
fn a_direct_file_is_read_and_written_whether_or_not_the_file_system_knows_it() {
    let (_directory, path) = scratch("a");
    let options = OpenOptions {
        direct: true,
        ..OpenOptions::CREATE_NEW
    };
    let file = RealDisk.open("t", &path, options).unwrap();
    file.set_len(4096).unwrap();
    assert_eq!(file.len().unwrap(), 4096);
}

#[test]
fn the_room_of_a_file_system_is_known() {
    let space = RealDisk.space(Path::new("/")).unwrap();
    assert!(
        space.total_bytes > 0 && space.free_bytes <= space.total_bytes,
        "{space:?}"
    );
}
