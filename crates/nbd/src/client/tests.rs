use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Event, Export, Part, Piece, Request, Server};

const BYTES: u32 = 64 * 1024;
const INPUTS: u64 = 100_000;
const VARIABLE: &str = "NBD_FUZZ_INPUTS";

fn exports(minimum: u32) -> [Export; 1] {
    [Export {
        blocks: crate::BlockSizes::new(minimum, 4096).unwrap(),
        ..Export::new("disk", BYTES.into())
    }]
}

fn span(offset: u64, bytes: u32) -> Span {
    Span { offset, bytes }
}

/// Hands everything to a client and collects what it tells; data is put together with its place.
fn hear(client: &mut Client, mut input: &[u8]) -> Result<Vec<(Heard, Vec<u8>)>, ClientError> {
    let mut heard = Vec::new();
    loop {
        match client.receive(&mut input)? {
            Some(told) => heard.push((told, Vec::new())),
            None if client.payload() > 0 && !input.is_empty() => {
                let count = input.len().min(client.payload() as usize);
                client.payload_taken(u32::try_from(count).unwrap());
                heard.last_mut().unwrap().1.extend_from_slice(&input[..count]);
                input = &input[count..];
            }
            None => return Ok(heard),
        }
    }
}

/// Lets client and server agree; returns what opened, and the server.
fn open(client: &mut Client, exports: &[Export], greeting: &[u8]) -> (Heard, Server) {
    let mut server = Server::new();
    let mut to_client = greeting.to_vec();
    loop {
        let mut to_server = Vec::new();
        for (heard, _) in hear(client, &to_client).unwrap() {
            match heard {
                Heard::Send(bytes) => to_server.extend_from_slice(&bytes),
                opened => {
                    while server.receive(exports, &mut &[][..]).is_some() {}
                    return (opened, server);
                }
            }
        }
        to_client.clear();
        let mut input = &to_server[..];
        while let Some(event) = server.receive(exports, &mut input) {
            if let Event::Send(bytes) = event {
                to_client.extend_from_slice(&bytes);
            }
        }
        assert!(!to_client.is_empty(), "somebody says something");
    }
}

fn opened() -> Client {
    let mut client = Client::new("");
    let (_opened, _server) = open(&mut client, &exports(1), &Server::greeting());
    client
}

#[test]
fn an_export_is_opened_with_its_size_and_blocks() {
    let mut client = Client::new("disk");
    let (heard, server) = open(&mut client, &exports(512), &Server::greeting());
    let expected = Heard::Opened {
        bytes: BYTES.into(),
        read_only: false,
        minimum_block: 512,
    };
    assert_eq!(heard, expected);
    assert!(client.structured && server.wanted() == 28);
}

#[test]
fn what_is_no_server_and_what_is_not_served_is_told() {
    for greeting in [
        &b"NBDMAGICIHAVEOPT\0\0"[..],
        b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0",
    ] {
        assert_eq!(hear(&mut Client::new(""), greeting), Err(ClientError::Greeting));
    }
    let mut client = Client::new("other");
    hear(&mut client, &Server::greeting()).unwrap();
    let unsupported = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\x80\0\0\x01\0\0\0\x02no";
    let sent = hear(&mut client, unsupported).unwrap();
    assert!(
        matches!(sent[..], [(Heard::Send(_), _)]),
        "it goes on without structured replies"
    );
    let unknown = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\x80\0\0\x06\0\0\0\0";
    assert_eq!(hear(&mut client, unknown), Err(ClientError::Refused(0x8000_0006)));
}

#[test]
fn an_answer_to_another_option_and_an_opening_without_a_size_are_nonsense() {
    for nonsense in [
        &b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0"[..],
        b"\0\x03\xe8\x89\x04\x55\x65\xa8\0\0\0\x08\0\0\0\x01\0\0\0\0",
        b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\0\0\0\x01\0\x02\0\0",
    ] {
        let mut client = Client::new("");
        hear(&mut client, &Server::greeting()).unwrap();
        assert_eq!(hear(&mut client, nonsense), Err(ClientError::Negotiation));
    }
    let mut client = Client::new("");
    hear(&mut client, &Server::greeting()).unwrap();
    hear(
        &mut client,
        b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\0\0\0\x01\0\0\0\0",
    )
    .unwrap();
    let bare = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0";
    assert_eq!(hear(&mut client, bare), Err(ClientError::Negotiation));
}

