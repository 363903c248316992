use super::*;

fn node(more: &str) -> NodeConfig {
    toml::from_str(&format!("zones = [\"0a01\"]\n{more}")).unwrap()
}

fn written(more: &str, daemon: &str) -> Table {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    for name in crate::node::DAEMONS {
        std::fs::create_dir(layout.below(name)).unwrap();
    }
    let store = objstore::S3Config::new("http://127.0.0.1:9", "b", "id", "secret");
    let generated = Generated {
        store,
        assets: Path::new("/assets"),
        listen: "127.0.0.1:1",
    };
    write(&layout, &node(more), &generated).unwrap();
    toml::from_str(&std::fs::read_to_string(layout.config(daemon)).unwrap()).unwrap()
}

#[test]
fn what_the_operator_sets_wins_and_the_rest_stays() {
    let table = written(
        "[volumed]\nregion = \"x\"\n[volumed.object_store]\nbucket = \"other\"",
        "volumed",
    );
    assert_eq!(table["region"].as_str(), Some("x"));
    assert_eq!(table["object_store"]["bucket"].as_str(), Some("other"));
    assert_eq!(table["object_store"]["access_key_id"].as_str(), Some("id"));
}

#[test]
fn every_daemon_learns_where_the_others_are() {
    let flaps = written("region = \"here\"", "flaps");
    assert!(
        flaps["volumed_socket"]
            .as_str()
            .unwrap()
            .ends_with("/run/volumed.sock")
    );
    assert_eq!(flaps["regions"][0]["code"].as_str(), Some("here"));
    let runner = written("", "machine-runner");
    assert_eq!(runner["assets_dir"].as_str(), Some("/assets"));
}

#[test]
fn the_zones_of_a_node_are_made_once() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    let first = load_or_create(&layout).unwrap().zones;
    assert_eq!(load_or_create(&layout).unwrap().zones, first);
    assert!(first.iter().all(|zone| zone.len() == 4));
}
