use super::*;

#[test]
fn a_second_taker_is_told_who_holds_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let held = LockFile::acquire(&path).unwrap();
    let error = LockFile::acquire(&path).unwrap_err();
    let expected = format!("{} is locked by process {}", path.display(), std::process::id());
    assert_eq!(error.to_string(), expected);
    drop(held);
    assert_eq!(LockFile::acquire(&path).unwrap().path(), path);
}

#[test]
fn a_dead_holders_id_does_not_keep_anyone_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    crate::write_atomic(&crate::RealDisk, "t", &path, b"999999999\n", 0o600).unwrap();
    let _held = LockFile::acquire(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("{}\n", std::process::id()));
}

#[test]
fn a_lock_that_cannot_be_made_is_named() {
    let error = LockFile::acquire("/nonexistent/lock").unwrap_err();
    assert_eq!(error.to_string(), "lock /nonexistent/lock");
}
