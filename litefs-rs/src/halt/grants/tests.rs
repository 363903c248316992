use std::time::{Duration, Instant};

use lease::Epoch;
use ltx::{Checksum, Flags, Header, NodeId, PageSize, Pos, Txid};
use tokio::time::Instant as Clock;

use super::{Asked, Bringer, Grant, Grants, TxRefused};

const LASTS: Duration = Duration::from_secs(30);

fn header(min: u64, max: u64) -> Header {
    Header {
        flags: Flags::NONE,
        page_size: PageSize::MIN,
        commit_pages: 1,
        min_txid: Txid::new(min),
        max_txid: Txid::new(max),
        timestamp_ms: 1,
        pre_apply: Checksum::EMPTY_DATABASE,
        wal: None,
        node: NodeId::new(7),
    }
}

fn start() -> Instant {
    Clock::now().into_std()
}

fn granted(now: Instant) -> Grants {
    let mut grants = Grants::default();
    assert_eq!(grants.ask(now, 77), Asked::Free);
    grants.grant(Grant {
        id: 77,
        peer: Some(NodeId::new(7)),
        epoch: Epoch(3),
        pos: Pos::ZERO,
        until: now + LASTS,
    });
    grants
}

fn bringer(header: &Header) -> Bringer<'_> {
    Bringer {
        id: Some(77),
        peer: Some(NodeId::new(7)),
        epoch: Some(Epoch(3)),
        header,
    }
}

#[test]
fn only_who_holds_the_lock_brings_transactions_one_by_one_and_under_the_epoch_of_the_grant() {
    let now = start();
    let (grants, one) = (granted(now), header(2, 2));
    assert_eq!(grants.check(now, bringer(&one)), Ok(Epoch(3)));
    let refused = |change: &dyn Fn(&mut Bringer<'_>)| {
        let mut bringer = bringer(&one);
        change(&mut bringer);
        grants.check(now, bringer)
    };
    assert_eq!(refused(&|other| other.id = Some(78)), Err(TxRefused::NotHeld));
    assert_eq!(refused(&|other| other.id = None), Err(TxRefused::NotHeld));
    assert_eq!(
        refused(&|other| other.peer = Some(NodeId::new(8))),
        Err(TxRefused::NotHeld)
    );
    assert_eq!(refused(&|other| other.peer = None), Err(TxRefused::NotHeld));
    assert_eq!(refused(&|other| other.epoch = None), Err(TxRefused::OtherEpoch));
    assert_eq!(
        refused(&|other| other.epoch = Some(Epoch(4))),
        Err(TxRefused::OtherEpoch)
    );
    let several = header(1, 2);
    assert!(matches!(
        grants.check(now, bringer(&several)),
        Err(TxRefused::Several { .. })
    ));
    assert_eq!(
        Grants::default().check(now, bringer(&one)),
        Err(TxRefused::NotHeld)
    );
}

#[test]
fn a_lock_ends_at_its_time_for_who_has_it_and_is_another_s_only_when_he_was_parted_from_it() {
    let now = start();
    let (mut grants, one) = (granted(now), header(2, 2));
    let (before, after) = (now + LASTS - Duration::from_nanos(1), now + LASTS);
    assert!(grants.check(before, bringer(&one)).is_ok());
    assert_eq!(grants.check(after, bringer(&one)), Err(TxRefused::Expired));
    assert_eq!(grants.ask(after, 78), Asked::Busy);
    assert_eq!(
        grants.ask(after, 77),
        Asked::Busy,
        "it does not come to life again"
    );
    assert_eq!(grants.renew(after, 77, LASTS), None);
    assert!(!grants.expire(before, 77) && !grants.expire(after, 78));
    assert!(grants.expire(after, 77));
    assert_eq!(grants.ask(after, 78), Asked::Free);
}

#[test]
fn a_lock_is_renewed_for_who_has_it_and_asking_again_does_not() {
    let now = start();
    let mut grants = granted(now);
    let later = now + LASTS / 2;
    let until = |grant: Option<Grant>| grant.map(|grant| grant.until);
    assert!(matches!(grants.ask(later, 77), Asked::Has(grant) if grant.until == now + LASTS));
    assert_eq!(until(grants.renew(later, 77, LASTS)), Some(later + LASTS));
    assert_eq!(
        until(grants.renew(later, 77, Duration::ZERO)),
        Some(later + LASTS),
        "it never ends sooner"
    );
    assert_eq!(grants.until(77), Some(later + LASTS));
    assert_eq!(grants.renew(later, 78, LASTS), None);
    assert_eq!(Grants::default().renew(later, 77, LASTS), None);
}

#[test]
fn a_lock_is_given_back_by_its_number_and_ends_with_the_primary() {
    let now = start();
    let mut grants = granted(now);
    assert!(!grants.release(78) && !grants.is_free());
    assert!(grants.release(77) && grants.is_free());
    assert!(!grants.release(77));
    let mut grants = granted(now);
    assert_eq!(grants.end().map(|grant| grant.id), Some(77));
    assert_eq!(grants.check(now, bringer(&header(2, 2))), Err(TxRefused::NotHeld));
    assert_eq!(grants.end(), None);
}
