use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// The beginning of a stream of LiteFS 0.5.14: one database, `tiny`, and a replica that has nothing. Of the LTX file the
/// header's first bytes, the first bytes of the LZ4 frame and a trailer stand for the whole.
const RECORDED: &str = "00000001 0000000000000000 00000004 74696e79
    0004 4c545831 0007 04224d186440a7 0010 b7bcca91d725233fc97dba9f96321ea9 0000
    00000002
    00000007 000001a1f9241082";

fn bytes_of(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Reads a whole stream, with what was cut apart on the way put together again.
fn read(pieces: &[&[u8]]) -> Result<Vec<Received>, FrameError> {
    let mut reader = FrameReader::default();
    let mut out = Vec::new();
    for piece in pieces {
        reader.feed(piece, &mut out)?;
    }
    reader.end()?;
    let mut joined: Vec<Received> = Vec::new();
    for received in out {
        match (joined.last_mut(), received) {
            (Some(Received::LtxBytes(before)), Received::LtxBytes(more)) => {
                *before = Bytes::from([&before[..], &more[..]].concat());
            }
            (_, received) => joined.push(received),
        }
    }
    Ok(joined)
}

fn name(text: &str) -> DatabaseName {
    text.parse().unwrap()
}

#[test]
fn a_stream_that_litefs_wrote_is_read_and_written_alike() {
    let bytes = bytes_of(RECORDED);
    let file = bytes_of("4c545831 04224d186440a7 b7bcca91d725233fc97dba9f96321ea9");
    let timestamp_ms = 0x0000_01a1_f924_1082;
    let expected = [
        Received::LtxBegins {
            database: "tiny".to_owned(),
        },
        Received::LtxBytes(Bytes::from(file.clone())),
        Received::LtxEnds,
        Received::Ready,
        Received::Heartbeat { timestamp_ms },
    ];
    assert_eq!(read(&[&bytes]).unwrap(), expected);
    let mut written = Vec::new();
    Frame::Ltx {
        database: name("tiny"),
    }
    .encode(&mut written);
    let mut chunks = Chunks::new(&mut written);
    for part in [&file[..4], &file[4..11], &file[11..]] {
        chunks.write_all(part).unwrap();
    }
    chunks.finish().unwrap();
    Frame::Ready.encode(&mut written);
    Frame::Heartbeat { timestamp_ms }.encode(&mut written);
    assert_eq!(written, bytes);
}

#[test]
fn the_frames_that_were_not_recorded_stand_as_the_protocol_says() {
    let check = |frame: Frame, bytes: &str, received: Received| {
        let mut written = Vec::new();
        frame.encode(&mut written);
        assert_eq!(written, bytes_of(bytes));
        assert_eq!(read(&[&written]).unwrap(), [received]);
    };
    let database = || "db".to_owned();
    check(Frame::End, "00000003", Received::End);
    check(
        Frame::NoDatabase { database: name("db") },
        "00000004 00000002 6462",
        Received::NoDatabase { database: database() },
    );
    let lease = || "é-1".to_owned();
    check(
        Frame::Handoff { lease: lease() },
        "00000005 00000004 c3a92d31",
        Received::Handoff { lease: lease() },
    );
    let txid = Txid::new(258);
    check(
        Frame::HighWaterMark {
            txid,
            database: name("db"),
        },
        "00000006 0000000000000102 00000002 6462",
        Received::HighWaterMark {
            txid,
            database: database(),
        },
    );
}

#[test]
fn an_error_that_litefs_writes_into_the_stream_is_no_frame() {
    let text = b"stream error: db=\"x\" err=disk\n\0\0\0\x03";
    assert_eq!(read(&[text]), Err(FrameError::Type(0x7374_7265)));
    let mut reader = FrameReader::default();
    let mut out = Vec::new();
    assert!(reader.feed(text, &mut out).is_err());
    assert_eq!(reader.feed(b"", &mut out), Err(FrameError::Broken));
    assert_eq!(reader.end(), Err(FrameError::Broken));
}

#[test]
fn claimed_lengths_are_not_believed_and_names_are_text() {
    let long = |what, bytes, max| Err(FrameError::Long { what, bytes, max });
    let database = "the name of a database";
    assert_eq!(
        read(&[&bytes_of("00000004 ffffffff")]),
        long(database, u32::MAX, 255)
    );
    assert_eq!(
        read(&[&bytes_of("00000005 00000401")]),
        long("the id of a lease", 1025, 1024)
    );
    assert_eq!(
        read(&[&bytes_of("00000004 00000001 ff")]),
        Err(FrameError::Text { what: database })
    );
}

#[test]
fn a_stream_ends_between_frames_or_not_at_all() {
    let bytes = bytes_of(RECORDED);
    let ends: Vec<usize> = (0..=bytes.len())
        .filter(|end| read(&[&bytes[..*end]]).is_ok())
        .collect();
    assert_eq!(ends, [0, bytes.len() - 16, bytes.len() - 12, bytes.len()]);
    assert_eq!(read(&[&bytes_of("00000003 00")]), Err(FrameError::AfterEnd));
}

fn any_frame() -> impl Strategy<Value = (Frame, Received)> {
    let text = "[a-z]{1,8}";
    prop_oneof![
        Just((Frame::Ready, Received::Ready)),
        text.prop_map(|text| {
            let received = Received::NoDatabase {
                database: text.clone(),
            };
            (
                Frame::NoDatabase {
                    database: name(&text),
                },
                received,
            )
        }),
        text.prop_map(|lease| {
            let received = Received::Handoff { lease: lease.clone() };
            (Frame::Handoff { lease }, received)
        }),
        (any::<u64>(), text).prop_map(|(txid, text)| {
            let txid = Txid::new(txid);
            let database = name(&text);
            (
                Frame::HighWaterMark { txid, database },
                Received::HighWaterMark { txid, database: text },
            )
        }),
        any::<i64>().prop_map(|timestamp_ms| (
            Frame::Heartbeat { timestamp_ms },
            Received::Heartbeat { timestamp_ms }
        )),
    ]
}

proptest! {
    #[test]
    fn prop_a_stream_is_read_as_it_was_written_however_it_arrives(
        frames in prop::collection::vec((any_frame(), prop::option::of(prop::collection::vec(any::<u8>(), 0..300))), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let (mut written, mut expected) = (Vec::new(), Vec::new());
        for ((frame, received), file) in frames {
            frame.encode(&mut written);
            expected.push(received);
            if let Some(file) = file {
                Frame::Ltx { database: name("db") }.encode(&mut written);
                let mut chunks = Chunks::new(&mut written);
                chunks.write_all(&file).unwrap();
                chunks.finish().unwrap();
                expected.push(Received::LtxBegins { database: "db".to_owned() });
                if !file.is_empty() {
                    expected.push(Received::LtxBytes(Bytes::from(file)));
                }
                expected.push(Received::LtxEnds);
            }
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(written.len() + 1)).collect();
        at.extend([0, written.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &written[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&pieces).unwrap(), expected);
    }

    #[test]
    fn prop_no_bytes_make_the_reader_panic_or_hold_more_than_they_are(
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), 1_u8..8, any::<u8>()], 0..200),
    ) {
        let mut reader = FrameReader::default();
        let mut out = Vec::new();
        let _is_one_or_not = reader.feed(&bytes, &mut out);
        let held: usize = out.iter().map(|received| match received {
            Received::LtxBytes(bytes) => bytes.len(),
            _ => 0,
        }).sum();
        prop_assert!(held <= bytes.len());
    }
}

#[test]
fn a_chunk_of_more_than_64_kib_becomes_several_and_an_empty_write_none() {
    let file = vec![7; 200_000];
    let mut written = Vec::new();
    let mut chunks = Chunks::new(&mut written);
    chunks.write_all(&file).unwrap();
    assert_eq!(chunks.write(&[]).unwrap(), 0);
    chunks.finish().unwrap();
    assert_eq!(written.len(), 200_000 + 4 * 2 + 2);
    let mut stream = Vec::new();
    Frame::Ltx { database: name("db") }.encode(&mut stream);
    stream.extend(written);
    assert_eq!(
        read(&[&stream]).unwrap()[1],
        Received::LtxBytes(Bytes::from(file))
    );
}
