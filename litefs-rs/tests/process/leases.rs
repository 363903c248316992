//! Several nodes under one lease, in an object store of this process or in etcd.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    lease_places::{Bucket, Etcd, Place},
    node::{LOOK, Node, PATIENCE},
};

/// How long a lease lasts.
const TTL: Duration = Duration::from_secs(2);
/// How long a lease lasts that is to change hands, and not to end because a disk stood still for a while.
const TTL_OF_HAND_OVER: Duration = Duration::from_secs(10);

fn roots() -> (tempfile::TempDir, tempfile::TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

/// Has a node become primary. It asks again: a replica that is too far behind to take the lease in time is told so, and where
/// the lease was lost meanwhile there is nobody to hand it over.
fn promote(node: &Node) -> std::process::Output {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let promoted = node.litefs("promote", &[]);
        if promoted.status.success() || tokio::time::Instant::now() >= until {
            return promoted;
        }
        // Nothing tells an asker when it is worth another try.
        std::thread::park_timeout(LOOK);
    }
}

/// A process that stands still as long as this lives: whoever closes a file of its mount waits for it, also where a test fails.
struct Stopped(Pid);

impl Stopped {
    fn now(node: &Node) -> Self {
        let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _gone = kill_process(self.0, Signal::CONT);
    }
}

fn count(connection: &Connection) -> i64 {
    connection
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_replica_takes_over_from_a_primary_that_was_killed_and_that_one_follows_it_later() {
    take_over(&Bucket::new(TTL));
}

#[test]
fn in_etcd_a_replica_takes_over_from_a_primary_that_was_killed_and_that_one_follows_it_later() {
    take_over(&Etcd::new(TTL));
}

fn take_over(place: &impl Place) {
    let (first, second) = roots();
    let mut a = place.node(first.path());
    a.wait_for("node is primary");
    let mut b = place.node(second.path());
    b.wait_for("connected to the primary");
    for mode in ["DELETE", "WAL"] {
        a.shell(
            mode,
            &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v); INSERT INTO t VALUES (1)"),
        );
        b.catch_up(mode, &a);
    }
    // Open before it changes hands: what this connection maps is the index of the replica's own log.
    let open = b.connect("WAL");
    assert_eq!(count(&open), 1);
    a.kill();
    b.wait_for("node is primary");
    assert!(b.epoch() > a.epoch(), "{} and {}", b.epoch(), a.epoch());
    open.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    b.shell("DELETE", "INSERT INTO t VALUES (2)");
    a.start_again();
    a.wait_for("in sync with the primary");
    for mode in ["DELETE", "WAL"] {
        a.catch_up(mode, &b);
        assert_eq!(count(&a.connect(mode)), 2);
    }
    assert_eq!(
        std::fs::read_to_string(a.path(".primary")).unwrap(),
        "127.0.0.1\n"
    );
    assert!(!b.path(".primary").exists());
    assert_eq!((a.stop(), b.stop()), (Some(0), Some(0)));
}

#[test]
fn a_primary_that_is_killed_and_started_at_once_goes_on_with_all_that_was_acknowledged() {
    go_on(&Bucket::new(TTL));
}

#[test]
fn in_etcd_a_primary_that_is_killed_and_started_at_once_goes_on_with_all_that_was_acknowledged() {
    go_on(&Etcd::new(TTL));
}

fn go_on(place: &impl Place) {
    let (first, _) = roots();
    let mut a = place.node(first.path());
    a.wait_for("node is primary");
    let connection = a.connect("a");
    connection
        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (v)")
        .unwrap();
    for row in 0..20 {
        connection.execute("INSERT INTO t VALUES (?)", [row]).unwrap();
    }
    a.kill();
    drop(connection);
    a.start_again();
    a.wait_for("node is primary");
    assert_eq!(count(&a.check("a")), 20);
    a.shell("a", "INSERT INTO t VALUES (20)");
    assert_eq!(count(&a.check("a")), 21);
}

#[test]
fn a_lease_is_handed_over_under_writers_and_nothing_that_was_acknowledged_is_lost() {
    hand_over(&Bucket::new(TTL_OF_HAND_OVER));
}

