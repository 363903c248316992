use super::talk::{CLIENT_FLAGS, EXPORT_BYTES, Talk, named, option, queries};
use crate::server::{Closed, Violation};
use crate::{Server, wire::OPTION_BYTES_MAX};

const UNSUPPORTED: u32 = 0x8000_0001;
const INVALID: u32 = 0x8000_0003;
const UNKNOWN: u32 = 0x8000_0006;
const TOO_BIG: u32 = 0x8000_0009;
const ACK: u32 = 1;

/// An answer to an option.
#[derive(Debug, PartialEq)]
struct Answer {
    option: u32,
    kind: u32,
    data: Vec<u8>,
}

fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(20);
        assert_eq!(head[..8], [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9]);
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let (data, rest) = rest.split_at(word(16) as usize);
        answers.push(Answer {
            option: word(8),
            kind: word(12),
            data: data.to_vec(),
        });
        bytes = rest;
    }
    answers
}

fn greeted() -> Talk {
    let mut talk = Talk::new();
    talk.hear(&CLIENT_FLAGS);
    talk
}

/// The kinds of the answers to one option.
fn kinds(talk: &mut Talk, number: u32, data: &[u8]) -> Vec<u32> {
    let answers = answers(&talk.ask(&option(number, data)));
    assert!(answers.iter().all(|answer| answer.option == number));
    answers.iter().map(|answer| answer.kind).collect()
}

#[test]
fn the_greeting_offers_fixed_newstyle_without_zeros() {
    assert_eq!(Server::greeting(), *b"NBDMAGICIHAVEOPT\0\x03");
}

#[test]
fn go_tells_size_flags_and_block_sizes_and_opens_the_export() {
    let mut talk = greeted();
    let told = answers(&talk.ask(&option(7, &named("second", &[1, 2, 3]))));
    let data: Vec<_> = told
        .iter()
        .map(|answer| (answer.kind, answer.data.as_slice()))
        .collect();
    let size = [
        &[0, 0][..],
        &(2 * EXPORT_BYTES).to_be_bytes(),
        &0b0100_0110_1111_u16.to_be_bytes(),
    ]
    .concat();
    let blocks = [
        &[0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0][..],
        &(32_u32 << 20).to_be_bytes(),
    ]
    .concat();
    assert_eq!(
        data,
        [
            (3, size.as_slice()),
            (3, b"\0\x01second"),
            (3, b"\0\x02for reading"),
            (3, &blocks),
            (ACK, b""),
        ]
    );
    assert_eq!(talk.opened.unwrap().name, "second");
}

#[test]
fn info_tells_the_same_and_opens_nothing() {
    let mut talk = greeted();
    let info = answers(&talk.ask(&option(6, &named("", &[]))));
    let go = answers(&talk.ask(&option(7, &named("", &[]))));
    assert_eq!(info.len(), go.len());
    assert!(info.iter().zip(&go).all(|(a, b)| a.data == b.data));
    assert_eq!(talk.opened.unwrap().name, "first");
}

#[test]
fn the_oldest_way_opens_an_export_with_and_without_zeros() {
    for (flags, zeros) in [(3, 0), (1, 124), (0, 124)] {
        let mut talk = Talk::new();
        let sent = talk.ask(&[vec![0, 0, 0, flags], option(1, b"first")].concat());
        let mut expected = EXPORT_BYTES.to_be_bytes().to_vec();
        expected.extend(0b1101_0110_1101_u16.to_be_bytes());
        expected.resize(10 + zeros, 0);
        assert_eq!(sent, expected);
        assert_eq!(talk.opened.unwrap().name, "first");
    }
}

#[test]
fn a_grown_export_is_seen_by_whoever_opens_it_then() {
    let mut talk = greeted();
    talk.exports[0].bytes *= 2;
    talk.hear(&option(7, &named("first", &[])));
    assert_eq!(talk.opened.unwrap().bytes, 2 * EXPORT_BYTES);
}

#[test]
fn an_unknown_export_is_refused_and_by_the_oldest_way_hung_up_upon() {
    let mut talk = greeted();
    for number in [6, 7] {
        assert_eq!(kinds(&mut talk, number, &named("third", &[])), [UNKNOWN]);
    }
    assert_eq!(kinds(&mut talk, 9, &queries("third", &[])), [INVALID]);
    assert_eq!(kinds(&mut talk, 8, &[]), [ACK]);
    assert_eq!(kinds(&mut talk, 9, &queries("third", &[])), [UNKNOWN]);
    assert_eq!(talk.ask(&option(1, b"third")), b"");
    assert_eq!(talk.closed, Some(Closed::Violation(Violation::UnknownExport)));
    assert!(talk.opened.is_none());
}

#[test]
fn the_list_names_every_export_with_its_description() {
    let mut talk = greeted();
    let told = answers(&talk.ask(&option(3, &[])));
    let data: Vec<_> = told
        .iter()
        .map(|answer| (answer.kind, answer.data.as_slice()))
        .collect();
    assert_eq!(
        data,
        [
            (2, &b"\0\0\0\x05first"[..]),
            (2, b"\0\0\0\x06secondfor reading"),
            (ACK, b"")
        ]
    );
    assert_eq!(kinds(&mut talk, 3, b"?"), [INVALID]);
}

