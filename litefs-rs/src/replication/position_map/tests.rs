use proptest::prelude::*;

use super::*;

#[test]
fn a_map_stands_as_the_protocol_says() {
    let pos = |txid, checksum| Pos {
        txid: Txid::new(txid),
        checksum: Checksum::from_bits(checksum),
    };
    let map = PositionMap::from([
        ("b".parse().unwrap(), pos(0, 0)),
        ("ab".parse().unwrap(), pos(2, 0xb7bc_ca91_d725_233f)),
    ]);
    let mut expected = vec![0, 0, 0, 2, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 2];
    expected.extend([0xb7, 0xbc, 0xca, 0x91, 0xd7, 0x25, 0x23, 0x3f]);
    expected.extend([0, 0, 0, 1, b'b']);
    expected.extend([0; 16]);
    assert_eq!(encode(&map), expected);
    assert_eq!(decode(&expected).unwrap(), map);
    assert_eq!(
        decode(&[0; 4]).unwrap(),
        PositionMap::new(),
        "a replica that has nothing"
    );
    for end in 0..expected.len() {
        assert_eq!(
            decode(&expected[..end]),
            Err(FrameError::Truncated),
            "{end} bytes"
        );
    }
    expected.push(0);
    assert_eq!(decode(&expected), Err(FrameError::AfterEnd));
}

#[test]
fn databases_that_none_of_ours_can_be_called_after_are_left_out() {
    let mut bytes = vec![0, 0, 0, 2];
    for name in ["../etc", "db"] {
        put_name(&mut bytes, name);
        bytes.extend([0; 16]);
    }
    let names: Vec<String> = decode(&bytes).unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["db"]);
}

proptest! {
    #[test]
    fn prop_no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..100)) {
        if let Ok(map) = decode(&bytes) {
            prop_assert!(encode(&map).len() <= bytes.len());
        }
    }
}
