use super::*;

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

fn row(token: &str, grant: Grant, expires_at: Option<jiff::Timestamp>) -> TokenRow {
    TokenRow {
        hash: hash(token),
        grant,
        expires_at,
    }
}

#[test]
fn tokens_are_taken_out_of_every_form_that_clients_send() {
    for header in ["Bearer a,b", "FlyV1 a,b", "bearer  a , b", "a,b", "  FlyV1 a,,b,"] {
        assert_eq!(presented(header), ["a", "b"], "{header:?}");
    }
    assert!(presented("Bearer ").is_empty());
    assert!(presented("").is_empty());
}

#[test]
fn one_known_token_among_several_is_enough_and_the_widest_grant_wins() {
    let rows = [
        row("app", Grant::App { app_id: 7 }, None),
        row("root", Grant::Root, None),
    ];
    assert_eq!(grant(&["x", "app"], &rows, at(0)), Some(Grant::App { app_id: 7 }));
    assert_eq!(grant(&["root", "app"], &rows, at(0)), Some(Grant::Root));
    assert_eq!(grant(&["app", "root"], &rows, at(0)), Some(Grant::Root));
}

#[test]
fn an_unknown_or_expired_token_grants_nothing() {
    let rows = [row("t", Grant::Root, Some(at(10)))];
    assert_eq!(grant(&["t"], &rows, at(9)), Some(Grant::Root));
    assert_eq!(grant(&["t"], &rows, at(10)), None);
    assert_eq!(grant(&["T"], &rows, at(9)), None);
    assert_eq!(grant(&[""], &[], at(9)), None);
}

#[test]
fn two_generated_tokens_differ() {
    assert_ne!(generate(), generate());
    assert!(generate().len() > 64);
}
