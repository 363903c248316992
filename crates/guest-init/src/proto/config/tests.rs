use super::*;

#[test]
fn the_smallest_configuration_gets_every_default() {
    let text = r#"{"hostname":"h","machine_id":"m","argv":["/bin/true"],
        "network":{"user_net":{"mac":"52:54:00:00:00:01"},
                   "app_net":{"mac":"52:54:00:00:00:02","address":"fdaa::5","prefix":64}},
        "mounts":[{"serial":"vol_1","path":"/data"}]}"#;
    let config: GuestConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.rootfs, Rootfs::default());
    assert_eq!(config.network.user_net, Some(UserNet::new("52:54:00:00:00:01")));
    assert_eq!(config.network.app_net.unwrap().mtu, 1420);
    assert_eq!(config.mounts[0].fstype, FsType::Ext4);
    assert!(!config.mounts[0].format_allowed, "formatting must be asked for");
}

#[test]
fn a_record_reads_as_kind_and_value() {
    let text = r#"{"name":"web.internal","data":{"aaaa":"fdaa::5"}}"#;
    let record: NameRecord = serde_json::from_str(text).unwrap();
    assert_eq!(record.data, NameData::Aaaa("fdaa::5".parse().unwrap()));
}
