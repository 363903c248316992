use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AutoExtend, FileSource, MachineConfig};
use crate::restart::Mode;

fn parse(config: &Value) -> Result<MachineConfig, String> {
    MachineConfig::parse(config).map_err(|error| error.field)
}

fn with(extra: Value) -> Value {
    let mut config = json!({"image": "debian:12"});
    config
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    config
}

#[test]
fn a_bare_image_gets_every_default() {
    let config = parse(&json!({"image": "debian:12"})).unwrap();
    assert_eq!((config.guest.cpus, config.guest.memory_mb), (1, 256));
    assert_eq!(
        (config.restart.mode, config.restart.retries_max),
        (Mode::OnFailure, 10)
    );
    assert_eq!(config.stop_timeout, Duration::from_secs(5));
    assert!(config.stop_signal.is_none() && config.mounts.is_empty() && !config.auto_destroy);
}

#[test]
fn auto_destroy_turns_the_default_policy_off() {
    assert_eq!(
        parse(&with(json!({"auto_destroy": true}))).unwrap().restart.mode,
        Mode::No
    );
}

#[test]
fn each_bad_field_is_named() {
    for (extra, field) in [
        (json!({"image": ""}), "config.image"),
        (json!({"image": 5}), "config.image"),
        (json!({"guest": {"cpus": 3}}), "config.guest.cpus"),
        (json!({"guest": {"cpus": 17}}), "config.guest.cpus"),
        (json!({"guest": {"cpus": -1}}), "config.guest.cpus"),
        (json!({"guest": {"memory_mb": 64}}), "config.guest.memory_mb"),
        (json!({"guest": {"memory_mb": 4096}}), "config.guest.memory_mb"),
        (json!({"guest": {"cpu_kind": "fast"}}), "config.guest.cpu_kind"),
        (json!({"guest": {"gpus": 1}}), "config.guest.gpus"),
        (
            json!({"guest": {"kernel_args": ["a b"]}}),
            "config.guest.kernel_args",
        ),
        (json!({"size": "huge"}), "config.size"),
        (json!({"mounts": [{"path": "/data"}]}), "config.mounts[0].volume"),
        (
            json!({"mounts": [{"volume": "vol_1", "path": "/"}]}),
            "config.mounts[0].path",
        ),
        (
            json!({"mounts": [{"volume": "vol_1", "path": "data"}]}),
            "config.mounts[0].path",
        ),
        (
            json!({"mounts": [{"volume": "vol_1", "path": "/a/../b"}]}),
            "config.mounts[0].path",
        ),
        (
            json!({"mounts": [{"volume": "../x", "path": "/a"}]}),
            "config.mounts[0].volume",
        ),
        (
            json!({"mounts": [{"volume": "vol_1", "path": "/a"}, {"volume": "vol_1", "path": "/b"}]}),
            "config.mounts[1].volume",
        ),
        (
            json!({"services": [{"internal_port": 0}]}),
            "config.services[0].internal_port",
        ),
        (
            json!({"services": [{"internal_port": 70000}]}),
            "config.services[0].internal_port",
        ),
        (
            json!({"services": [{"internal_port": 80, "protocol": "sctp"}]}),
            "config.services[0].protocol",
        ),
        (
            json!({"checks": {"a": {"type": "icmp", "port": 1}}}),
            "config.checks.a.type",
        ),
        (json!({"checks": {"a": {"type": "tcp"}}}), "config.checks.a.port"),
        (
            json!({"checks": {"a": {"type": "tcp", "port": 1, "interval": "soon"}}}),
            "config.checks.a.interval",
        ),
        (
            json!({"checks": {"a": {"type": "http", "port": 1, "path": "x"}}}),
            "config.checks.a.path",
        ),
        (
            json!({"files": [{"guest_path": "/a", "raw_value": "%%"}]}),
            "config.files[0].raw_value",
        ),
        (
            json!({"files": [{"guest_path": "a", "raw_value": "aGk="}]}),
            "config.files[0].guest_path",
        ),
        (
            json!({"files": [{"guest_path": "/a"}]}),
            "config.files[0].raw_value",
        ),
        (
            json!({"restart": {"policy": "sometimes"}}),
            "config.restart.policy",
        ),
        (
            json!({"stop_config": {"signal": "SIGSEGV"}}),
            "config.stop_config.signal",
        ),
        (
            json!({"stop_config": {"timeout": "301s"}}),
            "config.stop_config.timeout",
        ),
        (json!({"schedule": "daily"}), "config.schedule"),
        (json!({"containers": [{"name": "a"}]}), "config.containers"),
        (json!({"rootfs": {"persist": "always"}}), "config.rootfs.persist"),
        (json!({"init": {"tty": "yes"}}), "config.init.tty"),
        (
            json!({"dns": {"nameservers": ["1.1.1.1"]}}),
            "config.dns.nameservers",
        ),
        (json!({"env": {"A": 1}}), "config.env.A"),
        (json!({"surprise": 1}), "config.surprise"),
    ] {
        assert_eq!(parse(&with(extra.clone())).unwrap_err(), field, "{extra}");
    }
    assert_eq!(parse(&json!([])).unwrap_err(), "config");
}

