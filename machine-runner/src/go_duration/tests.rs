use std::time::Duration;

use super::{from_json, from_query, parse};

#[test]
fn go_texts_are_read_and_nonsense_is_refused() {
    for (text, expected) in [
        ("15s", Some(15_000)),
        ("1m0s", Some(60_000)),
        ("1h2m3.5s", Some(3_723_500)),
        ("250ms", Some(250)),
        ("0", Some(0)),
        ("0s", Some(0)),
        ("", None),
        ("15", None),
        ("s", None),
        ("1x", None),
        ("-5s", None),
    ] {
        assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn json_integers_are_nanoseconds_and_query_numbers_seconds() {
    assert_eq!(
        from_json(&serde_json::json!(5_000_000_000_u64)),
        Some(Duration::from_secs(5))
    );
    assert_eq!(from_json(&serde_json::json!(-1)), None);
    assert_eq!(from_query("30"), Some(Duration::from_secs(30)));
    assert_eq!(from_query("1m"), Some(Duration::from_mins(1)));
    assert_eq!(from_query("NaN"), None);
}
