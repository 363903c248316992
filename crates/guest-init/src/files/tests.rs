use super::*;

fn config(text: &str) -> GuestConfig {
    serde_json::from_str(&format!(
        r#"{{"hostname":"h1","machine_id":"m","argv":["x"]{text}}}"#
    ))
    .unwrap()
}

#[test]
fn hosts_name_the_machine_by_its_private_address() {
    let config = config(
        r#","network":{"app_net":{"mac":"a","address":"fdaa:0:1::2","prefix":64}},"hosts":[{"address":"10.0.0.1","names":["db","db.local"]}]"#,
    );
    let text = hosts(&config);
    assert!(
        text.ends_with("fdaa:0:1::2\th1 fly-local-6pn\n10.0.0.1\tdb db.local\n"),
        "{text}"
    );
    assert!(text.starts_with("127.0.0.1\tlocalhost\n"), "{text}");
}

#[test]
fn the_guests_own_name_server_is_the_default() {
    assert_eq!(resolv_conf(&config("")), "nameserver fdaa::3\n");
    let config = config(r#","dns":{"nameservers":["1.1.1.1"],"searches":["a","b"],"options":["ndots:2"]}"#);
    assert_eq!(
        resolv_conf(&config),
        "nameserver 1.1.1.1\nsearch a b\noptions ndots:2\n"
    );
}

#[test]
fn a_link_gives_way_and_what_it_pointed_to_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("target"), dir.path().join("deep/link"));
    put(&target, b"kept", 0o600).unwrap();
    fs::create_dir(dir.path().join("deep")).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    put(&link, b"new", 0o640).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    assert_eq!(fs::read(&link).unwrap(), b"new");
    assert_eq!(fs::metadata(&link).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn bad_files_are_named() {
    let file = |path: &str, content: &str| config::File {
        guest_path: path.into(),
        content: content.into(),
        mode: None,
    };
    assert!(matches!(write_all(&[file("etc/x", "")]), Err(FileError::Path { path }) if path == "etc/x"));
    assert!(matches!(write_all(&[file("/x", "?")]), Err(FileError::Content { path, .. }) if path == "/x"));
}
