use super::*;

#[test]
fn seconds_and_go_text_are_read() {
    for (text, ms) in [
        ("90", 90_000),
        ("90s", 90_000),
        ("1m30s", 90_000),
        ("1h0m0s", 3_600_000),
        ("1.5s", 1500),
        ("250ms", 250),
    ] {
        assert_eq!(parse(text).map(|d| d.as_millis()), Some(ms), "{text}");
    }
}

#[test]
fn anything_else_is_no_duration() {
    for text in [
        "",
        "s",
        "-1",
        "1x",
        "1 s",
        "1m3",
        "99999999999999999999",
        "1e9h",
        "9999999999h",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
}
