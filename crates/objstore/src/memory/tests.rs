use daemon::wall_clock::ManualClock;

use super::*;

const TEST: Purpose = Purpose("test");

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test]
async fn a_second_creator_is_told_that_the_key_exists() {
    let store = MemoryStore::new();
    store
        .put_if_absent(&key("a"), Bytes::from_static(b"one"), TEST)
        .await
        .unwrap();
    let second = store
        .put_if_absent(&key("a"), Bytes::from_static(b"two"), TEST)
        .await;
    assert!(matches!(second, Err(PutError::Exists { .. })), "{second:?}");
    assert_eq!(store.get(&key("a"), None, TEST).await.unwrap().bytes, "one");
}

#[tokio::test]
async fn a_stale_etag_and_a_missing_object_are_refused() {
    let store = MemoryStore::new();
    let one = store
        .put_if_absent(&key("a"), Bytes::from_static(b"one"), TEST)
        .await
        .unwrap();
    let two = store
        .put_if_match(&key("a"), &one, Bytes::from_static(b"two"), TEST)
        .await
        .unwrap();
    assert_ne!(one, two);
    for (name, expected) in [("a", &one), ("b", &two)] {
        let stale = store
            .put_if_match(&key(name), expected, Bytes::from_static(b"x"), TEST)
            .await;
        assert!(matches!(stale, Err(PutError::Stale { .. })), "{stale:?}");
    }
}

#[tokio::test]
async fn equal_content_has_an_equal_etag_as_on_s3() {
    let store = MemoryStore::new();
    let a = store
        .put_if_absent(&key("a"), Bytes::from_static(b"same"), TEST)
        .await
        .unwrap();
    let b = store
        .put_if_absent(&key("b"), Bytes::from_static(b"same"), TEST)
        .await
        .unwrap();
    assert_eq!(a, b);
}

#[tokio::test]
async fn a_range_is_clipped_at_the_end_and_refused_past_it() {
    let store = MemoryStore::new();
    store
        .put_if_absent(&key("a"), Bytes::from_static(b"0123456789"), TEST)
        .await
        .unwrap();
    let tail = store.get(&key("a"), Some(7..99), TEST).await.unwrap();
    assert_eq!((tail.bytes, tail.total_bytes), (Bytes::from_static(b"789"), 10));
    for range in [10..11, 3..3] {
        let refused = store.get(&key("a"), Some(range), TEST).await;
        assert!(
            matches!(refused, Err(GetError::OutOfRange { total_bytes: 10, .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn listing_goes_on_after_the_last_key_of_a_page() {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let store = MemoryStore::with_clock(clock);
    for name in ["p/c", "p/a", "q/z", "p/b", "p-x"] {
        store
            .put_if_absent(&key(name), Bytes::from_static(b"x"), TEST)
            .await
            .unwrap();
    }
    let first = store.list("p/", None, 2, TEST).await.unwrap();
    let names: Vec<&str> = first.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((names, first.more), (vec!["p/a", "p/b"], true));
    let second = store.list("p/", Some("p/b"), 2, TEST).await.unwrap();
    assert_eq!(second.entries.len(), 1);
    assert!(!second.more);
    assert_eq!(second.entries[0].modified, jiff::Timestamp::UNIX_EPOCH);
}

#[tokio::test]
async fn deleting_twice_is_a_success_and_the_key_is_free_again() {
    let store = MemoryStore::new();
    store
        .put_if_absent(&key("a"), Bytes::from_static(b"x"), TEST)
        .await
        .unwrap();
    store.delete(&key("a"), TEST).await.unwrap();
    store.delete(&key("a"), TEST).await.unwrap();
    assert!(matches!(
        store.get(&key("a"), None, TEST).await,
        Err(GetError::NotFound { .. })
    ));
    store
        .put_if_absent(&key("a"), Bytes::from_static(b"y"), TEST)
        .await
        .unwrap();
}
