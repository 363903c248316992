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
fn a_pool_of_which_one_thing_is_set_keeps_its_other_defaults() {
    let config = parse(&format!("{MINIMAL}[[pools]]\novercommit_ratio = 2.0\n"));
    config.settings().unwrap();
    let pool = config.pools_or_default().remove(0);
    let usual = parse(MINIMAL).pools_or_default().remove(0);
    assert_eq!(
        (pool.name, pool.kind, pool.path, pool.reserve_bytes),
        (usual.name, usual.kind, usual.path, usual.reserve_bytes)
    );
    assert_eq!(pool.overcommit_ratio, 2.0);
    let elsewhere = parse(&format!(
        "{MINIMAL}[[pools]]\nname = \"default\"\npath = \"/elsewhere\"\n"
    ));
    assert_eq!(elsewhere.pools_or_default()[0].path, Path::new("/elsewhere"));
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

const THIN: &str = r#"
[[pools]]
name = "fast"
kind = "lvm-thin"
refuse_percent = 85
[pools.lvm]
vg = "vg0"
devices = ["/dev/nvme0n1"]
thin_pool = "pool"
create = true
"#;

#[test]
fn a_pool_of_logical_volumes_gets_the_documented_defaults() {
    let config = parse(&format!("{MINIMAL}{THIN}"));
    config.settings().unwrap();
    let pool = &config.pools[0];
    assert_eq!(pool.kind, PoolKind::LvmThin);
    assert_eq!(
        pool.pressure().map(|p| (p.warn_percent, p.refuse_percent)),
        Some((80, 85))
    );
    let lvm = pool.lvm.as_ref().unwrap();
    assert!(lvm.udev && lvm.encryption);
    let crate::pool::lvm::LvmKind::Thin {
        thin_pool,
        create,
        policy,
    } = lvm.kind()
    else {
        panic!("a thin pool");
    };
    assert_eq!(thin_pool, "pool");
    assert_eq!(
        create.map(|new| (new.data_bytes >> 30, new.metadata_bytes >> 30, new.chunk_bytes)),
        Some((16, 1, 65536))
    );
    assert_eq!((policy.data_percent, policy.headroom_bytes >> 30), (70, 4));
}

#[test]
fn a_pool_that_lacks_what_its_kind_needs_is_named_with_what_is_wrong() {
    for (from, to, expected) in [
        ("vg = \"vg0\"", "vg = \"-y\"", "lvm.vg"),
        ("devices = [\"/dev/nvme0n1\"]", "", "lvm.devices"),
        (
            "devices = [\"/dev/nvme0n1\"]",
            "devices = [\"nvme0n1\"]",
            "absolute",
        ),
        ("thin_pool = \"pool\"", "", "lvm.thin_pool"),
        ("lvm-thin", "lvm-linear", "lvm.thin_pool"),
        ("lvm-thin", "file", "no lvm table"),
        (
            "kind = \"lvm-thin\"",
            "kind = \"lvm-thin\"\npath = \"/pool\"",
            "has no path",
        ),
        ("refuse_percent = 85", "refuse_percent = 70", "warn_percent"),
        ("create = true", "chunk_bytes = 1000", "lvm.chunk_bytes"),
        ("create = true", "grow_percent = 100", "lvm.grow_percent"),
        ("create = true", "metadata_bytes = 1", "lvm.metadata_bytes"),
        ("create = true", "snapshot_percent = 0", "lvm.snapshot_percent"),
    ] {
        let text = format!("{MINIMAL}{}", THIN.replace(from, to));
        let error = parse(&text).settings().unwrap_err().to_string();
        assert!(
            error.starts_with("pool fast: ") && error.contains(expected),
            "{to}: {error}"
        );
    }
    let without = parse(&format!(
        "{MINIMAL}[[pools]]\nname = \"a\"\nkind = \"lvm-linear\"\n"
    ));
    assert!(
        without
            .settings()
            .unwrap_err()
            .to_string()
            .contains("[pools.lvm]")
    );
    let relative = parse(&format!(
        "{MINIMAL}[[pools]]\nname = \"a\"\nkind = \"file\"\npath = \"pool\"\n"
    ));
    assert!(
        relative
            .settings()
            .unwrap_err()
            .to_string()
            .contains("path must begin with /")
    );
    let pathless = parse(&format!("{MINIMAL}[[pools]]\nname = \"a\"\nkind = \"file\"\n"));
    assert!(
        pathless
            .settings()
            .unwrap_err()
            .to_string()
            .contains("needs a path")
    );
}
