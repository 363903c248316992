use proptest::prelude::*;

use super::*;

fn read(offset: u64, bytes: u32) -> Op {
    Op::Read(Span { offset, bytes })
}

fn write(offset: u64, data: &[u8]) -> Op {
    Op::Write {
        offset,
        data: Bytes::copy_from_slice(data),
    }
}

fn zero(offset: u64, bytes: u64) -> Op {
    Op::Zero {
        offset,
        bytes,
        no_hole: false,
    }
}

fn queue(ops: &[Op]) -> Queue<usize> {
    let mut queue = Queue::new(100, 1 << 20);
    for (token, op) in ops.iter().enumerate() {
        queue.push(op.clone(), token);
    }
    queue
}

fn sent(queue: &mut Queue<usize>) -> Vec<u64> {
    std::iter::from_fn(|| queue.send().map(|(number, _, _)| number)).collect()
}

#[test]
fn what_touches_the_same_bytes_waits_for_the_older_and_nothing_else_does() {
    let ops = [
        write(0, &[1; 10]),
        read(5, 10),
        read(10, 10),
        write(12, &[1; 4]),
        read(14, 1),
        Op::Flush,
        zero(100, 10),
    ];
    let mut queue = queue(&ops);
    assert_eq!(sent(&mut queue), [0, 2, 5, 6]);
    assert_eq!(queue.answered(2, Ok(())), Answered::Ended(2, Ok(())));
    assert_eq!(
        sent(&mut queue),
        [] as [u64; 0],
        "the read at 5 is about bytes of the write at 12"
    );
    assert_eq!(
        queue.answered(0, Err(Errno::Io)),
        Answered::Ended(0, Err(Errno::Io))
    );
    assert_eq!(sent(&mut queue), [1]);
    assert_eq!(queue.answered(1, Ok(())), Answered::Ended(1, Ok(())));
    assert_eq!(sent(&mut queue), [3]);
}

#[test]
fn after_a_loss_what_was_not_answered_is_sent_again_in_order() {
    let mut queue = queue(&[write(0, &[1]), write(1, &[2]), Op::Flush, read(9, 1)]);
    assert_eq!(sent(&mut queue), [0, 1, 2, 3]);
    assert_eq!(queue.answered(1, Ok(())), Answered::Ended(1, Ok(())));
    assert_eq!(
        (queue.under_way(), queue.take_back(), queue.under_way()),
        (3, 3, 0)
    );
    assert_eq!(
        queue.answered(0, Ok(())),
        Answered::Unknown,
        "nobody is asked any more"
    );
    assert_eq!(sent(&mut queue), [0, 2, 3]);
}

#[test]
fn a_server_that_is_about_to_end_leaves_the_request_to_the_next() {
    let mut queue = queue(&[write(0, &[1])]);
    assert_eq!(sent(&mut queue), [0]);
    assert_eq!(queue.answered(0, Err(Errno::Shutdown)), Answered::Stays);
    assert_eq!(queue.len(), 1);
    assert_eq!(sent(&mut queue), [0]);
}

#[test]
fn zeros_for_terabytes_are_asked_for_piece_by_piece() {
    let mut queue = queue(&[zero(512, (2 << 30) + 5)]);
    let mut asked = Vec::new();
    while let Some((number, Ask::Zero { span, .. }, _)) = queue.send() {
        asked.push((span.offset, span.bytes));
        let _ = queue.answered(number, Ok(()));
    }
    assert_eq!(
        asked,
        [(512, 1 << 30), (512 + (1 << 30), 1 << 30), (512 + (2 << 30), 5)]
    );
    assert_eq!(queue.len(), 0);
}

#[test]
fn a_queue_is_full_of_requests_or_of_bytes() {
    let mut queue = Queue::new(2, 100);
    queue.push(write(0, &[0; 99]), ());
    assert!(!queue.is_full());
    queue.push(Op::Flush, ());
    assert!(queue.is_full(), "two requests");
    let mut queue = Queue::new(9, 100);
    queue.push(write(0, &[0; 100]), ());
    assert!(queue.is_full(), "a hundred bytes");
    assert!(queue.send().is_some());
    assert_eq!(queue.answered(0, Ok(())), Answered::Ended((), Ok(())));
    assert!(!queue.is_full());
}