#[test]
fn an_abort_is_acknowledged_whatever_comes_with_it() {
    let mut talk = greeted();
    assert_eq!(kinds(&mut talk, 2, b"bye"), [ACK]);
    assert_eq!(talk.closed, Some(Closed::Aborted));
    assert_eq!(talk.ask(&option(3, &[])), b"", "nothing is heard after the end");
}

#[test]
fn tls_and_unknown_options_are_refused_and_the_next_is_understood() {
    let mut talk = greeted();
    assert_eq!(kinds(&mut talk, 5, &[]), [UNSUPPORTED]);
    assert_eq!(kinds(&mut talk, 5, b"x"), [INVALID]);
    for unknown in [0, 4, 11, 77, u32::MAX] {
        assert_eq!(kinds(&mut talk, unknown, b"some data"), [UNSUPPORTED]);
    }
    assert_eq!(kinds(&mut talk, 8, &[]), [ACK]);
}

#[test]
fn malformed_options_are_refused() {
    let mut talk = greeted();
    let mut longer = named("first", &[3]);
    longer.push(0);
    let mut shorter = named("first", &[3]);
    shorter.pop();
    let long_name = "n".repeat(4097);
    for data in [
        &[][..],
        &longer,
        &shorter,
        &[255, 255, 255, 255, 0, 0],
        &named(&long_name, &[]),
        b"\0\0\0\x02\xff\xfe\0\0",
    ] {
        assert_eq!(kinds(&mut talk, 7, data), [INVALID], "{data:?}");
    }
    assert_eq!(kinds(&mut talk, 8, b"x"), [INVALID]);
    assert_eq!(kinds(&mut talk, 8, &[]), [ACK]);
    let mut many = queries("first", &["base:allocation"]);
    many[9] = 1;
    for data in [&many[..], &queries("first", &["no namespace"]), b"\0\0\0\x01"] {
        assert_eq!(kinds(&mut talk, 10, data), [INVALID], "{data:?}");
    }
}

#[test]
fn an_option_that_is_too_long_passes_unseen_and_is_refused() {
    let mut talk = greeted();
    let long = vec![7; OPTION_BYTES_MAX as usize + 1];
    assert_eq!(kinds(&mut talk, 7, &long), [TOO_BIG]);
    assert!(talk.server.held.capacity() < 100);
    assert_eq!(kinds(&mut talk, 7, &long[1..]), [INVALID]);
    assert_eq!(kinds(&mut talk, 7, &named("first", &[])), [3, 3, ACK]);
}

#[test]
fn metadata_contexts_are_listed_and_chosen_after_structured_replies() {
    let mut talk = greeted();
    assert_eq!(
        kinds(&mut talk, 10, &queries("first", &["base:allocation"])),
        [INVALID]
    );
    assert_eq!(kinds(&mut talk, 8, &[]), [ACK]);
    for (number, asked, context) in [
        (9, &[][..], true),
        (9, &["base:"], true),
        (9, &["x-other:", "base:allocation"], true),
        (9, &["x-other:thing", "base:other"], false),
        (10, &[], false),
        (10, &["base:"], false),
        (10, &["base:allocation", "qemu:dirty-bitmap:x"], true),
    ] {
        let told = answers(&talk.ask(&option(number, &queries("first", asked))));
        let last = told.last().unwrap();
        assert_eq!((last.kind, last.data.len()), (ACK, 0));
        let id = if number == 9 { 0 } else { 1 };
        let named = [&[0, 0, 0, id][..], b"base:allocation"].concat();
        let contexts: Vec<_> = told[..told.len() - 1].iter().map(|a| (a.kind, &a.data)).collect();
        assert_eq!(
            contexts,
            if context { vec![(4, &named)] } else { vec![] },
            "{asked:?}"
        );
    }
}

#[test]
fn flags_and_magic_numbers_that_are_none_end_the_session() {
    for flags in [4, 0x8000_0003, u32::MAX] {
        let mut talk = Talk::new();
        assert_eq!(talk.ask(&u32::to_be_bytes(flags)), b"");
        assert_eq!(
            talk.closed,
            Some(Closed::Violation(Violation::ClientFlags(flags)))
        );
    }
    let mut talk = greeted();
    talk.hear(b"IHAVEOPTIHAVEOPT");
    assert_eq!(
        talk.closed, None,
        "a magic, an option of an unlikely number and length"
    );
    let mut talk = greeted();
    talk.hear(b"IHAVENOT\0\0\0\x03\0\0\0\0");
    assert!(matches!(
        talk.closed,
        Some(Closed::Violation(Violation::OptionMagic(_)))
    ));
}

#[test]
fn a_client_of_the_old_newstyle_can_only_open_an_export() {
    let mut talk = Talk::new();
    assert_eq!(talk.ask(&[vec![0; 4], option(3, &[])].concat()), b"");
    assert_eq!(talk.closed, Some(Closed::Violation(Violation::NotFixed(3))));
}