/// A chunk of a reply.
fn chunk(flags: u16, kind: u16, cookie: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = CHUNK_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn data(offset: u64, bytes: usize) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &vec![1; bytes]].concat()
}

#[test]
fn replies_that_do_not_fit_what_was_asked_are_refused() {
    let hole = |offset: u64, bytes: u32| [&offset.to_be_bytes()[..], &bytes.to_be_bytes()].concat();
    let simple = [
        &SIMPLE_REPLY_MAGIC.to_be_bytes()[..],
        &[0; 4],
        &7u64.to_be_bytes(),
    ]
    .concat();
    let malformed = ClientError::Malformed(7);
    let coverage = ClientError::Coverage(7);
    for (reply, error) in [
        (b"what is this?".to_vec(), ClientError::ReplyMagic(0x7768_6174)),
        (simple, malformed),
        (chunk(1, 0, 8, &[]), ClientError::UnknownCookie(8)),
        (chunk(1, 0, 7, &[]), coverage),
        (chunk(0, 0, 7, &[]), malformed),
        (chunk(1, 0, 7, &[0]), malformed),
        (chunk(1, 1, 7, &data(100, 0)), malformed),
        (chunk(1, 1, 7, &data(99, 50)), coverage),
        (chunk(1, 1, 7, &data(150, 51)), coverage),
        (chunk(1, 1, 7, &data(100, 101)), malformed),
        (chunk(1, 1, 7, &data(u64::MAX, 50)), coverage),
        (chunk(1, 2, 7, &hole(100, 0)), coverage),
        (chunk(1, 2, 7, &hole(100, 99)), coverage),
        (chunk(1, 2, 7, &hole(101, u32::MAX)), coverage),
        (chunk(1, 3, 7, &[]), malformed),
        (chunk(1, 5, 7, &[0; 12]), malformed),
        (chunk(1, 0x8001, 7, &[0; 6]), malformed),
        (chunk(1, 0x8001, 7, &[0, 0, 0, 5, 0, 1]), malformed),
        (chunk(1, 0x8002, 7, &[0, 0, 0, 5, 0, 0]), malformed),
        (
            [chunk(0, 1, 7, &data(100, 60)), chunk(0, 2, 7, &hole(159, 2))].concat(),
            coverage,
        ),
        (
            [chunk(0, 1, 7, &data(150, 10)), chunk(0, 1, 7, &data(140, 11))].concat(),
            coverage,
        ),
    ] {
        let mut client = opened();
        let _ = client.ask(7, Ask::Read(span(100, 100)));
        assert_eq!(hear(&mut client, &reply), Err(error), "{reply:?}");
        assert_eq!(
            hear(&mut client, b"more"),
            Ok(vec![]),
            "nothing is heard after it"
        );
    }
}

#[test]
fn errors_of_all_kinds_end_a_request_and_unknown_ones_count_as_invalid() {
    let message = |code: u32, rest: &[u8]| [&code.to_be_bytes()[..], rest].concat();
    for (reply, errno) in [
        (chunk(1, 0x8001, 7, &message(5, b"\0\x02no")), Errno::Io),
        (chunk(1, 0x8002, 7, &message(28, &[0; 10])), Errno::NoSpc),
        (
            chunk(1, 0x8099, 7, &message(108, b"\0\0and more")),
            Errno::Shutdown,
        ),
        (chunk(1, 0x8001, 7, &message(4242, b"\0\0")), Errno::Inval),
        (
            [
                chunk(0, 1, 7, &data(100, 1)),
                chunk(0, 0x8002, 7, &message(5, &[0; 10])),
                chunk(1, 0x8002, 7, &message(1, &[0; 10])),
            ]
            .concat(),
            Errno::Io,
        ),
    ] {
        let mut client = opened();
        let _ = client.ask(7, Ask::Read(span(100, 100)));
        let heard = hear(&mut client, &reply).unwrap();
        let expected = Heard::Answered {
            cookie: 7,
            result: Err(errno),
        };
        assert_eq!(heard.last().unwrap().0, expected);
    }
}

