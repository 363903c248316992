//! Power cuts at any write and sync: what SQLite acknowledged is there, and the position is right.

use std::{path::Path, sync::Arc};

use crashsafe::{Disk, Log, RealDisk, Recorder};
use litefs_rs::db::{
    Node, Primacy, Role,
    commit::Origin,
    files::{FileKind, Files as _},
    recover::{Unsent, recover},
};
use ltx::{Checksum, Flags, NodeId, Pos, Txid};
use rusqlite::Connection;

use crate::{
    applied::{Applied, checksum},
    file_system::FileSystem,
    rng::Choices,
    workloads::scratch,
};

const TRANSACTIONS: u32 = 24;
const ORIGIN: Origin = Origin {
    node: NodeId::new(8),
    timestamp_ms: 1,
    flags: Flags::LZ4,
};

/// How databases are written.
#[derive(Debug, Clone, Copy)]
struct Case {
    mode: &'static str,
    synchronous: &'static str,
    /// Whether a power cut is survived by both databases of a transaction or by none.
    atomic_over_databases: bool,
}

/// Records a workload. A marker after each transaction holds its number and the positions of both databases.
fn record(case: Case, seed: u64, root: &Path) -> Log {
    let recorder = Arc::new(Recorder::new(RealDisk, root).unwrap());
    let node = Node {
        disk: Arc::clone(&recorder) as Arc<dyn Disk>,
        id: NodeId::new(7),
        flags: Flags::LZ4,
        wall_clock_ms: || 0,
        primacy: Primacy::fixed(Role::Primary),
    };
    let system = FileSystem::new(root.to_path_buf(), node);
    let mut choices = Choices::new(seed);
    let connection = system.connect("a");
    let run = |sql: &str| {
        connection
            .execute_batch(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    };
    let Case {
        mode, synchronous, ..
    } = case;
    run(&format!(
        "ATTACH 'b' AS b; PRAGMA main.page_size=1024; PRAGMA b.page_size=512;
         PRAGMA main.journal_mode={mode}; PRAGMA b.journal_mode={mode}; PRAGMA main.synchronous={synchronous};
         PRAGMA b.synchronous={synchronous}; PRAGMA cache_size=5; PRAGMA b.cache_size=5;
         PRAGMA wal_autocheckpoint=20; PRAGMA b.wal_autocheckpoint=20;
         CREATE TABLE main.acked (k INTEGER PRIMARY KEY, both INTEGER); CREATE TABLE main.t (k INTEGER PRIMARY KEY, v BLOB);
         CREATE TABLE b.acked (k INTEGER PRIMARY KEY, both INTEGER); CREATE TABLE b.u (k INTEGER PRIMARY KEY, v BLOB);"
    ));
    mark(&recorder, &system, 0);
    for number in 1..=TRANSACTIONS {
        let bytes = choices.one_of(&[10, 300, 3000]);
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{})
             INSERT OR REPLACE INTO main.t SELECT i, randomblob({bytes}) FROM n",
            choices.one_of(&[1, 3, 25])
        );
        match choices.below(8) {
            0 => run(&format!("BEGIN; {fill}; ROLLBACK")),
            1 => run("DELETE FROM main.t; VACUUM main"),
            2 => run("PRAGMA main.wal_checkpoint(TRUNCATE)"),
            3 => {
                let page_bytes = choices.one_of(&[512, 1024, 2048]);
                run(&format!("PRAGMA main.page_size={page_bytes}; VACUUM main"));
            }
            4 => run("PRAGMA main.wal_checkpoint(RESTART)"),
            _ => {}
        }
        let both = choices.below(2);
        run(&format!(
            "BEGIN; INSERT INTO main.acked VALUES ({number}, {both}); {fill}"
        ));
        if both == 1 {
            run(&format!(
                "INSERT INTO b.acked VALUES ({number}, 1); INSERT INTO b.u VALUES ({number}, randomblob({bytes}))"
            ));
        }
        run("COMMIT");
        mark(&recorder, &system, number);
    }
    recorder.log()
}

