use super::*;

fn config() -> S3Config {
    S3Config::new("http://127.0.0.1:9000", "b", "id", "secret")
}

#[test]
fn a_wrong_field_is_named() {
    type Break = fn(&mut S3Config);
    let cases: [(Break, ConnectError); 6] = [
        (
            |c| c.endpoint = Some("ftp://x".into()),
            ConnectError::Endpoint {
                endpoint: "ftp://x".into(),
            },
        ),
        (
            |c| c.endpoint = Some("localhost:9".into()),
            ConnectError::Endpoint {
                endpoint: "localhost:9".into(),
            },
        ),
        (|c| c.bucket.clear(), ConnectError::Bucket),
        (
            |c| c.prefix = "/a".into(),
            ConnectError::Prefix { prefix: "/a".into() },
        ),
        (
            |c| c.secret_access_key = None,
            ConnectError::HalfCredentials {
                missing: "secret_access_key",
            },
        ),
        (
            |c| c.retries.attempts_max = 0,
            ConnectError::Zero {
                field: "retries.attempts_max",
            },
        ),
    ];
    assert_eq!(config().check(), Ok(()));
    for (break_it, expected) in cases {
        let mut config = config();
        break_it(&mut config);
        assert_eq!(config.check(), Err(expected));
    }
}

#[test]
fn a_prefix_gets_exactly_one_slash() {
    for (prefix, expected) in [("", ""), ("a", "a/"), ("a/", "a/"), ("a/b", "a/b/")] {
        let config = S3Config {
            prefix: prefix.into(),
            ..config()
        };
        assert_eq!(config.key_prefix(), expected);
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    assert!(!format!("{:?}", config()).contains("secret"));
}