/// Answers a request from memory, which reads show as zeros and data, page by page.
fn serve(request: Request, payload: &[u8], image: &mut [u8]) -> Vec<u8> {
    let range = |span: Span| {
        let begin = usize::try_from(span.offset).unwrap();
        begin..begin + span.bytes as usize
    };
    let ticket = match request {
        Request::Read(read) => {
            let data = image[range(read.span())].to_vec();
            let parts: Vec<Part> = data
                .chunks(1000)
                .map(|part| {
                    (
                        part.iter().all(|byte| *byte == 0),
                        u32::try_from(part.len()).unwrap(),
                    )
                })
                .map(|(zeros, bytes)| {
                    if zeros {
                        Part::Zeros(bytes)
                    } else {
                        Part::Data(bytes)
                    }
                })
                .collect();
            let mut pieces = Vec::new();
            read.parts(&parts, &mut pieces);
            let mut reply = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Head(head) => reply.extend_from_slice(&head),
                    Piece::Data { at, bytes } => reply.extend(&data[at as usize..][..bytes as usize]),
                    Piece::Zeros(bytes) => reply.resize(reply.len() + bytes as usize, 0),
                }
            }
            return reply;
        }
        Request::Write { span, ticket, .. } => {
            image[range(span)].copy_from_slice(payload);
            ticket
        }
        Request::Zero { span, ticket, .. } => {
            image[range(span)].fill(0);
            ticket
        }
        Request::Flush(ticket) => ticket,
        other => panic!("{other:?} is not asked for"),
    };
    ticket.done().to_vec()
}

fn any_ask() -> impl Strategy<Value = (Ask, u8)> {
    let place = (0..u64::from(BYTES), 1..5000_u32)
        .prop_map(|(offset, bytes)| span(offset, bytes.min(BYTES - u32::try_from(offset).unwrap())));
    let ask = prop_oneof![
        3 => place.clone().prop_map(Ask::Read),
        3 => place.clone().prop_map(Ask::Write),
        1 => (place, any::<bool>()).prop_map(|(span, no_hole)| Ask::Zero { span, no_hole }),
        1 => Just(Ask::Flush),
    ];
    (ask, any::<u8>())
}

