use proptest::prelude::*;

use super::model::{Client, Reply, Wish};
use super::talk::{CLIENT_FLAGS, EXPORT_BYTES, Talk, named, open_with_everything, option, queries, request};
use crate::server::{Closed, Violation};
use crate::{Errno, Event, PAYLOAD_BYTES_MAX, Request};

const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const CACHE: u16 = 5;
const ZEROES: u16 = 6;
const STATUS: u16 = 7;

const PERM: u32 = 1;
const INVAL: u32 = 22;
const NO_SPACE: u32 = 28;
const OVERFLOW: u32 = 75;

/// Asks one thing and reads the answer as a strict client.
fn ask(talk: &mut Talk, wish: &Wish) -> Reply {
    let mut client = Client::new(talk.opened.as_ref().unwrap().bytes, structured(talk));
    let sent = talk.ask(&client.ask(wish));
    let mut replies = client.read(&sent);
    assert_eq!(replies.len(), 1, "one answer to {wish:?}");
    replies.remove(0).1
}

fn structured(talk: &Talk) -> bool {
    talk.server.agreed.structured
}

fn both() -> [Talk; 2] {
    [Talk::opened(), Talk::opened_simply("first")]
}

#[test]
fn what_was_written_is_read_with_and_without_structured_replies() {
    for mut talk in both() {
        let data: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        assert_eq!(ask(&mut talk, &Wish::write(777, &data)), Reply::Done);
        assert_eq!(ask(&mut talk, &Wish::read(777, 10_000)), Reply::Data(data));
        let edge = ask(&mut talk, &Wish::read(EXPORT_BYTES - 5000, 5000));
        assert_eq!(edge, Reply::Data(vec![0; 5000]));
    }
}

#[test]
fn zeros_are_sent_as_a_hole_to_who_understands_it() {
    let mut talk = Talk::opened();
    let sent = talk.ask(&request(0, READ, 5, 0, 8192));
    assert_eq!(sent.len(), 32, "one chunk that says so");
    let sent = talk.ask(&request(1 << 2, READ, 6, 0, 8192));
    assert_eq!(sent.len(), 32, "one hole is one piece");
    ask(&mut talk, &Wish::write(4096, &[1]));
    let sent = talk.ask(&request(1 << 2, READ, 7, 0, 8192));
    assert_eq!(sent.len(), 28 + 8192, "data and a hole do not come in one piece");
    let sent = talk.ask(&request(0, READ, 7, 0, 8192));
    assert_eq!(sent.len(), 32 + 28 + 4096);
}

#[test]
fn a_read_that_fails_in_its_midst_says_where() {
    let mut talk = Talk::opened();
    ask(&mut talk, &Wish::write(0, &[7; 16384]));
    talk.disk.bad = vec![1, 3];
    let wish = Wish::read(100, 16000);
    assert_eq!(
        ask(&mut talk, &wish),
        Reply::FailedAt(vec![(5, 4096), (5, 12288)])
    );
    let unbroken = Wish {
        flags: 1 << 2,
        ..wish
    };
    assert_eq!(ask(&mut talk, &unbroken), Reply::FailedAt(vec![(5, 4096)]));
    let mut talk = Talk::opened_simply("first");
    talk.disk.bad = vec![1];
    assert_eq!(ask(&mut talk, &Wish::read(100, 16000)), Reply::Failed(5));
    assert_eq!(ask(&mut talk, &Wish::read(0, 4096)), Reply::Data(vec![0; 4096]));
}

