use proptest::prelude::*;

use super::super::message::Exec;
use super::*;

const OUT: fn(u32) -> StreamId = |call| StreamId::new(call, Channel::Stdout);

/// Moves everything that `from` has to send to `to`, `step` bytes at a time.
fn carry(from: &mut Session, to: &mut Session, step: usize) -> Vec<Incoming> {
    let mut got = Vec::new();
    while !from.outgoing().is_empty() {
        let count = from.outgoing().len().min(step);
        to.receive(&from.outgoing()[..count]);
        from.sent(count);
        got.extend(drain(to));
    }
    got
}

fn drain(session: &mut Session) -> Vec<Incoming> {
    std::iter::from_fn(|| session.next().unwrap()).collect()
}

fn greet(host: &mut Session, guest: &mut Session, id: &str) {
    host.open(id, 0);
    let got = carry(host, guest, 7);
    let [Incoming::HostHello(hello)] = &got[..] else {
        panic!("{got:?}")
    };
    assert!(guest.accept(hello, "boot", Phase::Waiting));
    let got = carry(guest, host, 7);
    assert!(
        matches!(&got[..], [Incoming::Hello(hello)] if hello.session_id == id),
        "{got:?}"
    );
}

fn pair() -> (Session, Session) {
    let (mut host, mut guest) = (Session::host(), Session::guest());
    greet(&mut host, &mut guest, "one");
    (host, guest)
}

fn exec() -> Request {
    Request::Exec(Exec {
        command: vec!["cat".to_owned()],
        stdin: true,
        ..Exec::default()
    })
}

#[test]
fn a_request_of_many_frames_arrives_whole() {
    let (mut host, mut guest) = pair();
    let command = vec!["x".repeat(PAYLOAD_BYTES_MAX * 3 + 17)];
    let request = Request::Exec(Exec {
        command,
        ..Exec::default()
    });
    let call = host.request(&request).unwrap();
    assert_eq!(
        carry(&mut host, &mut guest, 5000),
        [Incoming::Request { call, request }]
    );
    assert_eq!(guest.parts_bytes, 0);
}

#[test]
fn a_request_beyond_the_limit_is_not_sent() {
    let (mut host, _) = pair();
    let command = vec!["x".repeat(MESSAGE_BYTES_MAX)];
    let request = Request::Exec(Exec {
        command,
        ..Exec::default()
    });
    assert!(matches!(host.request(&request), Err(SessionError::TooLong)));
    assert!(host.outgoing().is_empty() && host.is_open());
}

#[test]
fn parts_without_end_break_the_session_at_the_limit() {
    let (mut host, mut guest) = pair();
    for _ in 0..MESSAGE_BYTES_MAX / PAYLOAD_BYTES_MAX + 1 {
        encode(
            FrameKind::Part,
            StreamId::new(1, Channel::Control),
            &[b' '; PAYLOAD_BYTES_MAX],
            &mut host.outgoing,
        );
    }
    guest.receive(host.outgoing());
    assert!(matches!(guest.next(), Err(SessionError::TooLong)));
    assert!(!guest.is_open());
}

#[test]
fn output_waits_for_credit_and_goes_on_when_it_comes() {
    let (mut host, mut guest) = pair();
    let call = host.request(&exec()).unwrap();
    carry(&mut host, &mut guest, usize::MAX);
    guest.open_sending(OUT(call));
    let bytes = vec![b'o'; super::super::flow::WINDOW_BYTES as usize + 1];
    assert_eq!(guest.send(OUT(call), &bytes), bytes.len() - 1);
    let got = carry(&mut guest, &mut host, usize::MAX);
    let total: usize = got
        .iter()
        .map(|item| {
            if let Incoming::Data { bytes, .. } = item {
                bytes.len()
            } else {
                0
            }
        })
        .sum();
    assert_eq!(total, bytes.len() - 1);
    host.consumed(OUT(call), total);
    assert_eq!(
        carry(&mut host, &mut guest, usize::MAX),
        [Incoming::Writable(OUT(call))]
    );
    assert_eq!(guest.send(OUT(call), &bytes[total..]), 1);
}

#[test]
fn a_peer_that_ignores_credit_loses_the_session() {
    let (mut host, mut guest) = pair();
    let call = host.request(&exec()).unwrap();
    let bytes = vec![b'o'; super::super::flow::WINDOW_BYTES as usize + 1];
    guest.outgoing.clear();
    encode_data(OUT(call), &bytes, &mut guest.outgoing);
    host.receive(guest.outgoing());
    let error = std::iter::from_fn(|| host.next().transpose()).find_map(Result::err);
    assert!(matches!(
        error,
        Some(SessionError::Flow {
            source: FlowError::Overrun { .. },
            ..
        })
    ));
}

