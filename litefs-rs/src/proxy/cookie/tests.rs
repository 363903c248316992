use super::*;

#[test]
fn a_transaction_is_read_as_it_was_written_and_from_among_others() {
    let headers = |lines: &[&'static str]| -> HeaderMap {
        let values = lines.iter().map(|line| http::HeaderValue::from_static(line));
        values.map(|value| (COOKIE, value)).collect()
    };
    for (lines, expected) in [
        (&["__txid=000000000000002a"][..], Some(42)),
        (&["a=b; __txid=000000000000002a; c=d"], Some(42)),
        (&["a=b", "__txid=\"000000000000002a\""], Some(42)),
        (&["x__txid=000000000000002a"], None),
        (&["__txid=0000000000000000"], None),
        (&["__txid=2a"], None),
        (&["__txid=zzzzzzzzzzzzzzzz"], None),
        (&["__txid"], None),
        (&[], None),
    ] {
        assert_eq!(
            read(&headers(lines), "__txid"),
            expected.map(Txid::new),
            "{lines:?}"
        );
    }
    let line = written("__txid", Txid::new(42), "Sun, 22 Nov 2026 09:00:00 GMT");
    assert_eq!(
        line,
        "__txid=000000000000002a; Path=/; Expires=Sun, 22 Nov 2026 09:00:00 GMT; HttpOnly"
    );
}
