use std::collections::BTreeMap;

use ltx::{Flags, Header, NodeId, PageSize};
use proptest::prelude::*;

use super::*;
use crate::replication::follower::{Disconnect, Follower, Input, Output};

fn name(text: &str) -> DatabaseName {
    text.parse().unwrap()
}

fn pos(txid: u64, history: u64) -> Pos {
    Pos {
        txid: Txid::new(txid),
        checksum: if txid == 0 {
            Checksum::NONE
        } else {
            Checksum::from_bits(Checksum::FLAG | txid | history << 32)
        },
    }
}

/// Databases as histories: which one, how far, and from which transaction on files are there.
#[derive(Debug, Clone, Default)]
struct Primary(BTreeMap<DatabaseName, History>);

#[derive(Debug, Clone, Copy)]
struct History {
    history: u64,
    txid: u64,
    files_from: u64,
}

impl Store for Primary {
    fn pos(&self, database: &DatabaseName) -> Option<Pos> {
        self.0
            .get(database)
            .map(|history| pos(history.txid, history.history))
    }

    fn pre_apply(&self, database: &DatabaseName, txid: Txid) -> Option<Checksum> {
        let History {
            history, files_from, ..
        } = self.0[database];
        (txid.get() >= files_from).then(|| pos(txid.get() - 1, history).checksum)
    }

    fn high_water_mark(&self, _database: &DatabaseName) -> Txid {
        Txid::new(5)
    }
}

fn first_action(theirs: Option<Pos>, ours: Option<History>) -> Action {
    let database = name("db");
    let primary = Primary(ours.map(|ours| (database.clone(), ours)).into_iter().collect());
    let replica = theirs.map(|pos| (database, pos)).into_iter().collect();
    let mut catch_up = CatchUp::new(replica, primary.0.keys().cloned(), BTreeSet::new());
    catch_up.next(start(), &primary)
}

#[allow(clippy::disallowed_methods, reason = "the beginning of virtual time")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn what_comes_first_is_as_the_protocol_says() {
    let ours = |txid, files_from| {
        Some(History {
            history: 0,
            txid,
            files_from,
        })
    };
    let database = || name("db");
    let snapshot = || Action::SendSnapshot { database: database() };
    let file = |txid| Action::SendFile {
        database: database(),
        txid: Txid::new(txid),
    };
    assert_eq!(
        first_action(Some(pos(3, 0)), None),
        Action::NoDatabase { database: database() }
    );
    assert_eq!(
        first_action(Some(pos(9, 0)), ours(8, 1)),
        snapshot(),
        "ahead of us"
    );
    assert_eq!(first_action(Some(pos(8, 1)), ours(8, 1)), snapshot(), "beside us");
    assert_eq!(first_action(Some(pos(8, 0)), ours(8, 1)), Action::Ready, "equal");
    assert_eq!(
        first_action(None, ours(8, 1)),
        snapshot(),
        "nothing yet, though every file is there"
    );
    assert_eq!(
        first_action(Some(pos(3, 0)), ours(8, 5)),
        snapshot(),
        "the file is gone"
    );
    assert_eq!(
        first_action(Some(pos(3, 1)), ours(8, 1)),
        snapshot(),
        "another history"
    );
    assert_eq!(first_action(Some(pos(3, 0)), ours(8, 4)), file(4));
    assert_eq!(
        first_action(None, ours(0, 1)),
        Action::Ready,
        "a database without a transaction"
    );
    assert_eq!(first_action(None, None), Action::Ready);
}

#[test]
fn after_a_file_comes_the_mark_and_a_heartbeat_when_nothing_else_does() {
    let database = name("db");
    let mut primary = Primary::default();
    let history = |txid| History {
        history: 0,
        txid,
        files_from: 1,
    };
    primary.0.insert(database.clone(), history(2));
    let replica = PositionMap::from([(database.clone(), pos(1, 0))]);
    let mut catch_up = CatchUp::new(replica, [database.clone()], BTreeSet::new());
    let begin = start();
    let at = |ms| begin + Duration::from_millis(ms);
    let file = |txid| Action::SendFile {
        database: name("db"),
        txid: Txid::new(txid),
    };
    let mark = || Action::HighWaterMark {
        database: name("db"),
        txid: Txid::new(5),
    };
    assert_eq!(catch_up.next(begin, &primary), file(2));
    catch_up.sent(database.clone(), pos(2, 0));
    assert_eq!(catch_up.next(begin, &primary), mark());
    assert_eq!(catch_up.next(begin, &primary), Action::Ready);
    assert_eq!(catch_up.next(begin, &primary), Action::Heartbeat);
    assert_eq!(catch_up.next(begin, &primary), Action::Wait { until: at(1000) });
    assert_eq!(catch_up.next(at(1000), &primary), Action::Heartbeat);
    primary.0.insert(database.clone(), history(3));
    catch_up.changed(database.clone());
    assert_eq!(catch_up.next(at(1500), &primary), file(3));
    catch_up.sent(database.clone(), pos(3, 0));
    assert_eq!(catch_up.next(at(1500), &primary), mark());
    assert_eq!(
        catch_up.next(at(1600), &primary),
        Action::Wait { until: at(2600) }
    );
    catch_up.hand_off("lease".to_owned());
    let handoff = Action::Handoff {
        lease: "lease".to_owned(),
    };
    assert_eq!(catch_up.next(at(1700), &primary), handoff);
    assert_eq!(catch_up.next(at(1700), &primary), Action::End);
}

