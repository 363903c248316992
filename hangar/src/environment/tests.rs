use super::*;

#[test]
fn the_nodes_own_files_are_used_where_nothing_is_said() {
    let data = tempfile::tempdir().unwrap();
    let text = data.path().to_str().unwrap();
    let environment = Environment::of_variables([("HANGAR_DATA", text)]);
    assert!(matches!(environment.endpoint(), Err(Failure::NoNode { .. })));
    assert!(matches!(environment.token(), Err(Failure::Token { .. })));
    for directory in ["run", "flaps"] {
        std::fs::create_dir(data.path().join(directory)).unwrap();
    }
    std::fs::File::create(data.path().join("run/flaps.addr"))
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"127.0.0.1:99\n"))
        .unwrap();
    std::fs::File::create(data.path().join("flaps/token"))
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"secret\n"))
        .unwrap();
    assert_eq!(environment.endpoint().unwrap(), "http://127.0.0.1:99");
    assert_eq!(environment.token().unwrap(), "secret");
}

#[test]
fn variables_of_fly_and_ours_are_read_in_order() {
    let environment = Environment::of_variables([
        ("FLY_FLAPS_BASE_URL", "http://fly/"),
        ("FLY_API_TOKEN", "t1"),
        ("FLY_ACCESS_TOKEN", "t2"),
        ("HANGAR_APP", "a2"),
    ]);
    assert_eq!(environment.endpoint().unwrap(), "http://fly");
    assert_eq!(environment.token().unwrap(), "t1");
    assert_eq!(environment.app(None).unwrap(), "a2");
    assert_eq!(environment.app(Some("a1")).unwrap(), "a1");
    let ours = Environment::of_variables([
        ("FLY_FLAPS_BASE_URL", "http://fly"),
        ("HANGAR_ENDPOINT", "http://ours"),
        ("FLY_APP", "f"),
        ("HANGAR_APP", "h"),
    ]);
    assert_eq!(ours.endpoint().unwrap(), "http://ours");
    assert_eq!(ours.app(None).unwrap(), "f");
    assert!(matches!(
        Environment::default().app(None),
        Err(Failure::MissingApp)
    ));
}
