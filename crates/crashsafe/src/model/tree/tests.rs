use super::*;
use crate::RealDisk;

fn sample() -> Tree {
    let mut content = Content::default();
    content.put(1 << 20, b"far out");
    content.resize(3 << 20);
    let mut tree = Tree::default();
    tree.insert("empty".into(), Node::Dir);
    tree.insert("pool".into(), Node::Dir);
    tree.insert("pool/volume".into(), Node::File { mode: 0o600, content });
    tree
}

#[test]
fn a_tree_written_and_read_back_is_the_same_holes_included() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    sample().write(&RealDisk, &root).unwrap();
    let read = Tree::read(&RealDisk, &root).unwrap();
    assert!(read == sample(), "{read:?}");
    assert!(
        RealDisk
            .stat(&root.join("pool/volume"))
            .unwrap()
            .unwrap()
            .allocated_bytes
            < 1 << 20
    );
}

#[test]
fn a_tree_is_not_written_over_something() {
    let directory = tempfile::tempdir().unwrap();
    sample().write(&RealDisk, directory.path()).unwrap();
    let error = sample().write(&RealDisk, directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
}

#[test]
fn a_missing_root_is_an_empty_tree() {
    assert_eq!(
        Tree::read(&RealDisk, Path::new("/nonexistent/root")).unwrap(),
        Tree::default()
    );
}