#[test]
fn what_the_replica_does_not_want_is_not_sent() {
    let history = History {
        history: 0,
        txid: 1,
        files_from: 1,
    };
    let primary = Primary([name("a"), name("b")].map(|name| (name, history)).into());
    let names = primary.0.keys().cloned();
    let mut catch_up = CatchUp::new(PositionMap::new(), names, BTreeSet::from([name("b")]));
    let now = start();
    catch_up.changed(name("a"));
    assert_eq!(
        catch_up.next(now, &primary),
        Action::SendSnapshot { database: name("b") }
    );
    catch_up.sent(name("b"), pos(1, 0));
    assert_eq!(catch_up.next(now, &primary), Action::Ready);
}

fn header(min: u64, max: u64, history: u64) -> Header {
    Header {
        flags: Flags::NONE,
        page_size: PageSize::MIN,
        commit_pages: 1,
        min_txid: Txid::new(min),
        max_txid: Txid::new(max),
        timestamp_ms: 1,
        pre_apply: pos(min - 1, history).checksum,
        wal: None,
        node: NodeId::new(1),
    }
}

fn any_history() -> impl Strategy<Value = History> {
    (0_u64..3, 0_u64..8, 0_u64..8).prop_map(|(history, txid, files_from)| History {
        history,
        txid,
        files_from,
    })
}

proptest! {
    /// Whatever a replica has: it takes what it is sent, and then has what the primary has.
    #[test]
    fn prop_a_replica_comes_to_have_what_the_primary_has(
        ours in prop::collection::btree_map("[a-d]", any_history(), 0..4),
        theirs in prop::collection::btree_map("[a-d]", (0_u64..3, 0_u64..9), 0..4),
        changes in prop::collection::vec(("[a-d]", 1_u64..4), 0..6),
    ) {
        let mut primary = Primary(ours.into_iter().map(|(database, history)| (name(&database), history)).collect());
        let replica: PositionMap =
            theirs.into_iter().map(|(database, (history, txid))| (name(&database), pos(txid, history))).collect();
        let mut now = start();
        let mut catch_up = CatchUp::new(replica.clone(), primary.0.keys().cloned(), BTreeSet::new());
        let mut follower = Follower::new(now, NodeId::new(2), replica.clone(), false);
        let mut positions = replica;
        let mut changes = changes.into_iter();
        let (mut out, mut ready) = (Vec::new(), 0);
        for step in 0..1000 {
            prop_assert!(step < 999, "no end");
            let (database, header) = match catch_up.next(now, &primary) {
                Action::SendFile { database, txid } => {
                    let history = primary.0[&database].history;
                    (database, header(txid.get(), txid.get(), history))
                }
                Action::SendSnapshot { database } => {
                    let History { history, txid, .. } = primary.0[&database];
                    (database, header(1, txid, history))
                }
                Action::NoDatabase { database } => {
                    // Replicas of LiteFS log it and keep what they have.
                    positions.remove(&database);
                    continue;
                }
                Action::Ready => {
                    ready += 1;
                    continue;
                }
                Action::Heartbeat | Action::HighWaterMark { .. } => continue,
                Action::Wait { until } => {
                    let Some((database, more)) = changes.next() else {
                        break;
                    };
                    if let Some(history) = primary.0.get_mut(&name(&database)) {
                        history.txid += more;
                        catch_up.changed(name(&database));
                    }
                    now = until;
                    continue;
                }
                Action::Handoff { .. } | Action::End => unreachable!("nobody hands anything over"),
            };
            out.clear();
            follower.handle(now, Input::Ltx { database: database.to_string(), header }, &mut out);
            prop_assert_eq!(&out[..], &[Output::Apply(database.clone())]);
            let after = pos(header.max_txid.get(), primary.0[&database].history);
            positions.insert(database.clone(), after);
            catch_up.sent(database.clone(), after);
            follower.handle(now, Input::Applied { database, pos: after, timestamp_ms: 1 }, &mut out);
        }
        prop_assert_eq!(ready, 1);
        // Where the primary has no transaction there is nothing to send, and nothing is taken away.
        for (database, history) in primary.0.iter().filter(|(_, history)| history.txid > 0) {
            let found = positions.get(database).copied().unwrap_or_default();
            prop_assert_eq!(found, pos(history.txid, history.history), "{}", database);
        }
    }

    /// A file that does not follow closes the stream, whoever sends it.
    #[test]
    fn prop_a_file_that_does_not_follow_is_never_applied(
        ours in (0_u64..3, 0_u64..6),
        file in (0_u64..3, 2_u64..7),
    ) {
        let now = start();
        let at = pos(ours.1, ours.0);
        let mut follower = Follower::new(now, NodeId::new(2), PositionMap::from([(name("db"), at)]), true);
        let mut out = Vec::new();
        let header = header(file.1, file.1, file.0);
        follower.handle(now, Input::Ltx { database: "db".to_owned(), header }, &mut out);
        let follows = header.pre_apply_pos() == at;
        let mismatch = Output::Disconnect(Disconnect::Mismatch {
            database: name("db"),
            ours: at,
            theirs: header.pre_apply_pos(),
        });
        prop_assert_eq!(&out[..], &[if follows { Output::Apply(name("db")) } else { mismatch }]);
    }
}
