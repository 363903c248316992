use super::{Acquire, Lease, LeaseError, acquire, check, release};

fn ask(nonce: Option<&str>, ttl_seconds: u64) -> Acquire<'_> {
    Acquire {
        nonce,
        ttl_seconds,
        owner: "ann",
        description: "test",
        version: "v1",
        fresh_nonce: "fresh".to_owned(),
    }
}

fn held(nonce: &str, expires_at: i64) -> Lease {
    Lease {
        nonce: nonce.to_owned(),
        expires_at,
        owner: "bob".to_owned(),
        description: String::new(),
        version: "v0".to_owned(),
    }
}

#[test]
fn a_free_machine_is_leased_with_the_fresh_nonce() {
    let lease = acquire(None, ask(None, 10), 100).unwrap();
    assert_eq!(
        (lease.nonce.as_str(), lease.expires_at, lease.version.as_str()),
        ("fresh", 110, "v1")
    );
}

#[test]
fn an_expired_lease_does_not_stand_in_the_way() {
    let lease = acquire(Some(held("old", 100)), ask(None, 10), 100).unwrap();
    assert_eq!(lease.nonce, "fresh");
    assert_eq!(check(Some(held("old", 100)), None, 100), Ok(()));
}

#[test]
fn a_live_lease_refuses_everyone_else_with_409() {
    let error = acquire(Some(held("n", 200)), ask(None, 10), 100).unwrap_err();
    assert_eq!(
        error,
        LeaseError::Held {
            owner: "bob".to_owned(),
            expires_at: 200
        }
    );
    assert_eq!(error.status(), 409);
    assert_eq!(
        acquire(Some(held("n", 200)), ask(Some("x"), 10), 100)
            .unwrap_err()
            .status(),
        409
    );
    assert_eq!(
        check(Some(held("n", 200)), Some("x"), 100).unwrap_err().status(),
        409
    );
    assert_eq!(
        release(Some(held("n", 200)), None, 100).unwrap_err().status(),
        409
    );
}

#[test]
fn the_holder_extends_and_keeps_the_nonce() {
    let lease = acquire(Some(held("n", 200)), ask(Some("n"), 50), 190).unwrap();
    assert_eq!(
        (lease.nonce.as_str(), lease.expires_at, lease.owner.as_str()),
        ("n", 240, "bob")
    );
}

#[test]
fn a_stale_nonce_on_a_free_machine_is_let_through() {
    assert_eq!(check(None, Some("gone"), 5), Ok(()));
    assert_eq!(release(None, Some("gone"), 5), Ok(()));
}

#[test]
fn a_ttl_of_zero_or_of_a_week_is_a_bad_request() {
    for ttl in [0, 7 * 86_400] {
        assert_eq!(acquire(None, ask(None, ttl), 0).unwrap_err().status(), 400);
    }
}