#[test]
fn what_is_asked_for_reaches_the_driver_with_its_flags() {
    for mut talk in both() {
        let fua = 1;
        for (flags, command, offset, bytes) in [
            (0, WRITE, 0, 4),
            (fua, WRITE, 4, 4),
            (0, TRIM, 8, 4),
            (fua, TRIM, 8, 60_000),
            (0, ZEROES, 0, 9),
            (1 << 1, ZEROES, 1, 9),
            (1 << 4 | fua, ZEROES, 2, 9),
            (0, CACHE, 3, 9),
            (fua, FLUSH, 0, 0),
        ] {
            let wish = Wish::new(flags, command, offset, bytes);
            assert_eq!(ask(&mut talk, &wish), Reply::Done, "{wish:?}");
        }
        assert_eq!(
            talk.disk.heard,
            [
                "write 0+4 fua false",
                "write 4+4 fua true",
                "trim 8+4 fua false",
                "trim 8+60000 fua true",
                "zero 0+9 fua false no hole false fast false",
                "zero 1+9 fua false no hole true fast false",
                "zero 2+9 fua true no hole false fast true",
                "cache 3+9",
                "flush",
            ]
        );
    }
}

#[test]
fn block_status_tells_holes_up_to_the_end_of_what_was_asked() {
    let mut talk = Talk::opened();
    ask(&mut talk, &Wish::write(8192, &[1; 4096]));
    let status = |talk: &mut Talk, flags, offset, bytes| ask(talk, &Wish::new(flags, STATUS, offset, bytes));
    assert_eq!(
        status(&mut talk, 0, 0, 20_000),
        Reply::Status(vec![(8192, 3), (4096, 0), (7712, 3)])
    );
    assert_eq!(
        status(&mut talk, 1 << 3, 100, 20_000),
        Reply::Status(vec![(8092, 3)])
    );
    assert_eq!(status(&mut talk, 1 << 3, 8192, 10), Reply::Status(vec![(10, 0)]));
}

#[test]
fn block_status_needs_a_context_of_the_export_that_was_opened() {
    let wish = Wish::new(0, STATUS, 0, 4096);
    assert_eq!(
        ask(&mut Talk::opened_simply("first"), &wish),
        Reply::Failed(INVAL)
    );
    let mut other = Talk::new();
    let options = [
        CLIENT_FLAGS.to_vec(),
        option(8, &[]),
        option(10, &queries("second", &["base:allocation"])),
        option(7, &named("first", &[])),
    ];
    other.hear(&options.concat());
    other.sent.clear();
    assert_eq!(ask(&mut other, &wish), Reply::Failed(INVAL));
}

#[test]
fn requests_that_cannot_be_carried_out_get_the_right_error_and_the_next_is_understood() {
    let end = EXPORT_BYTES;
    let most = PAYLOAD_BYTES_MAX;
    for mut talk in both() {
        let structured = structured(&talk);
        for (flags, command, offset, bytes, error) in [
            (0, READ, end, 1, INVAL),
            (0, READ, end - 1, 2, INVAL),
            (0, READ, u64::MAX, 2, INVAL),
            (0, READ, 0, 0, INVAL),
            (0, READ, 0, most + 1, if structured { OVERFLOW } else { INVAL }),
            (0, READ, 0, u32::MAX, if structured { OVERFLOW } else { INVAL }),
            (0, WRITE, end - 1, 2, NO_SPACE),
            (0, WRITE, u64::MAX - 1, 100, NO_SPACE),
            (0, WRITE, 0, 0, INVAL),
            (0, ZEROES, end, 1, NO_SPACE),
            (0, ZEROES, 1, u32::MAX, NO_SPACE),
            (0, TRIM, end - 1, 2, INVAL),
            (0, CACHE, end, 1, INVAL),
            (0, FLUSH, 1, 0, INVAL),
            (0, FLUSH, 0, 1, INVAL),
            (0, STATUS, end, 1, INVAL),
            (0, STATUS, 0, 0, INVAL),
            (0, 8, 0, 10, INVAL),
            (0, 99, 0, 10, INVAL),
            (1 << 1, READ, 0, 10, INVAL),
            (1 << 2, WRITE, 0, 10, INVAL),
            (1 << 5, WRITE, 0, 10, INVAL),
            (1 << 3, READ, 0, 10, INVAL),
            (1 << 4, TRIM, 0, 10, INVAL),
            (1 << 15, CACHE, 0, 10, INVAL),
        ] {
            let wish = Wish::new(flags, command, offset, bytes);
            assert_eq!(ask(&mut talk, &wish), Reply::Failed(error), "{wish:?}");
        }
        assert_eq!(talk.disk.heard, Vec::<String>::new());
        assert_eq!(ask(&mut talk, &Wish::read(0, 1)), Reply::Data(vec![0]));
    }
    let unoffered = Wish::new(1 << 2, READ, 0, 10);
    assert_eq!(
        ask(&mut Talk::opened_simply("first"), &unoffered),
        Reply::Failed(INVAL)
    );
}

