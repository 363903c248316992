use std::time::Duration;

use super::{Config, LeaseConfig, expand, parse_duration};

const PRIMARY: &str = "fuse: { dir: \"/srv/a/mnt\" }\ndata: { dir: \"/srv/a/data\" }\nhttp: { addr: \"127.0.0.1:20202\" }\n\
    lease: { type: \"static\", hostname: \"node-a\", advertise-url: \"http://127.0.0.1:20202\", candidate: true }\n";

fn problems(text: &str) -> String {
    Config::parse(text, None)
        .expect_err("a configuration that cannot be used")
        .to_string()
}

#[test]
fn a_file_of_litefs_is_read_with_its_defaults() {
    let config = Config::parse(PRIMARY, None).expect("a configuration");
    assert_eq!((&config.lease, config.candidate), (&LeaseConfig::Static, true));
    assert_eq!(config.hostname, "node-a");
    assert_eq!(config.http.to_string(), "127.0.0.1:20202");
    assert_eq!(config.retention, Some(Duration::from_secs(600)));
    assert_eq!(config.snapshot_timeout, Some(Duration::from_secs(600)));
    assert_eq!(config.retention_interval, Some(Duration::from_secs(60)));
    assert!(config.compress && config.exit_on_error && !config.skip_sync);
}

#[test]
fn a_replica_knows_its_primary() {
    let text = PRIMARY.replace("candidate: true", "candidate: false");
    let config = Config::parse(&text, None).expect("a configuration");
    assert!(!config.candidate);
    assert_eq!(config.advertise_url.as_deref(), Some("http://127.0.0.1:20202"));
}

#[test]
fn a_key_that_is_none_is_named_with_its_line() {
    let said = problems(&format!("{PRIMARY}bar: 1\n"));
    assert!(said.contains("bar") && said.contains("line 5"), "{said}");
    let said = problems(&format!("{PRIMARY}log:\n  debugg: true\n"));
    assert!(said.contains("debugg") && said.contains("line 6"), "{said}");
}

