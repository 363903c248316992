use proptest::prelude::*;

use super::*;

fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Item> {
    decoder.push(bytes);
    let mut items = Vec::new();
    loop {
        match decoder.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return items,
            Err(_) => {}
        }
    }
}

fn data_of(items: &[Item]) -> Vec<u8> {
    let mut data = Vec::new();
    for item in items {
        if let Item::Frame(frame) = item
            && frame.kind == FrameKind::Data
        {
            data.extend_from_slice(&frame.payload);
        }
    }
    data
}

fn synced() -> Decoder {
    let mut decoder = Decoder::new();
    assert_eq!(decode_all(&mut decoder, &SYNC), [Item::Sync]);
    decoder
}

fn frame(kind: FrameKind, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    encode(kind, StreamId::LOG_STDOUT, payload, &mut out);
    out
}

#[test]
fn nothing_is_read_before_a_sync() {
    let mut decoder = Decoder::new();
    assert_eq!(decode_all(&mut decoder, &frame(FrameKind::Credit, b"abcd")), []);
    assert_eq!(decoder.buffer.len(), 0);
}

#[test]
fn a_frame_cut_short_gives_way_to_the_session_that_follows() {
    let whole = frame(FrameKind::Request, &[b'x'; 100]);
    let next = frame(FrameKind::HostHello, b"{}");
    for cut in 0..whole.len() {
        let mut decoder = synced();
        let mut bytes = whole[..cut].to_vec();
        bytes.extend_from_slice(&SYNC);
        bytes.extend_from_slice(&next);
        let items = decode_all(&mut decoder, &bytes);
        assert_eq!(items.first(), Some(&Item::Sync), "cut at {cut}");
        assert!(
            matches!(&items[1], Item::Frame(f) if f.kind == FrameKind::HostHello),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_sync_is_found_when_it_comes_byte_by_byte_inside_a_frame_cut_short() {
    let whole = frame(FrameKind::Request, &[b'x'; 20]);
    for cut in 0..whole.len() {
        let mut decoder = synced();
        assert_eq!(decode_all(&mut decoder, &whole[..cut]), []);
        for byte in &SYNC[..15] {
            assert_eq!(decode_all(&mut decoder, &[*byte]), [], "cut at {cut}");
        }
        assert_eq!(
            decode_all(&mut decoder, &SYNC[15..]),
            [Item::Sync],
            "cut at {cut}"
        );
    }
}

#[test]
fn a_frame_beyond_the_limit_is_refused_from_its_header_alone() {
    let mut decoder = synced();
    decoder.push(&[1, 0, 1, 0, 8, 0, 0, 0, 0]);
    assert_eq!(decoder.next_item(), Err(FrameError::TooLong { bytes: 65_537 }));
    assert_eq!(decode_all(&mut decoder, &SYNC), [Item::Sync]);
}

#[test]
fn data_that_holds_a_sync_arrives_unchanged_and_starts_no_session() {
    for tail in 0..=SYNC.len() {
        let mut payload = vec![7; PAYLOAD_BYTES_MAX - 5];
        payload.extend_from_slice(&SYNC);
        payload.extend_from_slice(&SYNC[..tail]);
        let mut wire = BytesMut::new();
        encode_data(StreamId::LOG_STDERR, &payload, &mut wire);
        let mut decoder = synced();
        let items = decode_all(&mut decoder, &wire);
        assert!(!items.contains(&Item::Sync), "tail of {tail}");
        assert_eq!(data_of(&items), payload, "tail of {tail}");
    }
}

#[test]
fn sessions_that_came_at_once_are_all_seen() {
    let mut bytes = frame(FrameKind::Ack, &[0; 8]).to_vec();
    for _ in 0..3 {
        bytes.extend_from_slice(&SYNC);
        bytes.extend_from_slice(&frame(FrameKind::HostHello, b"{}"));
    }
    let items = decode_all(&mut synced(), &bytes);
    assert_eq!(
        items.iter().filter(|item| **item == Item::Sync).count(),
        3,
        "{items:?}"
    );
    assert_eq!(items.len(), 7, "{items:?}");
}

#[test]
fn stream_numbers_and_their_parts_agree() {
    let stream = StreamId::new(77, Channel::Stderr);
    assert_eq!((stream.call(), stream.channel()), (77, Channel::Stderr));
    assert_eq!(StreamId::new(0, Channel::Stdout), StreamId::LOG_STDOUT);
    assert_eq!(
        StreamId::new(StreamId::CALL_MAX, Channel::Stderr).0,
        STREAM_LIMIT - 1
    );
}

/// Bytes that are mostly those of [`SYNC`], in runs of it.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (0usize..16, 1usize..17).prop_map(|(from, len)| SYNC[from..(from + len).min(16)].to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn prop_data_survives_any_content_and_any_cutting(payload in hostile(), cuts in prop::collection::vec(1usize..40, 1..50)) {
        let mut wire = BytesMut::new();
        encode_data(StreamId::LOG_STDOUT, &payload, &mut wire);
        prop_assert_eq!(find(&wire, &SYNC), None);
        let mut decoder = synced();
        let mut got = Vec::new();
        let mut rest = &wire[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            got.extend(decode_all(&mut decoder, now));
            rest = later;
        }
        prop_assert!(!got.contains(&Item::Sync));
        prop_assert_eq!(data_of(&got), payload);
    }

    #[test]
    fn prop_arbitrary_bytes_never_panic_nor_pile_up(chunks in prop::collection::vec(prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..300)], 0..40)) {
        let mut decoder = synced();
        for chunk in chunks {
            decode_all(&mut decoder, &chunk);
            prop_assert!(decoder.buffer.len() <= HEADER_BYTES + PAYLOAD_BYTES_MAX + SYNC.len());
        }
        // Whatever came, a session can begin.
        decode_all(&mut decoder, &SYNC);
        let items = decode_all(&mut decoder, &frame(FrameKind::Ack, &[0; 8]));
        prop_assert!(matches!(items.last(), Some(Item::Frame(f)) if f.kind == FrameKind::Ack));
    }
}