fn mark(recorder: &Recorder<RealDisk>, system: &FileSystem, number: u32) {
    let txid = |name| system.look(name, |database| database.pos().txid.get()).unwrap();
    let checksum = |name| {
        system
            .look(name, |database| database.pos().checksum.bits())
            .unwrap()
    };
    let payload = [
        u64::from(number),
        txid("a"),
        txid("b"),
        checksum("a"),
        checksum("b"),
    ];
    recorder.mark("acked", payload.map(u64::to_le_bytes).concat());
}

/// What the last marker before a cut promises.
#[derive(Debug, Clone, Copy, Default)]
struct Promised {
    number: u32,
    positions: [Pos; 2],
}

impl Promised {
    fn read(payload: Option<&[u8]>) -> Option<Self> {
        let numbers: Vec<u64> = payload?
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();
        Some(Self {
            number: u32::try_from(numbers[0]).unwrap(),
            positions: [(numbers[1], numbers[3]), (numbers[2], numbers[4])].map(|(txid, checksum)| Pos {
                txid: Txid::new(txid),
                checksum: Checksum::from_bits(checksum),
            }),
        })
    }
}

/// Recovers both databases in `root`, and returns their page images.
fn recover_both(disk: &Arc<dyn Disk>, root: &Path, promised: Option<Promised>) {
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        let directory = root.join("dbs").join(name);
        if !directory.exists() {
            assert!(promised.is_none());
            continue;
        }
        let exists = |path: &[u8]| {
            root.join("super")
                .join(std::str::from_utf8(path).unwrap())
                .exists()
        };
        let recovered = recover(Arc::clone(disk), &directory, Unsent::Keep(ORIGIN), &exists)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let pos = recovered.history.pos();
        let was = promised.map_or(Pos::ZERO, |promised| promised.positions[index]);
        assert!(pos.txid >= was.txid, "{name} is at {pos}, {was} was acknowledged");
        assert!(!recovered.files.exists(FileKind::Wal) && !recovered.files.exists(FileKind::RollbackJournal));
        let len = recovered.files.len(FileKind::Database).unwrap();
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        recovered
            .files
            .read_at(FileKind::Database, &mut bytes, 0)
            .unwrap();
        if let Some(page_size) = recovered.history.page_size() {
            assert_eq!(checksum(&bytes, page_size), pos.checksum, "{name} at {pos}");
        }
        let mut applied = Applied::new(&directory);
        applied.catch_up();
        assert_eq!(applied.pos, pos, "{name}");
        // Replicas have heard of it.
        let then = applied.positions.get(&was.txid);
        assert!(
            was == Pos::ZERO || then == Some(&was.checksum),
            "{name} was at {was}, and now {then:?} there"
        );
        assert!(
            applied.bytes == bytes,
            "{name}: its transactions make another database"
        );
    }
}

/// Looks at the databases with SQLite itself, as another program would.
fn check_rows(case: Case, root: &Path, promised: Option<Promised>) {
    let open = |name: &str| {
        let path = root.join("dbs").join(name).join("database");
        path.exists().then(|| Connection::open(path).unwrap())
    };
    // The numbers of transactions, and whether they were in both databases.
    let numbers = |connection: &Connection| -> Vec<(u32, bool)> {
        let ok: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(ok, "ok");
        let Ok(mut rows) = connection.prepare("SELECT k, both FROM acked ORDER BY k") else {
            return Vec::new();
        };
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(|row| row.unwrap()).collect()
    };
    let [a, b] = ["a", "b"].map(|name| {
        open(name)
            .map(|connection| numbers(&connection))
            .unwrap_or_default()
    });
    let acked = promised.map_or(0, |promised| promised.number);
    let last = u32::try_from(a.len()).unwrap();
    assert!(
        a.iter().map(|row| row.0).eq(1..=last),
        "no transaction is missing in between: {a:?}"
    );
    assert!(
        (acked..=acked + 1).contains(&last),
        "{last} rows, {acked} were acknowledged"
    );
    if case.atomic_over_databases {
        let in_both: Vec<_> = a.iter().copied().filter(|row| row.1).collect();
        assert_eq!(
            b, in_both,
            "a transaction is in one database and not in the other"
        );
    }
}

fn cuts() -> usize {
    let count = std::env::var("LITEFS_CUTS")
        .ok()
        .and_then(|count| count.parse().ok());
    count.unwrap_or(40)
}

