use super::*;

#[test]
fn the_address_stays_the_same_over_restarts_unless_it_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("address");
    let first = choose_address(&record, "127.0.0.1:0").unwrap();
    assert_eq!(choose_address(&record, "127.0.0.1:0").unwrap(), first);
    let _holder = TcpListener::bind(first).unwrap();
    assert_ne!(choose_address(&record, "127.0.0.1:0").unwrap(), first);
    assert_eq!(choose_address(&record, "127.0.0.1:7").unwrap().port(), 7);
    assert!(choose_address(&record, "here").is_err());
}

#[test]
fn volumed_gets_credentials_of_its_own_and_the_same_ones_again() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    for directory in ["s3", "run"] {
        std::fs::create_dir(layout.below(directory)).unwrap();
    }
    let node: NodeConfig = toml::from_str("zones = []").unwrap();
    let first = prepare(&layout, &node).unwrap().client_config();
    let again = prepare(&layout, &node).unwrap().client_config();
    assert_eq!(
        (&first.access_key_id, first.prefix.as_str()),
        (&again.access_key_id, "volumes")
    );
}