#[test]
fn a_new_session_voids_what_the_old_one_had_under_way() {
    let (mut host, mut guest) = pair();
    let call = host.request(&exec()).unwrap();
    carry(&mut host, &mut guest, usize::MAX);
    guest.open_sending(OUT(call));
    guest.send(OUT(call), &[b'o'; 50_000]);
    // Half of it is on the way when the host comes back.
    let half = guest.outgoing()[..25_000].to_vec();
    guest.sent(25_000);
    host.open("two", 0);
    host.receive(&half);
    assert_eq!(drain(&mut host), []);
    let got = carry(&mut host, &mut guest, 11);
    let [Incoming::HostHello(hello)] = &got[..] else {
        panic!("{got:?}")
    };
    assert!(
        guest.outgoing().is_empty(),
        "the rest of the old session is not sent"
    );
    assert!(guest.accept(hello, "boot", Phase::Running));
    assert_eq!(guest.send(OUT(call), b"late"), 0);
    let got = carry(&mut guest, &mut host, 13);
    assert!(
        matches!(&got[..], [Incoming::Hello(hello)] if hello.phase == Phase::Running),
        "{got:?}"
    );
}

#[test]
fn an_answer_to_an_earlier_hello_is_passed_over() {
    let (mut host, mut guest) = (Session::host(), Session::guest());
    let mut answers = Vec::new();
    for id in ["one", "two"] {
        host.open(id, 0);
        let got = carry(&mut host, &mut guest, usize::MAX);
        let [Incoming::HostHello(hello)] = &got[..] else {
            panic!("{got:?}")
        };
        guest.accept(hello, "boot", Phase::Waiting);
        answers.extend_from_slice(guest.outgoing());
        guest.sent(guest.outgoing().len());
    }
    host.receive(&answers);
    let got = drain(&mut host);
    assert!(
        matches!(&got[..], [Incoming::Hello(hello)] if hello.session_id == "two"),
        "{got:?}"
    );
    assert!(host.is_open());
}

#[test]
fn versions_that_do_not_meet_are_refused_on_both_sides() {
    assert_eq!(negotiate((1, 3), (2, 9)), Some(3));
    assert_eq!(negotiate((1, 3), (3, 3)), Some(3));
    assert_eq!(negotiate((1, 3), (4, 9)), None);
    let (mut host, mut guest) = (Session::host(), Session::guest());
    host.open("one", 0);
    let got = carry(&mut host, &mut guest, usize::MAX);
    let [Incoming::HostHello(hello)] = &got[..] else {
        panic!("{got:?}")
    };
    let newer = HostHello {
        version_min: VERSION_MAX + 1,
        version_max: VERSION_MAX + 1,
        ..hello.clone()
    };
    assert!(!guest.accept(&newer, "boot", Phase::Waiting));
    host.receive(guest.outgoing());
    assert!(matches!(
        host.next(),
        Err(SessionError::Version {
            guest_max: VERSION_MAX,
            ..
        })
    ));
}

#[test]
fn a_dying_guest_is_heard_in_the_middle_of_a_frame() {
    let (mut host, mut guest) = pair();
    guest.reply(1, &Reply::Done);
    let cut = guest.outgoing().len() - 3;
    host.receive(&guest.outgoing()[..cut]);
    host.receive(&panic_report("assertion at main.rs:1"));
    assert_eq!(
        drain(&mut host),
        [Incoming::Panic("assertion at main.rs:1".to_owned())]
    );
    assert!(!host.is_open());
}

#[test]
fn frames_of_the_wrong_side_break_the_session() {
    let (mut host, mut guest) = pair();
    host.request(&Request::Usage).unwrap();
    let request = host.outgoing().to_vec();
    host.receive(&request);
    assert!(matches!(
        host.next(),
        Err(SessionError::OutOfPlace {
            kind: FrameKind::Request
        })
    ));
    guest.event(1, &Event::Started { pid: 4 });
    let event = guest.outgoing().to_vec();
    guest.receive(&event);
    assert!(matches!(
        guest.next(),
        Err(SessionError::OutOfPlace {
            kind: FrameKind::Event
        })
    ));
}

#[test]
fn data_of_a_forgotten_call_is_dropped() {
    let (mut host, mut guest) = pair();
    let call = host.request(&exec()).unwrap();
    carry(&mut host, &mut guest, usize::MAX);
    guest.open_sending(OUT(call));
    guest.send(OUT(call), b"late");
    host.cancel(call);
    assert_eq!(carry(&mut guest, &mut host, usize::MAX), []);
    assert_eq!(carry(&mut host, &mut guest, usize::MAX), [Incoming::Cancel(call)]);
}

proptest! {
    #[test]
    fn prop_hostile_frames_never_panic_either_side(frames in prop::collection::vec((0u8..14, 0u32..40, prop::collection::vec(any::<u8>(), 0..40)), 0..60)) {
        let (mut host, mut guest) = pair();
        host.request(&exec()).unwrap();
        for (kind, stream, payload) in frames {
            let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
            bytes.push(kind);
            bytes.extend_from_slice(&stream.to_le_bytes());
            bytes.extend_from_slice(&payload);
            for session in [&mut host, &mut guest] {
                session.receive(&bytes);
                while let Ok(Some(incoming)) = session.next() {
                    if let Incoming::HostHello(hello) = incoming {
                        session.accept(&hello, "boot", Phase::Running);
                    }
                }
            }
        }
        for session in [&mut host, &mut guest] {
            // What ends as a sync begins is only judged when more comes.
            session.receive(&[0; 16]);
            while !matches!(session.next(), Ok(None)) {}
        }
        host.sent(host.outgoing().len());
        greet(&mut host, &mut guest, "after");
    }
}