/// A server whose disk survives it: some of what was under way took effect when it died, in any order.
#[derive(Default)]
struct Server {
    disk: Vec<u8>,
}

impl Server {
    fn does(&mut self, ask: &Ask, payload: &[u8]) {
        let range = |span: &Span| {
            let begin = usize::try_from(span.offset).unwrap();
            begin..begin + span.bytes as usize
        };
        match ask {
            Ask::Write(span) => self.disk[range(span)].copy_from_slice(payload),
            Ask::Zero { span, .. } => self.disk[range(span)].fill(0),
            Ask::Read(_) | Ask::Flush => {}
        }
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let place = (0..30_u64, 1..10_usize);
    prop_oneof![
        4 => (place.clone(), 1..=255_u8).prop_map(|((offset, bytes), byte)| write(offset, &vec![byte; bytes])),
        2 => place.clone().prop_map(|(offset, bytes)| zero(offset, bytes as u64)),
        1 => place.prop_map(|(offset, bytes)| read(offset, u32::try_from(bytes).unwrap())),
        1 => Just(Op::Flush),
    ]
}

proptest! {
    /// However often servers die, whatever they did unseen: at the end the disk is as if all had been done once, in order,
    /// and reads have seen nothing but what stood before them in that order.
    #[test]
    fn prop_repeating_what_was_not_answered_changes_nothing(
        ops in prop::collection::vec(any_op(), 1..40),
        mut fate in prop::collection::vec((0..10_u8, any::<prop::sample::Index>()), 1..200),
    ) {
        let mut queue = queue(&ops);
        let mut server = Server { disk: vec![0; 64] };
        let mut under_way: Vec<(u64, Ask, Bytes)> = Vec::new();
        let mut read_back: Vec<Option<Vec<u8>>> = vec![None; ops.len()];
        while queue.len() > 0 {
            let (what, which) = fate.pop().unwrap_or((9, ops.len().into_index()));
            match what {
                // It dies, some of it done.
                0 => {
                    for (_, ask, payload) in under_way.drain(..).filter(|(number, _, _)| number % 2 == u64::from(what)) {
                        server.does(&ask, &payload);
                    }
                    queue.take_back();
                }
                // Something is done, and not answered.
                1 if !under_way.is_empty() => {
                    let (_, ask, payload) = which.get(&under_way);
                    server.does(ask, payload);
                }
                2..=5 => under_way.extend(queue.send()),
                _ if under_way.is_empty() => under_way.extend(queue.send()),
                _ => {
                    let index = which.index(under_way.len());
                    let (number, ask, payload) = under_way.swap_remove(index);
                    server.does(&ask, &payload);
                    let Answered::Ended(token, Ok(())) = queue.answered(number, Ok(())) else {
                        panic!("it was asked");
                    };
                    if let Ask::Read(span) = ask {
                        let begin = usize::try_from(span.offset).unwrap();
                        read_back[token] = Some(server.disk[begin..begin + span.bytes as usize].to_vec());
                    }
                }
            }
        }
        let mut model = Server { disk: vec![0; 64] };
        for (op, seen) in ops.iter().zip(read_back) {
            let (ask, payload) = op.ask();
            model.does(&ask, &payload);
            if let Op::Read(span) = op {
                let begin = usize::try_from(span.offset).unwrap();
                let here = model.disk[begin..begin + span.bytes as usize].to_vec();
                prop_assert_eq!(seen, Some(here));
            }
        }
        prop_assert_eq!(server.disk, model.disk);
    }
}

/// Some index, when the fates are used up.
trait IntoIndex {
    fn into_index(self) -> prop::sample::Index;
}

impl IntoIndex for usize {
    fn into_index(self) -> prop::sample::Index {
        use proptest::strategy::ValueTree as _;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        any::<prop::sample::Index>()
            .new_tree(&mut runner)
            .unwrap()
            .current()
    }
}