proptest! {
    /// Both sides of this crate understand each other, in whatever pieces the answers arrive.
    #[test]
    fn prop_a_client_reads_from_a_server_what_it_wrote(
        asks in prop::collection::vec(any_ask(), 1..30),
        cuts in prop::collection::vec(1..2000_usize, 1..20),
    ) {
        let mut client = Client::new("disk");
        let (_, mut server) = open(&mut client, &exports(1), &Server::greeting());
        let mut image = vec![0; BYTES as usize];
        let mut expected = Vec::new();
        let mut replies = Vec::new();
        for (cookie, (ask, byte)) in (0..).zip(&asks) {
            let head = client.ask(cookie, *ask);
            let Some(Event::Request(request)) = server.receive(&[], &mut &head[..]) else {
                panic!("a request");
            };
            let payload = vec![*byte; server.payload() as usize];
            server.payload_taken(server.payload());
            replies.extend(serve(request, &payload, &mut image));
            expected.push(match ask {
                Ask::Read(span) => {
                    let begin = usize::try_from(span.offset).unwrap();
                    image[begin..begin + span.bytes as usize].to_vec()
                }
                _ => Vec::new(),
            });
        }
        let mut got: Vec<Vec<u8>> = expected.iter().map(|bytes| vec![0xee; bytes.len()]).collect();
        let mut answered = 0;
        let mut into = None;
        let mut rest = &replies[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut piece, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            loop {
                match client.receive(&mut piece).unwrap() {
                    Some(Heard::Data { cookie, at, .. }) => into = Some((cookie, at as usize)),
                    Some(Heard::Zeros { cookie, at, bytes }) => {
                        got[usize::try_from(cookie).unwrap()][at as usize..][..bytes as usize].fill(0);
                    }
                    Some(Heard::Answered { result, .. }) => {
                        prop_assert_eq!(result, Ok(()));
                        answered += 1;
                    }
                    Some(other) => panic!("{other:?}"),
                    None if client.payload() > 0 && !piece.is_empty() => {
                        let count = piece.len().min(client.payload() as usize);
                        let (cookie, at) = into.as_mut().unwrap();
                        got[usize::try_from(*cookie).unwrap()][*at..*at + count].copy_from_slice(&piece[..count]);
                        *at += count;
                        client.payload_taken(u32::try_from(count).unwrap());
                        piece = &piece[count..];
                    }
                    None => break,
                }
            }
        }
        prop_assert_eq!(answered, asks.len());
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn no_bytes_make_a_client_panic_hold_more_than_an_answer_or_believe_in_data_outside_of_a_read() {
    let inputs = std::env::var(VARIABLE).map_or(INPUTS, |count| count.parse().unwrap());
    for seed in 0..inputs {
        let tried = std::panic::catch_unwind(|| try_one(seed));
        assert!(tried.is_ok(), "input of seed {seed}");
    }
}

fn try_one(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let in_handshake = rng.random_ratio(1, 4);
    let mut client = if in_handshake {
        Client::new("disk")
    } else {
        opened()
    };
    let mut bytes = if in_handshake {
        Server::greeting().to_vec()
    } else {
        Vec::new()
    };
    for cookie in 0..8 {
        if !in_handshake {
            let read = cookie % 2 == 0;
            let place = span(cookie * 100, 100);
            let _ = client.ask(cookie, if read { Ask::Read(place) } else { Ask::Write(place) });
        }
        bytes.extend(any_reply(&mut rng, in_handshake));
    }
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..3) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at.max(1)),
            _ => drop(bytes.drain(at..bytes.len().min(at + 9))),
        }
        if bytes.is_empty() {
            return;
        }
    }
    // Of each byte that comes little is told.
    let mut patience = 4 * bytes.len() + 8;
    for mut piece in bytes.chunks(rng.random_range(1..100)) {
        loop {
            patience -= 1;
            assert!(patience > 0, "each byte brings few things to tell");
            match client.receive(&mut piece) {
                Err(_) => return,
                Ok(Some(Heard::Data { cookie, at, bytes } | Heard::Zeros { cookie, at, bytes })) => {
                    assert!(cookie % 2 == 0 && cookie < 8 && bytes > 0 && at + bytes <= 100);
                }
                Ok(Some(_)) => {}
                Ok(None) if client.payload() > 0 && !piece.is_empty() => {
                    let count = piece.len().min(client.payload() as usize);
                    client.payload_taken(u32::try_from(count).unwrap());
                    piece = &piece[count..];
                }
                Ok(None) => break,
            }
        }
        assert!(client.held.capacity() <= 2 * crate::OPTION_BYTES_MAX as usize);
    }
}

fn any_reply(rng: &mut ChaCha8Rng, in_handshake: bool) -> Vec<u8> {
    if in_handshake {
        let mut answer = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0".to_vec();
        answer.push(rng.random_range(7..9));
        answer.extend([0, 0, 0, rng.random_range(1..5), 0, 0, 0, 12]);
        answer.extend([0, 0].into_iter().chain((0..10).map(|_| rng.random())));
        return answer;
    }
    let cookie = rng.random_range(0..10);
    let offset = cookie * 100 + rng.random_range(0..110);
    let bytes = rng.random_range(0..110);
    let payload = match rng.random_range(0..5) {
        0 => data(offset, bytes),
        1 => [
            &offset.to_be_bytes()[..],
            &u32::try_from(bytes).unwrap().to_be_bytes(),
        ]
        .concat(),
        2 => vec![0, 0, 0, rng.random(), 0, 0],
        3 => Vec::new(),
        _ => {
            return [
                &SIMPLE_REPLY_MAGIC.to_be_bytes()[..],
                &[0; 4],
                &cookie.to_be_bytes(),
            ]
            .concat();
        }
    };
    let kind = [0, 1, 2, 5, 0x8001, 0x8002][rng.random_range(0..6)];
    chunk(rng.random_range(0..2), kind, cookie, &payload)
}
