use std::os::unix::fs::PermissionsExt as _;

use crashsafe::RealDisk;

use super::*;

fn open(path: &Path) -> Credentials {
    Credentials::open(Arc::new(RealDisk), path).unwrap()
}

#[test]
fn the_first_start_makes_a_secret_that_only_its_owner_reads_and_the_next_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    let first = open(&path).root().unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(first.secret_access_key.len(), 40);
    assert_eq!(open(&path).root().unwrap(), first);
    let other = tempfile::tempdir().unwrap();
    let other = open(&other.path().join("credentials.toml")).root().unwrap();
    assert_ne!(other.secret_access_key, first.secret_access_key);
}

#[test]
fn a_name_is_issued_once_and_for_one_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    let volumed = open(&path).issue("volumed", "volumes/").unwrap();
    let credentials = open(&path);
    assert_eq!(credentials.issue("volumed", "volumes/").unwrap(), volumed);
    assert!(matches!(
        credentials.issue("volumed", ""),
        Err(CredentialsError::Taken { .. })
    ));
    assert_eq!(credentials.of_access_key(&volumed.access_key_id), Some(volumed));
    assert_eq!(credentials.of_access_key("nobody"), None);
}

#[test]
fn a_prefix_that_would_open_longer_names_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = open(&directory.path().join("credentials.toml"));
    assert!(matches!(
        credentials.issue("a", "volumes"),
        Err(CredentialsError::Prefix { .. })
    ));
    assert!(matches!(
        credentials.issue("A b", "volumes/"),
        Err(CredentialsError::Name { .. })
    ));
}

#[test]
fn a_malformed_file_is_named_without_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    let text = b"[[credential]]\nname = \"root\"\nsecret_access_key = \"hunter2\n";
    write_atomic(&RealDisk, "test", &path, text, 0o600).unwrap();
    let error = Credentials::open(Arc::new(RealDisk), &path).unwrap_err();
    assert!(matches!(error, CredentialsError::Malformed { .. }), "{error:?}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = open(&directory.path().join("credentials.toml"));
    let secret = credentials.root().unwrap().secret_access_key;
    assert!(!format!("{credentials:?}").contains(&secret));
}