fn survive_power_cuts(case: Case) {
    let cuts = cuts();
    for part in 0..2 {
        let recorded = scratch();
        let log = record(case, part, recorded.path());
        let mut choices = Choices::new(part);
        for number in 0..cuts.div_ceil(2) {
            // Spread over the recording, in ascending order.
            let span = log.len() / cuts.div_ceil(2).max(1) + 1;
            let offset = choices.below(u32::try_from(span).unwrap()) as usize;
            let at = (number * span + offset).min(log.len());
            // Now and then only the processes die.
            let cut = if number % 3 == 0 {
                log.kill(at)
            } else {
                log.cut(at, &mut choices.0)
            };
            let promised = Promised::read(cut.last_marker("acked"));
            let told = format!("{case:?} part {part} cut {at} of {}, {promised:?}", log.len());
            let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                survive(case, &cut, promised, &mut choices);
            }));
            assert!(survived.is_ok(), "{told}");
        }
    }
}

/// Recovers what a cut left; and what a cut in the midst of that recovery left.
fn survive(case: Case, cut: &crashsafe::Cut, promised: Option<Promised>, choices: &mut Choices) {
    let left = scratch();
    cut.write(&RealDisk, left.path()).unwrap();
    let recorder = Arc::new(Recorder::new(RealDisk, left.path()).unwrap());
    recover_both(&(Arc::clone(&recorder) as Arc<dyn Disk>), left.path(), promised);
    check_rows(case, left.path(), promised);
    let log = recorder.log();
    let again = scratch();
    let at = choices.below(u32::try_from(log.len() + 1).unwrap()) as usize;
    log.cut(at, &mut choices.0)
        .write(&RealDisk, again.path())
        .unwrap();
    recover_both(&(Arc::new(RealDisk) as Arc<dyn Disk>), again.path(), promised);
    check_rows(case, again.path(), promised);
}

const fn case(mode: &'static str, synchronous: &'static str) -> Case {
    Case {
        mode,
        synchronous,
        atomic_over_databases: !matches!(mode.as_bytes(), b"WAL"),
    }
}

#[test]
fn power_cuts_lose_nothing_acknowledged_under_deleted_journals() {
    survive_power_cuts(case("DELETE", "FULL"));
    survive_power_cuts(case("DELETE", "NORMAL"));
}

#[test]
fn power_cuts_lose_nothing_acknowledged_under_truncated_journals() {
    survive_power_cuts(case("TRUNCATE", "FULL"));
    survive_power_cuts(case("TRUNCATE", "NORMAL"));
}

#[test]
fn power_cuts_lose_nothing_acknowledged_under_persistent_journals() {
    survive_power_cuts(case("PERSIST", "FULL"));
    survive_power_cuts(case("PERSIST", "NORMAL"));
}

#[test]
fn power_cuts_lose_nothing_acknowledged_under_a_log() {
    survive_power_cuts(case("WAL", "FULL"));
    survive_power_cuts(case("WAL", "NORMAL"));
}

/// Between the first LTX file of such a transaction and the end of its super-journal, and around it.
#[test]
fn a_transaction_over_databases_is_in_both_or_none_at_every_event_of_its_commit() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST"] {
        let case = case(mode, "FULL");
        let recorded = scratch();
        let log = record(case, 3, recorded.path());
        let mut choices = Choices::new(3);
        let ends = log.after("super:remove_file");
        for end in &ends[1..3] {
            for at in end - 12..end + 4 {
                for cut in [log.kill(at), log.cut(at, &mut choices.0)] {
                    let promised = Promised::read(cut.last_marker("acked"));
                    survive(case, &cut, promised, &mut choices);
                }
            }
        }
    }
}

/// SQLite syncs nothing then, and whoever is cut off in the midst of a transaction may find the database broken. What was
/// committed before is safe as long as no other transaction has begun.
#[test]
fn power_cuts_between_transactions_lose_nothing_even_where_sqlite_syncs_nothing() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let case = case(mode, "OFF");
        let recorded = scratch();
        let log = record(case, 5, recorded.path());
        let mut choices = Choices::new(5);
        for at in log.after("acked:mark") {
            let cut = log.cut(at, &mut choices.0);
            let promised = Promised::read(cut.last_marker("acked"));
            survive(case, &cut, promised, &mut choices);
        }
    }
}
