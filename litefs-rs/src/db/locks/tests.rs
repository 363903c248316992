use proptest::prelude::*;

use super::*;

fn request(owner: u64, lock: LockByte, mode: impl Into<Option<Mode>>) -> Request {
    Request {
        owner: Owner(owner),
        file: lock.file(),
        range: lock.offset()..lock.offset() + 1,
        mode: mode.into(),
    }
}

#[test]
fn a_writer_waits_for_readers_and_keeps_new_ones_out() {
    let mut locks = Locks::default();
    let mut ask = |owner, lock, mode: Option<Mode>| locks.request(&request(owner, lock, mode)).is_ok();
    let (shared, exclusive) = (Some(Mode::Shared), Some(Mode::Exclusive));
    assert!(ask(1, LockByte::Shared, shared) && ask(2, LockByte::Shared, shared));
    assert!(ask(1, LockByte::Reserved, exclusive));
    assert!(!ask(2, LockByte::Reserved, exclusive), "one prepares at a time");
    assert!(ask(1, LockByte::Pending, exclusive));
    assert!(!ask(3, LockByte::Pending, shared), "nobody new");
    assert!(!ask(1, LockByte::Shared, exclusive), "a reader is there");
    assert!(ask(2, LockByte::Shared, None));
    assert!(ask(1, LockByte::Shared, exclusive));
    assert!(!ask(2, LockByte::Shared, shared));
    assert!(ask(1, LockByte::Shared, shared), "back to reading");
    assert!(ask(2, LockByte::Shared, shared));
}

#[test]
fn a_range_is_granted_as_a_whole_or_not_at_all() {
    let mut locks = Locks::default();
    locks
        .request(&request(1, LockByte::WalRead3, Mode::Shared))
        .unwrap();
    let all_readers = Request {
        range: 123..128,
        ..request(2, LockByte::WalRead0, Mode::Exclusive)
    };
    let expected = Conflict {
        lock: LockByte::WalRead3,
        mode: Mode::Shared,
    };
    assert_eq!(locks.request(&all_readers), Err(expected));
    assert_eq!(
        locks.state(LockByte::WalRead0),
        None,
        "nothing is left of the attempt"
    );
    locks.request(&Request::close(Owner(1), FileKind::Shm)).unwrap();
    locks.request(&all_readers).unwrap();
    assert_eq!(locks.state(LockByte::WalRead4), Some(Mode::Exclusive));
}

#[test]
fn a_checkpoint_waits_for_another_s_transaction_but_not_for_its_own() {
    let mut locks = Locks::default();
    locks
        .request(&request(1, LockByte::WalWrite, Mode::Exclusive))
        .unwrap();
    let conflict = locks.request(&request(2, LockByte::WalCheckpoint, Mode::Exclusive));
    assert_eq!(conflict.unwrap_err().lock, LockByte::WalWrite);
    locks
        .request(&request(2, LockByte::WalCheckpoint, Mode::Shared))
        .unwrap();
    locks.request(&request(2, LockByte::WalCheckpoint, None)).unwrap();
    locks
        .request(&request(1, LockByte::WalCheckpoint, Mode::Exclusive))
        .unwrap();
}

#[test]
fn only_what_was_held_alone_is_given_up_by_unlocking_sharing_or_closing() {
    let mut locks = Locks::default();
    locks
        .request(&request(1, LockByte::Shared, Mode::Exclusive))
        .unwrap();
    locks
        .request(&request(1, LockByte::WalWrite, Mode::Exclusive))
        .unwrap();
    locks
        .request(&request(1, LockByte::WalRead1, Mode::Shared))
        .unwrap();
    let given_up = |request: &Request| locks.given_up(request);
    assert_eq!(
        given_up(&request(1, LockByte::Shared, Mode::Shared)),
        [LockByte::Shared]
    );
    assert_eq!(given_up(&request(1, LockByte::Shared, Mode::Exclusive)), []);
    assert_eq!(
        given_up(&Request::close(Owner(1), FileKind::Shm)),
        [LockByte::WalWrite]
    );
    assert_eq!(given_up(&Request::close(Owner(2), FileKind::Shm)), []);
}

#[test]
fn nothing_is_kept_of_an_owner_who_holds_nothing() {
    let mut locks = Locks::default();
    for owner in 0..100 {
        locks
            .request(&request(owner, LockByte::Shared, Mode::Shared))
            .unwrap();
        locks
            .request(&request(owner, LockByte::WalOpen, Mode::Shared))
            .unwrap();
        locks
            .request(&Request::close(Owner(owner), FileKind::Database))
            .unwrap();
        locks
            .request(&Request::close(Owner(owner), FileKind::Shm))
            .unwrap();
    }
    assert!(locks.holders.is_empty());
}

