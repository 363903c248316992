use super::*;

fn applied(settings: &Settings) -> Value {
    let mut config = Map::new();
    apply(settings, &mut config).unwrap();
    Value::Object(config)
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[test]
fn options_become_the_configuration_that_fly_sends() {
    let settings = Settings {
        env: texts(&["A=b=c"]),
        metadata: texts(&["k=v"]),
        port: texts(&["80:8080/tcp:http:tls"]),
        restart: Some("on-fail".to_owned()),
        vm_memory: Some("512".to_owned()),
        file_literal: texts(&["/etc/x=hi"]),
        entrypoint: Some("/bin/sh -c 'a b'".to_owned()),
        swap_size: Some(128),
        ..Settings::default()
    };
    assert_eq!(
        applied(&settings),
        json!({
            "env": {"A": "b=c"}, "metadata": {"k": "v"}, "guest": {"memory_mb": 512}, "restart": {"policy": "on-failure"},
            "services": [{"protocol": "tcp", "internal_port": 8080, "ports": [{"port": 80, "handlers": ["http", "tls"]}]}],
            "files": [{"guest_path": "/etc/x", "raw_value": "aGk="}],
            "init": {"entrypoint": ["/bin/sh", "-c", "a b"], "swap_size_mb": 128},
        })
    );
}

#[test]
fn no_options_leave_a_configuration_as_it_is() {
    let mut config = json!({"image": "x", "env": {"A": "1"}, "mounts": [{"volume": "v"}]})
        .as_object()
        .cloned()
        .unwrap();
    let before = config.clone();
    apply(&Settings::default(), &mut config).unwrap();
    assert_eq!(config, before);
    apply(
        &Settings {
            env: texts(&["B=2"]),
            ..Settings::default()
        },
        &mut config,
    )
    .unwrap();
    assert_eq!(config["env"], json!({"A": "1", "B": "2"}));
}

#[test]
fn a_whole_configuration_is_merged_first() {
    let settings = Settings {
        machine_config: Some(r#"{"env": {"A": "x", "B": "y"}, "auto_destroy": true}"#.to_owned()),
        env: texts(&["A=z"]),
        ..Settings::default()
    };
    assert_eq!(
        applied(&settings),
        json!({"env": {"A": "z", "B": "y"}, "auto_destroy": true})
    );
}

#[test]
fn values_that_make_no_sense_are_misuse() {
    let cases = [
        Settings {
            env: texts(&["A"]),
            ..Settings::default()
        },
        Settings {
            env: texts(&["=b"]),
            ..Settings::default()
        },
        Settings {
            port: texts(&["80:x"]),
            ..Settings::default()
        },
        Settings {
            port: texts(&["80:0"]),
            ..Settings::default()
        },
        Settings {
            port: texts(&["80:80/icmp"]),
            ..Settings::default()
        },
        Settings {
            vm_memory: Some("lots".to_owned()),
            ..Settings::default()
        },
        Settings {
            machine_config: Some("{".to_owned()),
            ..Settings::default()
        },
        Settings {
            entrypoint: Some("'open".to_owned()),
            ..Settings::default()
        },
    ];
    for settings in cases {
        let failure = apply(&settings, &mut Map::new()).unwrap_err();
        assert_eq!(failure.exit_code(), crate::failure::MISUSE, "{settings:?}");
    }
}

#[test]
fn words_are_split_as_a_shell_splits_them() {
    for (line, expected) in [
        ("a b  c", vec!["a", "b", "c"]),
        ("sh -c 'echo \"x y\"'", vec!["sh", "-c", "echo \"x y\""]),
        ("a\\ b \"c \\\" d\" ''", vec!["a b", "c \" d", ""]),
        ("'a\\b'", vec!["a\\b"]),
        ("", vec![]),
    ] {
        assert_eq!(words(line).unwrap(), expected, "{line}");
    }
}
