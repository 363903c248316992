//! Arbitrary bytes, and real conversations with damage, in arbitrary pieces.

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::talk::{CLIENT_FLAGS, exports, named, open_with_everything, option, queries, request};
use crate::{Event, Export, OPTION_BYTES_MAX, PAYLOAD_BYTES_MAX, Request, Server, Span};

/// How many inputs a run tries; the variable asks for more.
const INPUTS: u64 = 100_000;
const VARIABLE: &str = "NBD_FUZZ_INPUTS";

#[test]
fn no_bytes_in_no_pieces_make_a_server_panic_hold_more_than_an_option_or_go_round() {
    let inputs = std::env::var(VARIABLE).map_or(INPUTS, |count| count.parse().unwrap());
    let exports = exports();
    let mut opened = 0;
    for seed in 0..inputs {
        let tried = std::panic::catch_unwind(|| try_one(seed, &exports));
        opened += u64::from(tried.unwrap_or_else(|_| panic!("input of seed {seed}")));
    }
    assert!(opened > inputs / 10, "most of what is tried comes far: {opened}");
}

/// Talks nonsense; returns whether an export was opened nevertheless.
fn try_one(seed: u64, exports: &[Export]) -> bool {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let bytes = if rng.random_ratio(1, 8) {
        noise(&mut rng)
    } else {
        damaged(&mut rng)
    };
    let mut server = Server::new();
    let mut rest = &bytes[..];
    let mut opened = None;
    // Each byte brings at most one thing to tell, and the ends bring two more.
    let mut patience = bytes.len() + 2;
    while !rest.is_empty() {
        let most = if rng.random_ratio(1, 4) { 3 } else { 300 };
        let (mut piece, after) = rest.split_at(rng.random_range(1..=most).min(rest.len()));
        rest = after;
        while let Some(event) = server.receive(exports, &mut piece) {
            patience -= 1;
            match event {
                Event::Send(reply) => assert!(!reply.is_empty() && reply.len() < 1000),
                Event::Opened(export) => opened = Some(export),
                Event::Closed(_) => {}
                Event::Request(request) => {
                    check(&request, opened.as_ref().unwrap());
                    assert!(server.payload() <= PAYLOAD_BYTES_MAX);
                    if server.payload() > 0 && rng.random_ratio(1, 10) {
                        server.skip_payload();
                    }
                }
            }
            take_payload(&mut server, &mut piece);
        }
        take_payload(&mut server, &mut piece);
        assert!(server.held.capacity() <= 2 * OPTION_BYTES_MAX as usize);
        assert!(piece.is_empty() || patience > 0, "everything is taken in the end");
        if !piece.is_empty() {
            // What follows a payload in one piece.
            rest = &bytes[bytes.len() - rest.len() - piece.len()..];
        }
    }
    opened.is_some()
}

fn take_payload(server: &mut Server, piece: &mut &[u8]) {
    let count = piece.len().min(server.payload() as usize);
    *piece = &piece[count..];
    server.payload_taken(u32::try_from(count).unwrap());
}

/// A request that is passed on is one that can be carried out.
fn check(request: &Request, export: &Export) {
    let within = |span: &Span| {
        assert!(span.bytes > 0 && span.offset + u64::from(span.bytes) <= export.bytes);
    };
    match request {
        Request::Read(read) => {
            within(&read.span());
            assert!(read.span().bytes <= PAYLOAD_BYTES_MAX);
        }
        Request::Write { span, .. } | Request::Zero { span, .. } | Request::Trim { span, .. } => {
            within(span);
            assert!(!export.read_only);
        }
        Request::Cache { span, .. } => within(span),
        Request::Status(status) => within(&status.span()),
        Request::Flush(_) => {}
    }
}

fn noise(rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..200)];
    rng.fill_bytes(&mut bytes);
    if rng.random() {
        bytes
    } else {
        [CLIENT_FLAGS.to_vec(), bytes].concat()
    }
}

/// A conversation as a client may lead it, and up to four mistakes in it.
fn damaged(rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = if rng.random() {
        open_with_everything()
    } else {
        haggle(rng)
    };
    for _ in 0..rng.random_range(0..8) {
        bytes.extend(any_request(rng));
    }
    for _ in 0..rng.random_range(0..5) {
        damage(rng, &mut bytes);
    }
    bytes
}

fn haggle(rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, rng.random_range(0..5)];
    for _ in 0..rng.random_range(0..5) {
        bytes.extend(match rng.random_range(0..5) {
            0 => option(rng.random_range(2..6), &[]),
            1 => option(8, &[]),
            2 => option(
                rng.random_range(9..11),
                &queries("first", &["base:allocation", "x-a:b"]),
            ),
            3 => option(6, &named("second", &[0, 1, 2, 3])),
            _ => option(rng.random(), &vec![0; rng.random_range(0..30)]),
        });
    }
    let name = ["", "first", "second"][rng.random_range(0..3)];
    bytes.extend(if rng.random() {
        option(7, &named(name, &[]))
    } else {
        option(1, name.as_bytes())
    });
    bytes
}

fn any_request(rng: &mut impl Rng) -> Vec<u8> {
    let flags = if rng.random_ratio(1, 4) {
        rng.random()
    } else {
        rng.random_range(0..2)
    };
    let command = rng.random_range(0..9);
    let offset = if rng.random_ratio(1, 8) {
        rng.random()
    } else {
        rng.random_range(0..65536)
    };
    let bytes = rng.random_range(0..200);
    let mut request = request(flags, command, rng.random(), offset, bytes);
    if command == 1 {
        request.resize(28 + bytes as usize, rng.random());
    }
    request
}

fn damage(rng: &mut impl Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let end = rng.random_range(at..=bytes.len().min(at + 40));
    match rng.random_range(0..6) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => bytes.truncate(at),
        _ => bytes[at..end].fill(rng.random()),
    }
}