#[test]
fn in_etcd_a_lease_is_handed_over_under_writers_and_nothing_that_was_acknowledged_is_lost() {
    hand_over(&Etcd::new(TTL_OF_HAND_OVER));
}

fn hand_over(place: &impl Place) {
    let (first, second) = roots();
    let a = place.node(first.path());
    a.wait_for("node is primary");
    let b = place.node(second.path());
    b.wait_for("connected to the primary");
    for mode in ["DELETE", "WAL"] {
        a.shell(mode, &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v)"));
        b.catch_up(mode, &a);
    }
    let (mut acknowledged, mut nodes) = ([0_i64; 2], [&a, &b]);
    for _ in 0..3 {
        let [from, to] = nodes;
        let (done, begun) = (AtomicBool::new(false), Barrier::new(3));
        std::thread::scope(|scope| {
            let writers = ["DELETE", "WAL"].map(|mode| {
                let (done, begun, connection) = (&done, &begun, from.connect(mode));
                scope.spawn(move || {
                    connection.execute("INSERT INTO t VALUES (0)", []).unwrap();
                    let mut rows = 1;
                    begun.wait();
                    while !done.load(Ordering::Acquire) {
                        match connection.execute("INSERT INTO t VALUES (1)", []) {
                            Ok(_) => rows += 1,
                            // Not primary any more.
                            Err(_) => break,
                        }
                    }
                    rows
                })
            });
            begun.wait();
            let promoted = promote(to);
            // First, or the writers go on for ever.
            done.store(true, Ordering::Release);
            assert!(promoted.status.success(), "{promoted:?}");
            for (rows, writer) in acknowledged.iter_mut().zip(writers) {
                *rows += writer.join().unwrap();
            }
        });
        for (mode, rows) in ["DELETE", "WAL"].into_iter().zip(acknowledged) {
            // It is writable as soon as nobody reads what has to change.
            assert_eq!(
                to.shell(mode, "BEGIN IMMEDIATE; SELECT count(*) FROM t; COMMIT"),
                rows.to_string()
            );
            from.catch_up(mode, to);
        }
        nodes = [to, from];
    }
    assert!(acknowledged.iter().all(|rows| *rows > 0), "{acknowledged:?}");
    let said = String::from_utf8(nodes[0].litefs("status", &[]).stdout).unwrap();
    assert!(
        said.starts_with("primary, primary 127.0.0.1, candidate true, lag 0.000 s, replicas "),
        "{said}"
    );
}

#[test]
fn a_primary_that_stood_still_for_too_long_acknowledges_nothing_and_takes_back_what_it_began() {
    stand_still(&Bucket::new(TTL));
}

#[test]
fn in_etcd_a_primary_that_stood_still_for_too_long_acknowledges_nothing_and_takes_back_what_it_began() {
    stand_still(&Etcd::new(TTL));
}

