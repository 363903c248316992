use super::*;

const MINIMAL: &str = r#"
socket = "/run/v.sock"
data_dir = "/var/lib/v"
region = "loc"
zones = ["0a01", "0a02", "0a03"]
[object_store]
endpoint = "http://127.0.0.1:1"
bucket = "b"
"#;

fn parse(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

#[test]
fn a_minimal_file_gets_the_documented_defaults() {
    let config = parse(MINIMAL);
    let settings = config.settings().unwrap();
    assert_eq!(settings.size_max.get(), 500);
    assert_eq!(settings.snapshot_interval, Duration::from_secs(86_400));
    assert_eq!(settings.destroy_grace, Duration::from_secs(86_400));
    let pools = config.pools_or_default();
    assert_eq!((pools.len(), pools[0].name.as_str()), (1, "default"));
    assert_eq!(pools[0].path, Path::new("/var/lib/v/pool"));
}

#[test]
fn an_unknown_field_is_refused() {
    assert!(toml::from_str::<Config>(&format!("colour = 1\n{MINIMAL}")).is_err());
}

#[test]
fn wrong_values_are_named() {
    let with = |edit: fn(&mut Config)| {
        let mut config = parse(MINIMAL);
        edit(&mut config);
        config.settings().unwrap_err()
    };
    assert!(matches!(with(|c| c.zones.clear()), CheckError::Zones));
    assert!(matches!(
        with(|c| c.zones = vec!["0a01".into(), "0a01".into()]),
        CheckError::Zones
    ));
    assert!(matches!(
        with(|c| c.zones = vec!["xyz1".into()]),
        CheckError::Zones
    ));
    assert!(matches!(with(|c| c.region = String::new()), CheckError::Region));
    assert!(matches!(with(|c| c.limits.size_gb_max = 0), CheckError::SizeMax));
    assert!(matches!(
        with(|c| c.schedule.sweep_interval_s = 0),
        CheckError::Zero { .. }
    ));
    let two = |c: &mut Config| c.pools = [c.pools_or_default(), c.pools_or_default()].concat();
    assert!(matches!(with(two), CheckError::PoolName { .. }));
    let ratio = |c: &mut Config| {
        c.pools = c.pools_or_default();
        c.pools[0].overcommit_ratio = 0.0;
    };
    assert!(matches!(with(ratio), CheckError::Ratio { .. }));
}

#[test]
fn credentials_come_from_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credentials.toml");
    let disk = crashsafe::RealDisk;
    let text = b"access_key_id = \"a\"\nsecret_access_key = \"s\"\n";
    crashsafe::write_atomic(&disk, "test", &path, text, 0o600).unwrap();
    let config = Config {
        credentials_file: Some(path),
        ..parse(MINIMAL)
    };
    assert_eq!(config.store().unwrap().secret_access_key.as_deref(), Some("s"));
}
