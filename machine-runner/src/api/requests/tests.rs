use serde_json::json;

use super::{ListQuery, Pairs, StopBody, signal};

#[test]
fn signals_are_names_or_numbers() {
    for (value, expected) in [
        (json!(9), Some(Some(9))),
        (json!("SIGTERM"), Some(Some(15))),
        (json!("int"), Some(Some(2))),
        (json!("15"), Some(Some(15))),
        (json!(""), Some(None)),
        (json!(0), None),
        (json!(65), None),
        (json!("SIGNOPE"), None),
        (json!([9]), None),
    ] {
        assert_eq!(signal(&value).ok(), expected, "{value}");
    }
}

#[test]
fn a_zero_timeout_means_as_configured() {
    let body = |timeout| StopBody {
        signal: None,
        timeout: Some(timeout),
    };
    assert_eq!(body(json!("0s")).args().unwrap().timeout_ms, None);
    assert_eq!(body(json!("7s")).args().unwrap().timeout_ms, Some(7_000));
    assert_eq!(
        body(json!(7_000_000_000_u64)).args().unwrap().timeout_ms,
        Some(7_000)
    );
    assert_eq!(body(json!("301s")).args().unwrap_err().status, 400);
    assert_eq!(body(json!("soon")).args().unwrap_err().status, 400);
}

#[test]
fn list_queries_are_read() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let pairs = Pairs(vec![
        pair("state", "started,stopped"),
        pair("state", "created"),
        pair("metadata.role", "db"),
        pair("include_deleted", "true"),
    ]);
    let query = ListQuery::read(&pairs).unwrap();
    assert_eq!(query.states, ["started", "stopped", "created"]);
    assert_eq!(query.metadata, [pair("role", "db")]);
    assert!(query.include_deleted && !query.summary);
    assert_eq!(
        ListQuery::read(&Pairs(vec![pair("state", "walking")]))
            .unwrap_err()
            .status,
        400
    );
}