fn stand_still(place: &impl Place) {
    let (first, second) = roots();
    let mut a = place.node(first.path());
    a.wait_for("node is primary");
    let b = place.node(second.path());
    b.wait_for("connected to the primary");
    a.shell("d", "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
    b.catch_up("d", &a);
    let begun = a.connect("d");
    begun.execute_batch("PRAGMA cache_size=1; BEGIN; INSERT INTO t SELECT randomblob(5000) FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8))").unwrap();
    let stopped = Stopped::now(&a);
    b.wait_for("node is primary");
    // Not by another process: it would close what it inherits of the first mount, which does not answer.
    b.connect("d").execute_batch("INSERT INTO t VALUES (2)").unwrap();
    drop(stopped);
    let refused = begun.execute_batch("COMMIT").unwrap_err();
    assert!(refused.sqlite_error_code().is_some(), "{refused}");
    let _it_may_be_rolled_back_already = begun.execute_batch("ROLLBACK");
    drop(begun);
    a.catch_up("d", &b);
    assert_eq!(count(&a.connect("d")), 2);
    assert_eq!(a.stop(), Some(0));
}

#[test]
fn a_halt_lock_ends_with_the_primary_it_was_had_of_and_nothing_is_lost() {
    let (bucket, (first, second)) = (Bucket::new(TTL_OF_HAND_OVER), roots());
    let a = bucket.node(first.path());
    a.wait_for("node is primary");
    let b = bucket.node(second.path());
    b.wait_for("connected to the primary");
    for mode in ["DELETE", "WAL"] {
        a.shell(mode, &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v)"));
        b.catch_up(mode, &a);
        let lock = crate::halts::take(&b, mode);
        b.shell(mode, "INSERT INTO t VALUES (1)");
        assert_eq!(a.pos(mode), b.pos(mode));
        std::mem::forget(lock);
    }
    let promoted = promote(&b);
    assert!(promoted.status.success(), "{promoted:?}");
    for mode in ["DELETE", "WAL"] {
        b.shell(mode, "INSERT INTO t VALUES (2)");
        a.catch_up(mode, &b);
        assert_eq!(count(&a.connect(mode)), 2);
    }
    // The other way round: whoever was halted may halt.
    let lock = crate::halts::take(&a, "WAL");
    a.shell("WAL", "INSERT INTO t VALUES (3)");
    drop(lock);
    b.shell("WAL", "INSERT INTO t VALUES (4)");
    a.catch_up("WAL", &b);
    assert_eq!(count(&a.connect("WAL")), 4);
}

#[test]
fn an_empty_node_does_not_take_over_from_a_cluster() {
    let (bucket, (first, second)) = (Bucket::new(TTL), roots());
    let mut a = bucket.node(first.path());
    a.wait_for("node is primary");
    a.shell("d", "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
    assert_eq!(a.stop(), Some(0));
    let b = bucket.node(second.path());
    b.wait_for("node belongs to no cluster yet, and the lease does");
    a.start_again();
    a.wait_for("node is primary");
    b.catch_up("d", &a);
    assert_eq!(count(&b.connect("d")), 1);
}

#[test]
fn writes_go_on_without_the_lease_s_store_until_the_lease_ends_and_again_when_it_is_back() {
    do_without(&mut Bucket::new(TTL_OF_HAND_OVER));
}

#[test]
fn in_etcd_writes_go_on_without_it_until_the_lease_ends_and_again_when_it_is_back() {
    do_without(&mut Etcd::new(TTL_OF_HAND_OVER));
}

fn do_without(place: &mut impl Place) {
    let (first, second) = roots();
    let a = place.node(first.path());
    a.wait_for("node is primary");
    let b = place.node_with(second.path(), "candidate: false,");
    b.wait_for("connected to the primary");
    a.shell("d", "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
    place.stop();
    a.shell("d", "INSERT INTO t VALUES (2)");
    b.catch_up("d", &a);
    a.wait_for("the lease could not be renewed in time");
    let refused = a
        .connect("d")
        .execute("INSERT INTO t VALUES (3)", [])
        .unwrap_err();
    assert!(refused.sqlite_error_code().is_some(), "{refused}");
    place.start();
    a.wait_for("node is primary");
    a.shell("d", "INSERT INTO t VALUES (4)");
    b.catch_up("d", &a);
    assert_eq!(b.shell("d", "SELECT group_concat(v) FROM t"), "1,2,4");
}

#[test]
fn an_etcd_that_wants_certificates_and_passwords_keeps_a_lease() {
    let (etcd, (first, second)) = (Etcd::encrypting(TTL_OF_HAND_OVER), roots());
    etcd.demand("litefs", "secret");
    let keys = |password: &str| {
        format!(
            "type: etcd, hostname: \"127.0.0.1\", etcd: {{ endpoints: [\"{}\"], username: litefs, password: {password}, \
             tls: {{ ca-file: \"{}\" }} }}",
            etcd.url(),
            etcd.certificate().display(),
        )
    };
    let mut a = Node::under(first.path(), &keys("secret"));
    a.start_again();
    a.wait_for("node is primary");
    let mut b = Node::under(second.path(), &keys("guess"));
    b.start_again();
    b.wait_for("authentication failed, invalid user ID or password");
    assert_eq!((a.stop(), b.stop()), (Some(0), Some(0)));
}
