use super::*;

#[test]
fn a_key_keeps_its_text_and_orders_by_bytes() {
    let a = Key::new("blocks/0a").unwrap();
    let b = Key::new("blocks/é").unwrap();
    assert_eq!(a.as_str(), "blocks/0a");
    assert!(a < b);
}

#[test]
fn a_key_that_some_client_would_read_differently_is_refused() {
    for bad in [
        "", "/a", "a/", "a//b", "../a", "a/./b", "a/..", "a\nb", "a\0", ".",
    ] {
        assert!(Key::new(bad).is_err(), "{bad:?} passed");
    }
    assert!(Key::new("x".repeat(KEY_BYTES_MAX)).is_ok());
    assert_eq!(
        Key::new("x".repeat(KEY_BYTES_MAX + 1)),
        Err(KeyError::Length {
            bytes: KEY_BYTES_MAX + 1
        })
    );
    for good in ["a", "..a", "a..b/c", "a b/ü", "HEAD"] {
        assert!(Key::new(good).is_ok(), "{good:?} refused");
    }
}

#[test]
fn only_an_unconfirmed_put_may_be_retried_blindly() {
    let key = Key::new("k").unwrap();
    let exists = PutError::Exists {
        key: key.clone(),
        maybe_applied: false,
    };
    assert_eq!(exists.remedy(), Remedy::Stop);
    let lost = PutError::Unavailable {
        key,
        attempts: 3,
        source: Outage::Status {
            status: 503,
            code: "SlowDown".into(),
        },
    };
    assert_eq!(lost.remedy(), Remedy::Retry);
    assert_eq!(lost.to_string(), "put k: not confirmed after 3 attempts");
}
