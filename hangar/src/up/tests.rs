use super::*;

#[test]
fn a_data_directory_is_private_and_a_path_too_long_for_sockets_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().join("node"));
    prepare_directories(&layout).unwrap();
    let mode = std::fs::metadata(layout.below("run"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let long = Layout::new(data.path().join("d".repeat(90)));
    assert!(matches!(
        prepare_directories(&long),
        Err(UpError::PathTooLong { excess: 1.., .. })
    ));
    assert!(!long.data().exists());
}
