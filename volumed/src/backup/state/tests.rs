use objstore::MemoryStore;
use proptest::prelude::*;

use super::*;
use crate::backup::tests::{VOLUME, time};

fn state() -> State {
    let candidates = Candidates {
        name: "4-17".to_owned(),
        marked_at: time(1),
    };
    State {
        epoch: 4,
        open: vec!["vs_1".to_owned()],
        candidates: Some(candidates),
    }
}

#[test]
fn a_register_is_laid_out_as_documented() {
    let bytes = encode(&State {
        epoch: 2,
        open: vec!["vs_1".to_owned()],
        candidates: None,
    });
    let json = br#"{"epoch":2,"open":["vs_1"],"candidates":null}"#;
    let mut expected = b"HGGS\x01\0\0\0\x2d\0\0\0".to_vec();
    expected.extend_from_slice(json);
    expected.extend_from_slice(&crc32fast::hash(&expected).to_le_bytes());
    assert_eq!(bytes, expected);
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let bytes = encode(&state());
    assert_eq!(decode(&bytes).unwrap(), state());
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        assert!(decode(&damaged).is_err(), "byte {at}");
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[tokio::test]
async fn opening_and_closing_are_idempotent_and_never_repeat_a_version() {
    let store = MemoryStore::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        open(&store, VOLUME, "vs_1").await.unwrap();
        open(&store, VOLUME, "vs_1").await.unwrap();
        let opened = load(&store, VOLUME).await.unwrap();
        assert_eq!(opened.state.open, ["vs_1"]);
        close(&store, VOLUME, "vs_1").await.unwrap();
        close(&store, VOLUME, "vs_1").await.unwrap();
        let closed = load(&store, VOLUME).await.unwrap();
        assert!(closed.state.open.is_empty());
        seen.extend([opened.etag, closed.etag]);
    }
    let versions: std::collections::HashSet<_> = seen.iter().flatten().collect();
    assert_eq!(versions.len(), 6);
}

#[tokio::test]
async fn a_swap_of_a_past_version_changes_nothing() {
    let store = MemoryStore::new();
    let before = load(&store, VOLUME).await.unwrap();
    open(&store, VOLUME, "vs_1").await.unwrap();
    assert!(matches!(
        swap(&store, VOLUME, &before, State::default()).await.unwrap(),
        Swap::Stale
    ));
    let current = load(&store, VOLUME).await.unwrap();
    open(&store, VOLUME, "vs_2").await.unwrap();
    assert!(matches!(
        swap(&store, VOLUME, &current, State::default()).await.unwrap(),
        Swap::Stale
    ));
    assert_eq!(load(&store, VOLUME).await.unwrap().state.open, ["vs_1", "vs_2"]);
}

#[tokio::test]
async fn a_damaged_register_stops_everything_and_says_what_to_do() {
    let store = MemoryStore::new();
    open(&store, VOLUME, "vs_1").await.unwrap();
    assert!(store.damage(&state_key(VOLUME), |bytes| bytes[20] ^= 1));
    let error = open(&store, VOLUME, "vs_2").await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixData);
    assert!(error.to_string().contains("delete it while no backup"), "{error}");
}

proptest! {
    #[test]
    fn prop_arbitrary_bytes_never_decode(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
        let own = [b"HGGS\x01\0\0\0", bytes.as_slice()].concat();
        prop_assert!(decode(&own).is_err());
    }
}