#[test]
fn nothing_is_changed_on_a_read_only_export() {
    let mut talk = Talk::opened_simply("second");
    for command in [WRITE, TRIM, ZEROES] {
        assert_eq!(ask(&mut talk, &Wish::new(0, command, 0, 10)), Reply::Failed(PERM));
    }
    let fast = Wish::new(1 << 4, ZEROES, 0, 10);
    assert_eq!(ask(&mut talk, &fast), Reply::Failed(INVAL), "not offered");
    assert_eq!(ask(&mut talk, &Wish::read(0, 3)), Reply::Data(vec![0; 3]));
    assert_eq!(talk.disk.heard, Vec::<String>::new());
}

#[test]
fn requests_off_the_minimum_block_size_are_refused() {
    let mut talk = Talk::new();
    talk.exports[0].blocks = crate::BlockSizes::new(4096, 8192).unwrap();
    talk.hear(&open_with_everything());
    talk.sent.clear();
    for (offset, bytes) in [(512, 4096), (0, 512), (4096, 4097)] {
        for command in [READ, WRITE, TRIM, ZEROES, CACHE, STATUS] {
            let wish = Wish::new(0, command, offset, bytes);
            assert_eq!(ask(&mut talk, &wish), Reply::Failed(INVAL), "{wish:?}");
        }
    }
    assert_eq!(
        ask(&mut talk, &Wish::read(4096, 8192)),
        Reply::Data(vec![0; 8192])
    );
}

#[test]
fn a_write_of_gigabytes_is_refused_without_being_held() {
    let mut talk = Talk::opened();
    talk.hear(&request(0, WRITE, 9, 0, u32::MAX));
    let chunk = vec![0x25; 1 << 20];
    let mut left = u32::MAX as usize;
    while left > 0 {
        assert_eq!(talk.sent, b"", "no answer in the midst of the payload");
        assert_eq!(talk.server.wanted(), left);
        let count = left.min(chunk.len());
        talk.hear(&chunk[..count]);
        left -= count;
    }
    assert!(talk.server.held.capacity() < 100);
    let mut client = Client::new(EXPORT_BYTES, true);
    client.expect(9, &Wish::new(0, WRITE, 0, 0));
    assert_eq!(client.read(&talk.sent), [(9, Reply::Failed(INVAL))]);
    assert_eq!(talk.server.wanted(), 28);
}

#[test]
fn a_driver_may_let_a_payload_pass() {
    let mut talk = Talk::opened();
    let bytes = [
        request(0, WRITE, 1, 0, 100),
        vec![0x25; 100],
        request(0, FLUSH, 2, 0, 0),
    ]
    .concat();
    let mut input = &bytes[..];
    let event = talk.server.receive(&[], &mut input);
    let Some(Event::Request(Request::Write { ticket, .. })) = event else {
        panic!("a write");
    };
    assert_eq!((talk.server.payload(), talk.server.wanted()), (100, 100));
    assert!(talk.server.receive(&[], &mut input).is_none());
    talk.server.payload_taken(10);
    input = &input[10..];
    talk.server.skip_payload();
    assert_eq!(ticket.fail(Errno::NoMem)[..4], [0x66, 0x8e, 0x33, 0xef]);
    let event = talk.server.receive(&[], &mut input);
    assert!(matches!(event, Some(Event::Request(Request::Flush(_)))));
    assert_eq!(input, b"");
}

