use super::*;

#[test]
fn a_working_pool_is_read_in_full() {
    let line = "0 2097152 thin-pool 3 13/1024 640/16384 - rw discard_passdown queue_if_no_space - 1024 \n";
    let expected = PoolStatus {
        transaction_id: 3,
        metadata_used: 13,
        metadata_total: 1024,
        data_used: 640,
        data_total: 16384,
        snapshot_held: false,
        mode: Mode::ReadWrite,
        needs_check: false,
    };
    assert_eq!(thin_pool(line).unwrap(), expected);
}

#[test]
fn what_lvm_lists_and_the_pool_has_not_heard_of_is_told_by_their_transactions() {
    let status =
        thin_pool("0 8 thin-pool 5 13/1024 6/16 - rw discard_passdown queue_if_no_space - 1024").unwrap();
    // LVM's transaction of the pool, that of the volume's making, and whether the pool lacks the volume.
    let cases = [
        (5, 4, false),
        (5, 0, false),
        (6, 5, true),
        // The pool lags behind by a removal, or by what was made after this one.
        (6, 4, false),
        // Not read at one moment, or put together by hand: nothing is claimed.
        (4, 5, false),
        (7, 5, false),
    ];
    for (pool, made, lacks) in cases {
        assert_eq!(status.has_not_heard_of(pool, made), lacks, "{pool} {made}");
    }
}

#[test]
fn every_bad_state_of_a_pool_is_told_apart() {
    let held = "0 8 thin-pool 3 13/1024 640/16384 77 rw discard_passdown queue_if_no_space - 1024";
    assert!(thin_pool(held).unwrap().snapshot_held);
    let full = "0 8 thin-pool 1 5/9 16/16 - out_of_data_space discard_passdown queue_if_no_space - 1024";
    assert_eq!(thin_pool(full).unwrap().mode, Mode::OutOfData);
    let damaged = "0 8 thin-pool 1 5/9 6/16 - ro discard_passdown error_if_no_space needs_check 1024";
    let status = thin_pool(damaged).unwrap();
    assert_eq!((status.mode, status.needs_check), (Mode::ReadOnly, true));
    assert_eq!(thin_pool("0 8 thin-pool Fail").unwrap().mode, Mode::Failed);
}

#[test]
fn a_line_that_is_something_else_is_refused_and_shown() {
    for line in [
        "",
        "0 8 linear",
        "0 8 thin-pool 1 5/9",
        "0 8 thin-pool x 5/9 6/16 - rw a b - 1",
        "0 8 thin-pool 1 5/9 6/16 - sideways a b - 1",
    ] {
        let error = thin_pool(line).unwrap_err();
        assert_eq!(error.line, line);
    }
}

#[test]
fn a_snapshot_that_overflowed_is_lost() {
    let holds = SnapshotStatus::Holds {
        used: 16,
        total: 8192,
    };
    assert_eq!(snapshot("0 40960 snapshot 16/8192 16").unwrap(), holds);
    assert_eq!(
        snapshot("0 40960 snapshot Invalid").unwrap(),
        SnapshotStatus::Lost
    );
    assert_eq!(
        snapshot("0 40960 snapshot Overflow").unwrap(),
        SnapshotStatus::Lost
    );
    assert!(snapshot("0 40960 linear 7:0 2048").is_err());
}