#[test]
fn everything_that_is_wrong_is_told_together() {
    let said = problems(
        "fuse: { dir: /x }\ndata: { dir: /x, retention: soon }\nlease: { type: raft }\nhttp: { addr: nowhere }",
    );
    for part in [
        "fuse directory and data directory cannot be the same path",
        "invalid lease type, must be either 'consul' or 'static', or 'etcd' or 'object', got: 'raft'",
        "data.retention: 'soon' is no duration",
        "http.addr: 'nowhere'",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn what_is_not_there_yet_is_refused_and_not_left_out() {
    let said = problems(&format!(
        "{PRIMARY}backup: {{ type: file }}\nstrict-verify: true\n"
    ));
    assert!(
        said.contains("strict-verify") && said.contains("backup.type"),
        "{said}"
    );
}

#[test]
fn leases_are_read_with_their_defaults_and_what_is_wrong_with_them_is_told() {
    let with = |lease: &str| format!("fuse: {{ dir: /m }}\ndata: {{ dir: /d }}\nlease: {lease}\n");
    let consul = "{ type: consul, consul: { url: \"http://:t@c:8500/app\", key: litefs/primary } }";
    let config = Config::parse(&with(consul), None).expect("a configuration");
    let LeaseConfig::Consul(consul) = config.lease else {
        panic!("{:?}", config.lease);
    };
    assert_eq!(
        (consul.ttl, consul.lock_delay),
        (Duration::from_secs(10), Duration::from_secs(1))
    );
    assert!(config.candidate && !config.promote && config.demote_delay == Duration::from_secs(10));
    let object =
        "{ type: object, candidate: false, object: { endpoint: \"http://s3:9000\", bucket: b, ttl: 3s } }";
    let config = Config::parse(&with(object), None).expect("a configuration");
    let LeaseConfig::Object { store, key, ttl } = config.lease else {
        panic!("{:?}", config.lease);
    };
    assert_eq!(
        (store.bucket.as_str(), key.as_str(), ttl),
        ("b", "litefs/lease", Duration::from_secs(3))
    );
    assert_eq!(store.timeouts.write_ms, 1000, "a third of the lease");
    let etcd = "{ type: etcd, etcd: { endpoints: [\"https://e1\", \"https://e2:4001\"], username: litefs, password: secret, \
        lock-delay: 1s, tls: { ca-file: /ca.pem } } }";
    let config = Config::parse(&with(etcd), None).expect("a configuration");
    let LeaseConfig::Etcd(etcd) = config.lease else {
        panic!("{:?}", config.lease);
    };
    assert_eq!(etcd.endpoints, ["https://e1:2379", "https://e2:4001"]);
    assert_eq!(
        (etcd.key.as_str(), etcd.ttl, etcd.lock_delay),
        ("litefs/lease", Duration::from_secs(10), Duration::from_secs(1))
    );
    assert_eq!(etcd.login.map(|login| login.password).as_deref(), Some("secret"));
    assert_eq!(etcd.tls.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
    assert!(etcd.tls.identity.is_none() && !config.hostname.is_empty());
    for (lease, part) in [
        ("{ type: etcd }", "etcd endpoints required"),
        (
            "{ type: etcd, etcd: { endpoints: [\"http://e\"], ttl: 900ms, username: litefs } }",
            "lease.etcd.ttl: 1s at least; lease.etcd: username and password go together",
        ),
        (
            "{ type: etcd, etcd: { endpoints: [\"https://e\", e2], lock-delay: soon, tls: { cert-file: c } } }",
            "lease.etcd.lock-delay: 'soon' is no duration, such as 10m or 500ms; lease.etcd.tls: cert-file and key-file go \
             together; lease.etcd: 'e2' is no url of a member of etcd",
        ),
        (
            "{ type: etcd, etcd: { endpoints: [\"http://e\"], tls: { ca-file: c } } }",
            "lease.etcd.tls: an endpoint is not https",
        ),
        ("{ type: consul }", "lease.consul: "),
        (
            "{ type: consul, consul: { url: \"http://c\", key: k, ttl: 9s } }",
            "10s at least",
        ),
        ("{ type: object }", "s3 bucket has no name"),
        (
            "{ type: object, object: { bucket: b, access-key-id: x } }",
            "secret_access_key is missing",
        ),
        (
            "{ type: static, promote: true }",
            "static leases are not handed over",
        ),
    ] {
        let said = problems(&with(lease));
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_proxy_is_read_with_its_defaults_and_what_is_wrong_with_it_is_told() {
    let with = |proxy: &str| format!("{PRIMARY}proxy: {{ {proxy} }}\n");
    let proxy = Config::parse(&with("addr: ':8080', target: 'localhost:8081', db: my.db"), None)
        .expect("a configuration")
        .proxy
        .expect("a proxy");
    assert_eq!(
        (
            proxy.address.port(),
            proxy.target.as_str(),
            proxy.database.as_str()
        ),
        (8080, "localhost:8081", "my.db")
    );
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        (proxy.max_lag, proxy.read_header_timeout),
        (seconds(10), seconds(10))
    );
    assert_eq!((proxy.read_timeout, proxy.write_timeout), (None, None));
    assert_eq!(
        (proxy.idle_timeout, proxy.redirect_timeout),
        (seconds(30), Duration::from_secs(5))
    );
    assert_eq!(
        (proxy.cookie.as_str(), proxy.cookie_lasts),
        ("__txid", Duration::from_secs(300))
    );
    let none = Config::parse(&with("addr: ':8080'"), None).expect("a configuration");
    assert_eq!(none.proxy, None, "without a target there is none");
    let good = "addr: ':1', target: 'localhost:2', db: d";
    for (proxy, part) in [
        (
            "target: 'localhost:1', addr: ':1'".to_owned(),
            "proxy database name required",
        ),
        (
            "target: 'localhost:1', db: d".to_owned(),
            "proxy bind address required",
        ),
        (
            "target: 'http://x', addr: ':1', db: d".to_owned(),
            "proxy.target: 'http://x'",
        ),
        (format!("{good}, cookie-name: 'a b'"), "proxy.cookie-name: 'a b'"),
        (
            format!("{good}, redirect: teleport"),
            "proxy.redirect: 'teleport'",
        ),
        (format!("{good}, max-lag: soon"), "proxy.max-lag: 'soon'"),
        (
            format!("{good}, replay-header: 'a b', redirect: replay"),
            "proxy.replay-header: 'a b'",
        ),
    ] {
        let said = problems(&with(&proxy));
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn commands_are_one_line_or_a_list() {
    let config = Config::parse(&format!("{PRIMARY}exec: \"app -x\"\n"), None).expect("a configuration");
    assert_eq!(config.exec.len(), 1);
    let list = format!("{PRIMARY}exec:\n  - cmd: \"migrate\"\n    if-candidate: true\n  - cmd: \"serve\"\n");
    let config = Config::parse(&list, None).expect("a configuration");
    let commands: Vec<_> = config
        .exec
        .iter()
        .map(|command| (command.line.as_str(), command.if_candidate))
        .collect();
    assert_eq!(commands, [("migrate", true), ("serve", false)]);
}

#[test]
fn variables_are_replaced_before_the_file_is_read() {
    let lookup = |name: &str| match name {
        "HOST" => Some("node-7".to_owned()),
        "REGION" | "PRIMARY_REGION" => Some("fra".to_owned()),
        _ => None,
    };
    for (text, expected) in [
        ("$HOST", "node-7"),
        ("${HOST}", "node-7"),
        ("${ HOST }!", "node-7!"),
        ("a${NOTHING}b", "ab"),
        ("${REGION == 'fra'}", "true"),
        ("${REGION != \"fra\"}", "false"),
        ("${REGION == PRIMARY_REGION}", "true"),
        ("${REGION == HOST}", "false"),
        ("5 $ and $1", "5 $ and $1"),
    ] {
        assert_eq!(expand(text, &lookup), expected, "{text}");
    }
    let text = PRIMARY.replace("candidate: true", "candidate: ${REGION == 'ord'}");
    let config = Config::parse(&text, Some(&lookup)).expect("a configuration");
    assert!(!config.candidate);
}

#[test]
fn durations_are_read_as_go_writes_them() {
    for (text, expected) in [
        ("10m", Duration::from_secs(600)),
        ("1h30m", Duration::from_secs(5400)),
        ("500ms", Duration::from_millis(500)),
        ("1.5s", Duration::from_millis(1500)),
        ("0", Duration::ZERO),
        ("0s", Duration::ZERO),
    ] {
        assert_eq!(parse_duration(text), Ok(expected), "{text}");
    }
    for text in ["", "5", "s", "5x", "-5s", "1..5s"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}
