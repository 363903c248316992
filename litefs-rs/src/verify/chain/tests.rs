use ltx::{Checksum, Flags, Header, NodeId, PageSize, Pos, Txid};

use super::{Break, Link, breaks};

fn sum(number: u64) -> Checksum {
    Checksum::from_bits(1 << 63 | number)
}

fn pos(txid: u64) -> Pos {
    Pos {
        txid: Txid::new(txid),
        checksum: sum(txid),
    }
}

/// The file with the transactions from `min` to `max`, each of which adds up to its number.
fn link(min: u64, max: u64) -> Link {
    let header = Header {
        flags: Flags::NONE,
        page_size: PageSize::MIN,
        commit_pages: 1,
        min_txid: Txid::new(min),
        max_txid: Txid::new(max),
        timestamp_ms: 1,
        pre_apply: if min == 1 { Checksum::NONE } else { sum(min - 1) },
        wal: None,
        node: NodeId::new(1),
    };
    Link {
        name: header.file_name(),
        header,
        after: pos(max),
    }
}

#[test]
fn files_that_follow_are_right_in_any_order_and_from_any_beginning() {
    assert_eq!(breaks(vec![link(6, 6), link(5, 5), link(7, 7)], pos(7)), []);
    assert_eq!(breaks(vec![], Pos::ZERO), []);
    assert_eq!(breaks(vec![link(1, 4), link(5, 5)], pos(5)), []);
}

#[test]
fn a_hole_a_fork_and_an_end_elsewhere_are_told() {
    let hole = breaks(vec![link(5, 5), link(7, 7)], pos(7));
    assert!(
        matches!(hole[..], [Break::Hole { before, found, .. }] if before == pos(6) && found == pos(5)),
        "{hole:?}"
    );
    let mut other = link(6, 6);
    other.header.pre_apply = sum(99);
    assert!(matches!(
        breaks(vec![link(5, 5), other], pos(6))[..],
        [Break::Hole { .. }]
    ));
    assert!(matches!(
        breaks(vec![link(5, 5)], pos(6))[..],
        [Break::End { found, .. }] if found == pos(5)
    ));
    assert!(matches!(breaks(vec![], pos(6))[..], [Break::End { .. }]));
    let mut misnamed = link(5, 5);
    misnamed.header.max_txid = Txid::new(6);
    assert!(matches!(
        breaks(vec![misnamed], pos(5))[..],
        [Break::Misnamed { .. }]
    ));
}

#[test]
fn what_makes_a_database_of_nothing_follows_upon_anything() {
    let mut anew = link(9, 9);
    anew.header.pre_apply = Checksum::EMPTY_DATABASE;
    assert_eq!(breaks(vec![link(5, 5), anew], pos(9)), []);
    assert_eq!(breaks(vec![link(3, 3), link(1, 9), link(10, 10)], pos(10)), []);
}
