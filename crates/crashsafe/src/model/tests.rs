use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn write(model: &mut Model, at: &str, bytes: &[u8]) -> Inode {
    let file = model.open(path(at), OpenOptions::CREATE).unwrap();
    model.write_at(file, bytes, 0);
    file
}

/// The share of 200 power cuts that leave something for which `holds`.
fn cuts(model: &Model, holds: impl Fn(&Tree) -> bool) -> usize {
    (0..200)
        .filter(|seed| holds(&model.crash(&mut rng(*seed))))
        .count()
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_gone() {
    let mut model = Model::default();
    let file = write(&mut model, "a", b"hello");
    model.sync_file(file);
    let left = cuts(&model, |tree| tree.contains("a"));
    assert!((1..200).contains(&left), "{left}");
    model.sync_dir(path("")).unwrap();
    assert_eq!(
        cuts(&model, |tree| tree
            .file("a")
            .is_some_and(|file| file.to_vec() == b"hello")),
        200
    );
}

#[test]
fn a_synced_name_without_a_synced_file_may_be_empty() {
    let mut model = Model::default();
    write(&mut model, "a", b"hello");
    model.sync_dir(path("")).unwrap();
    assert_eq!(cuts(&model, |tree| tree.contains("a")), 200);
    let whole = cuts(&model, |tree| tree.file("a").unwrap().to_vec() == b"hello");
    assert!((1..200).contains(&whole), "{whole}");
}

#[test]
fn what_stands_in_a_directory_goes_with_the_directorys_own_name() {
    let mut model = Model::default();
    model.create_dir_all(path("d")).unwrap();
    let file = write(&mut model, "d/a", b"hello");
    model.sync_file(file);
    model.sync_dir(path("d")).unwrap();
    let left = cuts(&model, |tree| tree.contains("d/a"));
    assert!((1..200).contains(&left), "{left}");
    model.sync_dir(path("")).unwrap();
    assert_eq!(cuts(&model, |tree| tree.contains("d/a")), 200);
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let mut tree = Tree::default();
    tree.insert(
        "a".into(),
        Node::File {
            mode: 0o600,
            content: Content::default(),
        },
    );
    let mut model = Model::new(&tree);
    model.remove_file(path("a")).unwrap();
    assert!(!model.seen().contains("a"));
    assert!(cuts(&model, |tree| tree.contains("a")) > 0);
    model.sync_dir(path("")).unwrap();
    assert_eq!(cuts(&model, |tree| tree.contains("a")), 0);
}

#[test]
fn an_open_file_keeps_its_bytes_under_every_name() {
    let mut model = Model::default();
    let file = write(&mut model, "a", b"one");
    model.rename(path("a"), path("b")).unwrap();
    model.write_at(file, b"two", 0);
    assert_eq!(model.seen().file("b").unwrap().to_vec(), b"two");
    model.remove_file(path("b")).unwrap();
    let mut bytes = [0; 3];
    assert_eq!((model.read_at(file, &mut bytes, 0), &bytes), (3, b"two"));
}

#[test]
fn calls_fail_as_the_system_fails_them() {
    let mut model = Model::default();
    write(&mut model, "file", b"x");
    model.create_dir_all(path("dir/below")).unwrap();
    let kinds = [
        model.open(path("none"), OpenOptions::READ).unwrap_err(),
        model.open(path("file"), OpenOptions::CREATE_NEW).unwrap_err(),
        model.open(path("dir"), OpenOptions::READ_WRITE).unwrap_err(),
        model.open(path("file/x"), OpenOptions::CREATE).unwrap_err(),
        model.create_dir_all(path("file")).unwrap_err(),
        model.remove_file(path("dir")).unwrap_err(),
        model.remove_dir_all(path("none")).unwrap_err(),
        model.rename(path("file"), path("dir")).unwrap_err(),
        model.rename(path("dir"), path("file")).unwrap_err(),
        model.rename(path("dir"), path("dir/below/dir")).unwrap_err(),
        model.reflink(path("file"), path("dir")).unwrap_err(),
        model.open(path("../etc"), OpenOptions::READ).unwrap_err(),
    ]
    .map(|error| error.kind());
    assert_eq!(
        kinds,
        [
            ErrorKind::NotFound,
            ErrorKind::AlreadyExists,
            ErrorKind::IsADirectory,
            ErrorKind::NotADirectory,
            ErrorKind::NotADirectory,
            ErrorKind::IsADirectory,
            ErrorKind::NotFound,
            ErrorKind::IsADirectory,
            ErrorKind::NotADirectory,
            ErrorKind::InvalidInput,
            ErrorKind::AlreadyExists,
            ErrorKind::InvalidInput,
        ]
    );
}
