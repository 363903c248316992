use super::*;

#[test]
fn the_first_configuration_can_be_read_back() {
    let text = first_config(&["0a01".to_owned(), "0a02".to_owned(), "0a03".to_owned()]);
    let config: NodeConfig = toml::from_str(&text).unwrap();
    assert_eq!(
        (config.region.as_str(), config.zones.len(), config.s3),
        ("local", 3, None)
    );
}

#[test]
fn what_its_comments_offer_is_accepted() {
    let text = first_config(&["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    // Comments that are settings: a hash, a blank, then a table's head or a name and its value.
    let offered: String = text
        .lines()
        .filter_map(|line| {
            let setting = line.strip_prefix("# ").unwrap_or(line);
            (setting.starts_with('[') || setting.contains(" = ")).then(|| format!("{setting}\n"))
        })
        .collect();
    let config: NodeConfig = toml::from_str(&offered).unwrap();
    assert_eq!(config.s3.unwrap().bucket, "hangar");
    assert_eq!(config.machine_runner["accel"].as_str(), Some("tcg"));
}

#[test]
fn a_lost_host_needs_no_more_than_its_bucket() {
    let text = "[s3]\nendpoint = \"http://127.0.0.1:9\"\nregion = \"us-east-1\"\nbucket = \"hangar\"\n";
    let config: NodeConfig = toml::from_str(text).unwrap();
    let zone = |zone: &String| zone.len() == 4 && zone.chars().all(|c| c.is_ascii_hexdigit());
    assert_eq!((config.zones.len(), config.zones.iter().all(zone)), (3, true));
}

#[test]
fn an_unknown_setting_is_refused() {
    assert!(toml::from_str::<NodeConfig>("zones = []\nregoin = \"x\"").is_err());
}

#[test]
fn pools_of_files_are_where_the_settings_say() {
    let folders = |text: &str| {
        let config: NodeConfig = toml::from_str(text).unwrap();
        config.pool_folders(Path::new("/node/pool"))
    };
    assert_eq!(folders(""), [Path::new("/node/pool")]);
    let text = "[[volumed.pools]]\nname = \"default\"\n[[volumed.pools]]\nname = \"b\"\nkind = \"file\"\npath = \"/b\"\n\
                [[volumed.pools]]\nname = \"c\"\nkind = \"lvm-thin\"\n";
    assert_eq!(folders(text), [Path::new("/node/pool"), Path::new("/b")]);
    assert!(folders("[[volumed.pools]]\nname = \"c\"\nkind = \"lvm-linear\"\n").is_empty());
}