#[test]
fn a_session_ends_when_the_client_leaves_or_stops_making_sense() {
    let mut talk = Talk::opened();
    let leave = request(0, 2, 0, 0, 0);
    assert_eq!(talk.ask(&[leave, request(0, FLUSH, 1, 0, 0)].concat()), b"");
    assert_eq!(talk.closed, Some(Closed::Disconnected));
    assert_eq!(talk.server.wanted(), 0);
    let mut talk = Talk::opened();
    talk.hear(&[&[0x21, 0xe4, 0x1c, 0x71][..], &[0; 24]].concat());
    let extended = Violation::RequestMagic(0x21e4_1c71);
    assert_eq!(talk.closed, Some(Closed::Violation(extended)));
}

#[test]
#[should_panic(expected = "parts make up what is read")]
fn parts_that_do_not_make_up_the_span_are_a_mistake_of_the_driver() {
    let mut talk = Talk::opened();
    let bytes = request(0, READ, 1, 0, 100);
    let Some(Event::Request(Request::Read(read))) = talk.server.receive(&[], &mut &bytes[..]) else {
        panic!("a read");
    };
    read.parts(&[crate::Part::Data(99)], &mut Vec::new());
}

fn wish() -> impl Strategy<Value = Wish> {
    let place = prop_oneof![
        8 => 0..EXPORT_BYTES,
        1 => EXPORT_BYTES - 5000..EXPORT_BYTES + 10,
        1 => any::<u64>(),
    ];
    let bytes = prop_oneof![
        4 => 0..20_000_u32,
        4 => (0..5_u32).prop_map(|pages| pages * 4096),
    ];
    let flags = prop_oneof![6 => Just(0), 2 => Just(1), 1 => 0..32_u16, 1 => any::<u16>()];
    let command = prop_oneof![8 => 0..8_u16, 1 => any::<u16>()];
    (flags, command, place, bytes, any::<u8>())
        // A flush is refused but at 0, and nothing is heard after the client left.
        .prop_map(|(flags, command, offset, bytes, byte)| match command {
            2 | FLUSH => Wish::new(flags, FLUSH, 0, 0),
            _ => Wish {
                byte,
                ..Wish::new(flags, command, offset, bytes)
            },
        })
}

proptest! {
    /// Whatever is asked in whatever pieces it arrives, answered in any order, a strict client reads the answers that it
    /// expects of a disk that does as it is told.
    #[test]
    fn prop_a_strict_client_gets_the_answers_that_it_expects(
        wishes in prop::collection::vec(wish(), 1..30),
        cuts in prop::collection::vec(1..3000_usize, 1..20),
        structured: bool,
        order in any::<prop::sample::Index>(),
    ) {
        let mut talk = if structured { Talk::opened() } else { Talk::opened_simply("first") };
        talk.kept = Some(Vec::new());
        let mut client = Client::new(EXPORT_BYTES, structured);
        let stream: Vec<u8> = wishes.iter().flat_map(|wish| client.ask(wish)).collect();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            talk.hear(piece);
            rest = after;
        }
        let mut answers = talk.kept.take().unwrap();
        prop_assert_eq!(answers.len(), wishes.len());
        let turn = order.index(answers.len());
        answers.rotate_left(turn);
        let replies = client.read(&answers.concat());
        let mut image = vec![0; usize::try_from(EXPORT_BYTES).unwrap()];
        let expected: Vec<Reply> = wishes.iter().map(|wish| wish.carry_out(&mut image, structured)).collect();
        for (cookie, reply) in replies {
            let index = usize::try_from(cookie).unwrap();
            prop_assert!(reply.is_as(&expected[index]), "{:?}: {reply:?}, not {:?}", wishes[index], expected[index]);
        }
        prop_assert_eq!(&talk.disk.bytes[..image.len()], &image[..]);
        prop_assert_eq!(talk.closed, None);
    }
}