fn any_request() -> impl Strategy<Value = Request> {
    let mode = prop_oneof![Just(None), Just(Some(Mode::Shared)), Just(Some(Mode::Exclusive))];
    (0_u64..4, any::<bool>(), 0_u64..12, 0_u64..12, mode).prop_map(|(owner, shm, from, len, mode)| Request {
        owner: Owner(owner),
        file: if shm { FileKind::Shm } else { FileKind::Database },
        range: match shm {
            true => 118 + from..118 + from + len,
            false => 0x3fff_fffe + from..0x3fff_fffe + from + len,
        },
        mode,
    })
}

proptest! {
    /// The rule of POSIX, byte by byte, and the gate.
    #[test]
    fn prop_a_request_is_granted_when_no_byte_of_it_is_held_against_it(
        requests in prop::collection::vec(any_request(), 1..60),
    ) {
        let mut locks = Locks::default();
        let mut model: BTreeMap<(LockByte, u64), Mode> = BTreeMap::new();
        for request in requests {
            let named = LockByte::ALL.into_iter().filter(|lock| {
                lock.file() == request.file && request.range.contains(&lock.offset())
            });
            let named: Vec<_> = named.collect();
            let against = |lock: LockByte| match request.mode {
                None => false,
                Some(wanted) => model.iter().any(|((held, owner), mode)| {
                    *owner != request.owner.0
                        && (*held == lock && (wanted == Mode::Exclusive || *mode == Mode::Exclusive)
                            || lock == LockByte::WalCheckpoint
                                && wanted == Mode::Exclusive
                                && *held == LockByte::WalWrite)
                }),
            };
            let granted = !named.iter().any(|lock| against(*lock));
            prop_assert_eq!(locks.conflict(&request).is_none(), granted);
            prop_assert_eq!(locks.request(&request).is_ok(), granted);
            if granted {
                for lock in named {
                    match request.mode {
                        Some(mode) => model.insert((lock, request.owner.0), mode),
                        None => model.remove(&(lock, request.owner.0)),
                    };
                }
            }
            for lock in LockByte::ALL {
                for owner in 0..4 {
                    prop_assert_eq!(locks.mode(lock, Owner(owner)), model.get(&(lock, owner)).copied());
                }
            }
        }
    }
}

#[test]
fn who_drains_a_log_lets_readers_leave_and_none_in_until_he_is_done() {
    let mut locks = Locks::default();
    let read = |owner, mode| Request {
        owner: Owner(owner),
        file: FileKind::Shm,
        range: 124..125,
        mode,
    };
    let ourselves = Owner(99);
    locks.request(&read(1, Some(Mode::Shared))).expect("free");
    locks.drain(ourselves);
    assert!(locks.request_whole(ourselves, true).is_err());
    assert!(locks.request(&read(2, Some(Mode::Shared))).is_err());
    // Who reads goes on as he likes.
    locks.request(&read(1, Some(Mode::Shared))).expect("his own");
    locks.request(&read(1, None)).expect("given up");
    assert!(locks.request(&read(1, Some(Mode::Shared))).is_err());
    locks.request_whole(ourselves, true).expect("nobody reads");
    locks.release_whole(ourselves);
    locks.request(&read(2, Some(Mode::Shared))).expect("free again");
}

#[test]
fn the_whole_database_is_had_when_nobody_reads_whoever_has_the_index_open() {
    let ourselves = Owner(99);
    let request = |owner, file, at, mode| Request {
        owner: Owner(owner),
        file,
        range: at..at + 1,
        mode: Some(mode),
    };
    let shared = LockByte::Shared.offset();
    let mut locks = Locks::default();
    // As a connection with a log has it while it does nothing.
    locks
        .request(&request(1, FileKind::Shm, 128, Mode::Shared))
        .expect("free");
    locks
        .request(&request(1, FileKind::Database, shared, Mode::Shared))
        .expect("free");
    locks
        .request_whole(ourselves, true)
        .expect("nobody reads the log");
    assert!(
        locks
            .request(&request(1, FileKind::Shm, 123, Mode::Shared))
            .is_err()
    );
    locks.release_whole(ourselves);
    locks
        .request_whole(ourselves, false)
        .expect("he is no reader of the database file");
    locks.release_whole(ourselves);
    locks
        .request(&request(2, FileKind::Database, shared, Mode::Shared))
        .expect("free");
    assert!(
        locks.request_whole(ourselves, false).is_err(),
        "a reader without a log"
    );
    assert!(
        locks.request_whole(ourselves, true).is_ok(),
        "he only begins to open it"
    );
}
