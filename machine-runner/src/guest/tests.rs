use std::collections::BTreeMap;

use guest_init::proto::config::FsType;
use serde_json::{Value, json};

use super::{GuestError, ImageDefaults, StartFacts, argv, environment, guest_config, stop_signal};
use crate::ids::MachineId;
use crate::lifecycle::State;
use crate::machine_config::MachineConfig;
use crate::record::{ImageRef, MachineRecord, RunState};

fn record() -> MachineRecord {
    MachineRecord {
        id: MachineId::parse("d4a192e0dbda1e").unwrap(),
        app: "web".to_owned(),
        org: "personal".to_owned(),
        name: "n".to_owned(),
        region: "local".to_owned(),
        instance_id: "01X".to_owned(),
        state: State::Created,
        config: json!({}),
        image: ImageRef {
            registry: "docker.io".to_owned(),
            repository: "library/debian".to_owned(),
            tag: "12".to_owned(),
            ..ImageRef::default()
        },
        secrets: BTreeMap::from([
            ("KEY".to_owned(), "aGk=".to_owned()),
            ("BAD".to_owned(), "%".to_owned()),
        ]),
        network: "web".to_owned(),
        private_ip: "fdaa:0:1:a7b:1:0:0:1".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        updated_at: jiff::Timestamp::UNIX_EPOCH,
        cordoned: false,
        run: RunState::default(),
    }
}

fn config(extra: Value) -> MachineConfig {
    let mut config = json!({"image": "debian"});
    config
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    MachineConfig::parse(&config).unwrap()
}

fn image() -> ImageDefaults {
    ImageDefaults {
        env: vec!["PATH=/bin".to_owned(), "A=image".to_owned()],
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
        user: "nobody".to_owned(),
        working_dir: "/srv".to_owned(),
        stop_signal: Some("SIGQUIT".to_owned()),
    }
}

#[test]
fn the_command_follows_the_overrides() {
    for (init, expected) in [
        (json!({}), vec!["/entry", "serve"]),
        (json!({"cmd": ["x", "y"]}), vec!["/entry", "x", "y"]),
        (json!({"entrypoint": ["/e"]}), vec!["/e", "serve"]),
        (json!({"exec": ["/only"]}), vec!["/only"]),
    ] {
        assert_eq!(argv(&config(json!({"init": init})), &image()).unwrap(), expected);
    }
    assert_eq!(
        argv(&config(json!({})), &ImageDefaults::default()),
        Err(GuestError::NoCommand)
    );
}

#[test]
fn later_sources_of_the_environment_win_and_the_platforms_words_cannot_be_faked() {
    let config = config(json!({"env": {"A": "config", "FLY_REGION": "mars", "PRIMARY_REGION": "ams"}}));
    let env = environment(&record(), &config, &image());
    for (name, value) in [
        ("PATH", "/bin"),
        ("A", "config"),
        ("KEY", "aGk="),
        ("FLY_REGION", "local"),
        ("PRIMARY_REGION", "ams"),
        ("FLY_APP_NAME", "web"),
        ("FLY_MACHINE_ID", "d4a192e0dbda1e"),
        ("FLY_PRIVATE_IP", "fdaa:0:1:a7b:1:0:0:1"),
        ("FLY_IMAGE_REF", "docker.io/library/debian:12"),
        ("FLY_VM_MEMORY_MB", "256"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
}

#[test]
fn the_guest_is_told_about_mounts_files_and_networks() {
    let config = config(json!({
        "mounts": [{"volume": "vol_abcdefghijklmnopqrstuvwx", "path": "/data"}],
        "files": [{"guest_path": "/etc/key", "secret_name": "KEY"}],
        "init": {"swap_size_mb": 64},
    }));
    let facts = StartFacts {
        volumes: vec![("vol_abcdefghijklmnopqrstuvwx".to_owned(), FsType::Xfs, true)],
        app_mac: Some("02:00:00:00:00:01".to_owned()),
        ..StartFacts::default()
    };
    let guest = guest_config(&record(), &config, &image(), facts).unwrap();
    assert_eq!(guest.mounts[0].serial, "vol_abcdefghijklmnop");
    assert_eq!(
        (guest.mounts[0].path.as_str(), guest.mounts[0].format_allowed),
        ("/data", true)
    );
    assert_eq!(guest.files[0].content, "aGk=");
    assert_eq!(
        (guest.user.as_deref(), guest.cwd.as_deref()),
        (Some("nobody"), Some("/srv"))
    );
    assert_eq!(guest.swap.as_deref(), Some("swap"));
    assert_eq!(guest.network.app_net.unwrap().prefix, 48);
}

#[test]
fn a_missing_or_broken_secret_is_named() {
    for (name, expected) in [
        ("NONE", GuestError::NoSecret("NONE".to_owned())),
        ("BAD", GuestError::SecretEncoding("BAD".to_owned())),
    ] {
        let config = config(json!({"files": [{"guest_path": "/a", "secret_name": name}]}));
        assert_eq!(
            guest_config(&record(), &config, &image(), StartFacts::default()),
            Err(expected)
        );
    }
}

#[test]
fn the_stop_signal_is_the_configurations_the_images_or_sigint() {
    assert_eq!(
        stop_signal(
            &config(json!({"stop_config": {"signal": "SIGTERM"}})),
            Some("SIGQUIT")
        ),
        15
    );
    assert_eq!(stop_signal(&config(json!({})), Some("SIGQUIT")), 3);
    assert_eq!(stop_signal(&config(json!({})), Some("10")), 10);
    assert_eq!(stop_signal(&config(json!({})), None), 2);
}