#[test]
fn empty_values_ask_for_nothing() {
    let config = with(json!({
        "schedule": "", "containers": [], "metrics": null, "dns": {}, "statics": [], "processes": null,
        "services": [{"internal_port": 8080, "protocol": "tcp", "force_instance_key": null,
                      "ports": [{"port": 80, "handlers": ["http"]}], "autostop": "suspend", "autostart": true}],
        "init": {}, "restart": {}, "guest": {"gpus": 0},
    }));
    assert_eq!(parse(&config).unwrap().services.len(), 1);
}

#[test]
fn service_checks_are_named_as_the_client_expects() {
    let config =
        with(json!({"services": [{"internal_port": 8080, "checks": [{"type": "http", "path": "/up"}]}]}));
    let config = parse(&config).unwrap();
    assert_eq!(config.checks[0].name, "servicecheck-00-http-8080");
    assert_eq!(config.forwarded_ports().len(), 1);
}

#[test]
fn files_are_decoded_and_secrets_named() {
    let config = with(json!({"files": [
        {"guest_path": "/etc/a", "raw_value": "aGk=", "mode": 256}, {"guest_path": "/etc/b", "secret_name": "KEY"}]}));
    let files = parse(&config).unwrap().files;
    assert_eq!(
        (files[0].mode, &files[0].source),
        (0o400, &FileSource::Raw(b"hi".to_vec()))
    );
    assert_eq!(files[1].source, FileSource::Secret("KEY".to_owned()));
}

#[test]
fn big_memory_and_swap_rule_suspend_out() {
    let big = with(json!({"guest": {"cpus": 2, "memory_mb": 4096}}));
    assert!(parse(&big).unwrap().suspendable().unwrap_err().contains("4096"));
    let swap = with(json!({"init": {"swap_size_mb": 64}}));
    assert!(parse(&swap).unwrap().suspendable().is_err());
    assert!(parse(&with(json!({}))).unwrap().suspendable().is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("(path|volume|cpus|port|type|timeout|[a-z_]{1,9})", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn prop_no_configuration_makes_the_parser_panic(
        field in proptest::sample::select(super::KNOWN.to_vec()),
        value in any_json(),
    ) {
        let _verdict = MachineConfig::parse(&with(json!({field: value})));
    }
}

#[test]
fn a_mount_says_how_its_volume_grows_by_itself() {
    let grows = |extra: Value| {
        let mut mount = json!({"volume": "vol_1", "path": "/data"});
        mount
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        parse(&with(json!({"mounts": [mount]}))).map(|config| config.mounts[0].auto_extend)
    };
    let full = json!({"extend_threshold_percent": 80, "add_size_gb": 5, "size_gb_limit": 100});
    let expected = AutoExtend {
        threshold_percent: 80,
        add_size_gb: 5,
        size_gb_limit: Some(100),
    };
    assert_eq!(grows(full), Ok(Some(expected)));
    assert_eq!(grows(json!({})), Ok(None));
    // As clients send what is off.
    let off = json!({"extend_threshold_percent": 0, "add_size_gb": 0, "size_gb_limit": 0});
    assert_eq!(grows(off), Ok(None));
    for (bad, field) in [
        (
            json!({"extend_threshold_percent": 100, "add_size_gb": 1}),
            "extend_threshold_percent",
        ),
        (json!({"extend_threshold_percent": 80}), "add_size_gb"),
        (
            json!({"extend_threshold_percent": 80, "add_size_gb": 101}),
            "add_size_gb",
        ),
        (
            json!({"extend_threshold_percent": 80, "add_size_gb": 1, "size_gb_limit": -1}),
            "size_gb_limit",
        ),
    ] {
        assert_eq!(grows(bad), Err(format!("config.mounts[0].{field}")));
    }
}

#[test]
fn no_processors_and_no_memory_are_not_asked_for_on_purpose() {
    for (guest, field) in [
        (json!({"cpus": 0}), "config.guest.cpus"),
        (json!({"memory_mb": 0}), "config.guest.memory_mb"),
    ] {
        let refused = MachineConfig::parse(&json!({"image": "demo", "guest": guest})).unwrap_err();
        assert_eq!(refused.field, field);
        assert!(refused.sentence.contains("from 1 to"), "{refused}");
    }
}
