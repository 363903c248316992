//! What a killed daemon leaves, one case after the other.

use std::{path::Path, sync::Arc};

use crashsafe::{Disk, RealDisk, Recorder};
use litefs_rs::db::{
    Node, Primacy, Role,
    commit::Origin,
    files::{FileKind, Files as _},
    recover::{RecoverError, Recovered, Unsent, recover},
};
use ltx::{Checksum, Flags, NodeId, Pos, Txid, Version};
use rusqlite::Connection;

use crate::{
    applied::{Applied, checksum},
    file_system::FileSystem,
    rng::Choices,
    workloads::scratch,
};

const KEEP: Unsent = Unsent::Keep(Origin {
    node: NodeId::new(8),
    timestamp_ms: 5,
    flags: Flags::NONE,
});

/// A database of the real SQLite, with our transactions beside it.
struct Made {
    root: tempfile::TempDir,
    system: Arc<FileSystem>,
    connection: Connection,
}

impl Made {
    fn new(mode: &str) -> Self {
        let root = scratch();
        let node = Node {
            disk: Arc::new(RealDisk) as Arc<dyn Disk>,
            id: NodeId::new(7),
            flags: Flags::LZ4,
            wall_clock_ms: || 0,
            primacy: Primacy::fixed(Role::Primary),
        };
        let system = FileSystem::new(root.path().to_path_buf(), node);
        let connection = system.connect("a");
        let made = Self {
            root,
            system,
            connection,
        };
        made.run(&format!(
            "PRAGMA journal_mode={mode}; PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=0"
        ));
        made.run("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)");
        made
    }

    fn run(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    fn insert(&self, rows: u32) {
        self.run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{rows})
             INSERT INTO t (v) SELECT randomblob(900) FROM n"
        ));
    }

    fn pos(&self) -> Pos {
        self.system.look("a", |database| database.pos()).unwrap()
    }

    /// Copies the directory as a killed daemon leaves it.
    fn killed(&self) -> Killed {
        let copy = scratch();
        let directory = copy.path().join("a");
        std::fs::create_dir_all(directory.join("ltx")).unwrap();
        for part in ["", "ltx"] {
            for entry in std::fs::read_dir(self.root.path().join("dbs/a").join(part)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    std::fs::copy(entry.path(), directory.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
        Killed { copy }
    }
}

struct Killed {
    copy: tempfile::TempDir,
}

impl Killed {
    fn directory(&self) -> std::path::PathBuf {
        self.copy.path().join("a")
    }

    fn recover(&self, unsent: Unsent) -> Result<Recovered, RecoverError> {
        recover(Arc::new(RealDisk), &self.directory(), unsent, &|_| false)
    }

    fn ltx(&self, txid: Txid) -> std::path::PathBuf {
        self.directory().join("ltx").join(format!("{txid}-{txid}.ltx"))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.directory().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        write(&path, &bytes);
    }

    fn rows(&self) -> u32 {
        let connection = Connection::open(self.directory().join("database")).unwrap();
        let ok: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(ok, "ok");
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    }
}

#[allow(clippy::disallowed_methods, reason = "a file for a test")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// LiteFS cuts the log back instead, and the transaction is gone.
#[test]
fn a_commit_in_the_log_without_an_ltx_file_is_kept_by_the_primary_and_by_nobody_else() {
    let made = Made::new("WAL");
    made.insert(3);
    let before = made.pos();
    made.insert(4);
    let after = made.pos();
    let killed = made.killed();
    std::fs::remove_file(killed.ltx(after.txid)).unwrap();
    let other = made.killed();
    std::fs::remove_file(other.ltx(after.txid)).unwrap();

    let recovered = killed.recover(KEEP).unwrap();
    assert_eq!(recovered.made, Some(after), "the same transaction again");
    assert_eq!(recovered.history.pos(), after);
    assert_eq!(killed.rows(), 7);
    let file = std::fs::read(killed.ltx(after.txid)).unwrap();
    let wal = ltx::verify(&file[..], Version::V1).unwrap().header.wal;
    assert!(wal.is_some_and(|wal| wal.offset_bytes > 32), "{wal:?}");
    let mut applied = Applied::new(&killed.directory());
    applied.catch_up();
    assert_eq!(
        applied.bytes,
        std::fs::read(killed.directory().join("database")).unwrap()
    );

    let recovered = other.recover(Unsent::Drop).unwrap();
    assert_eq!((recovered.made, recovered.history.pos()), (None, before));
    assert_eq!(other.rows(), 3);
}

/// A database with a log and seven transactions, whose positions come along. The log was begun anew behind the third.
fn with_log() -> (Made, Vec<Pos>) {
    let made = Made::new("WAL");
    let mut positions = vec![made.pos()];
    for number in 0..6 {
        if number == 2 {
            made.run("PRAGMA wal_checkpoint(RESTART)");
        }
        // One that changes nothing is none.
        made.run("BEGIN IMMEDIATE; ROLLBACK");
        made.insert(number % 2 * 40 + 1);
        positions.push(made.pos());
    }
    (made, positions)
}

/// Recovers what was left, and again, and compares every position on the way with those that there were.
fn comes_back(killed: &Killed, positions: &[Pos], told: &str) {
    let last = *positions.last().unwrap();
    let recovered = killed
        .recover(KEEP)
        .unwrap_or_else(|error| panic!("{told}: {error:?}"));
    assert_eq!(recovered.history.pos(), last, "{told}");
    let mut applied = Applied::new(&killed.directory());
    applied.catch_up();
    for pos in positions {
        assert_eq!(applied.positions.get(&pos.txid), Some(&pos.checksum), "{told}");
    }
    let bytes = std::fs::read(killed.directory().join("database")).unwrap();
    assert!(applied.bytes == bytes, "{told}");
    assert_eq!(killed.rows(), 6 + 3 * 40, "{told}");
    let again = killed.recover(KEEP).unwrap();
    assert_eq!((again.made, again.history.pos()), (None, last), "{told}: once");
}

#[test]
fn ltx_files_of_what_is_in_the_log_come_back_as_they_were_whichever_are_missing_or_damaged() {
    let (made, positions) = with_log();
    let in_log = &positions[3..];
    // Of each of the four: there, missing, empty, cut, with zeros at its end.
    for case in (0..5_usize.pow(4)).step_by(7) {
        let killed = made.killed();
        for (index, pos) in in_log.iter().enumerate() {
            let path = killed.ltx(pos.txid);
            let bytes = std::fs::read(&path).unwrap();
            let len = bytes.len();
            let zeroed = [&bytes[..len / 2], &vec![0; len - len / 2]].concat();
            match case / 5_usize.pow(u32::try_from(index).unwrap()) % 5 {
                0 => {}
                1 => std::fs::remove_file(&path).unwrap(),
                2 => write(&path, &[]),
                3 => write(&path, &bytes[..len / 2]),
                _ => write(&path, &zeroed),
            }
        }
        comes_back(&killed, &positions, &format!("case {case}"));
    }
}

/// Its primary was one for good when it wrote them, and is not any more.
#[test]
fn a_replica_syncs_what_was_in_the_log_before_that_goes_and_refuses_what_is_lost_of_it() {
    let (made, positions) = with_log();
    let whole = made.killed();
    let recorder = Arc::new(Recorder::new(RealDisk, whole.copy.path()).unwrap());
    let disk = Arc::clone(&recorder) as Arc<dyn Disk>;
    let recovered = recover(disk, &whole.directory(), Unsent::Drop, &|_| false).unwrap();
    assert_eq!(recovered.history.pos(), positions[6]);
    let events = recorder.events();
    let gone = events
        .iter()
        .position(|event| event.ends_with(":remove_file"))
        .unwrap();
    let synced = events[..gone].iter().filter(|event| *event == "ltx:sync_data");
    assert_eq!(synced.count(), 4, "{events:?}");

    let lost = made.killed();
    std::fs::remove_file(lost.ltx(positions[5].txid)).unwrap();
    let refused = lost.recover(Unsent::Drop);
    assert!(matches!(refused, Err(RecoverError::Gap { .. })), "{refused:?}");
    assert!(lost.directory().join("wal").exists());
}

/// Whoever makes a checkpoint may see a transaction before the daemon has heard of its end.
#[test]
fn a_transaction_that_a_checkpoint_copied_before_it_had_a_file_comes_back_alone() {
    let (made, positions) = with_log();
    let first = positions[4];
    let killed = made.killed();
    let file = std::fs::read(killed.ltx(first.txid)).unwrap();
    let header = ltx::verify(&file[..], Version::V1).unwrap().header;
    let (span, page_bytes) = (header.wal.unwrap(), header.page_size.as_usize());
    let range = usize::try_from(span.offset_bytes).unwrap()
        ..usize::try_from(span.offset_bytes + span.size_bytes).unwrap();
    let wal = std::fs::read(killed.directory().join("wal")).unwrap();
    killed.change("database", |database| {
        for frame in wal[range].chunks(24 + page_bytes) {
            let pgno = u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize;
            database.resize(database.len().max(pgno * page_bytes), 0);
            database[(pgno - 1) * page_bytes..pgno * page_bytes].copy_from_slice(&frame[24..]);
        }
    });
    for pos in &positions[4..] {
        std::fs::remove_file(killed.ltx(pos.txid)).unwrap();
    }
    comes_back(&killed, &positions, "copied");
}

#[test]
fn a_lost_ltx_file_that_the_log_does_not_hold_is_named_and_nothing_is_removed() {
    let (made, positions) = with_log();
    let last = positions[6];
    let killed = made.killed();
    let mut bytes = std::fs::read(killed.ltx(last.txid)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    write(&killed.ltx(last.txid), &bytes);
    killed.change("wal", |wal| *wal.last_mut().unwrap() ^= 1);
    let refused = killed.recover(KEEP);
    assert!(
        matches!(&refused, Err(RecoverError::Ltx { file, .. }) if file.max == last.txid),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(killed.ltx(last.txid)).unwrap(), bytes);

    let killed = made.killed();
    std::fs::remove_file(killed.ltx(positions[5].txid)).unwrap();
    // The log ends before the missing one.
    let file = std::fs::read(killed.ltx(positions[4].txid)).unwrap();
    let span = ltx::verify(&file[..], Version::V1).unwrap().header.wal.unwrap();
    let end = usize::try_from(span.offset_bytes + span.size_bytes).unwrap();
    killed.change("wal", |wal| wal.truncate(end));
    let refused = killed.recover(KEEP);
    assert!(matches!(refused, Err(RecoverError::Gap { .. })), "{refused:?}");
    assert!(killed.ltx(last.txid).exists());
}

#[test]
fn a_torn_end_of_the_log_is_nobody_s_transaction() {
    let made = Made::new("WAL");
    made.insert(3);
    let before = made.pos();
    made.insert(4);
    let killed = made.killed();
    std::fs::remove_file(killed.ltx(made.pos().txid)).unwrap();
    killed.change("wal", |wal| *wal.last_mut().unwrap() ^= 1);
    let recovered = killed.recover(KEEP).unwrap();
    assert_eq!((recovered.made, recovered.history.pos()), (None, before));
    assert_eq!(killed.rows(), 3);
}

/// LiteFS divides by zero here, at every start.
#[test]
fn a_live_journal_beside_an_empty_database_brings_nothing_back() {
    let made = Made::new("DELETE");
    made.run("BEGIN");
    made.insert(200);
    let killed = made.killed();
    std::fs::remove_dir_all(killed.directory().join("ltx")).unwrap();
    killed.change("database", Vec::clear);
    let recovered = killed.recover(KEEP).unwrap();
    assert_eq!(recovered.history.pos(), Pos::ZERO);
    assert!(!recovered.files.exists(FileKind::RollbackJournal));
}

#[test]
fn a_transaction_under_way_is_taken_back_and_one_that_has_its_file_is_finished() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST"] {
        let made = Made::new(mode);
        made.insert(50);
        let before = made.pos();
        made.run("BEGIN; UPDATE t SET v = randomblob(800)");
        let under_way = made.killed();
        made.run("COMMIT");
        let after = made.pos();
        let recovered = under_way.recover(KEEP).unwrap();
        assert_eq!(
            recovered.history.pos(),
            before,
            "{mode}: every page of it was in use"
        );
        assert_eq!(under_way.rows(), 50);

        let named = made.killed();
        // The daemon died between the file's name and the journal's end.
        let killed = made.killed();
        let journal = under_way_again(&made);
        write(&killed.directory().join("journal"), &journal.0);
        write(&killed.directory().join("database"), &journal.1);
        std::fs::copy(named.ltx(after.txid), killed.ltx(after.txid)).unwrap();
        assert_eq!(killed.recover(KEEP).unwrap().history.pos(), after, "{mode}");
    }
}

/// The journal and the database in the midst of another transaction.
fn under_way_again(made: &Made) -> (Vec<u8>, Vec<u8>) {
    made.run("BEGIN; UPDATE t SET v = randomblob(700)");
    let killed = made.killed();
    made.run("ROLLBACK");
    let read = |name| std::fs::read(killed.directory().join(name)).unwrap();
    (read("journal"), read("database"))
}

#[test]
fn a_database_that_is_not_where_its_transactions_left_it_is_refused_and_left_alone() {
    let made = Made::new("DELETE");
    made.insert(3);
    // The newest transaction has no copy of the page.
    made.run("CREATE TABLE other (v)");
    let killed = made.killed();
    killed.change("database", |database| database[5000] ^= 1);
    let before = std::fs::read(killed.directory().join("database")).unwrap();
    let refused = killed.recover(KEEP);
    assert!(
        matches!(refused, Err(RecoverError::Diverged { .. })),
        "{refused:?}"
    );
    assert_eq!(
        std::fs::read(killed.directory().join("database")).unwrap(),
        before
    );
}

#[test]
fn pages_of_the_newest_transaction_that_are_not_all_written_are_written_again() {
    let made = Made::new("DELETE");
    made.insert(3);
    for unsent in [KEEP, Unsent::Drop] {
        let killed = made.killed();
        killed.change("database", |database| database[5000] ^= 1);
        let recovered = killed.recover(unsent).unwrap();
        assert_eq!((recovered.history.pos(), recovered.made), (made.pos(), None));
    }
}

#[test]
fn a_damaged_newest_ltx_file_is_named() {
    let made = Made::new("DELETE");
    made.insert(3);
    let killed = made.killed();
    let path = killed.ltx(made.pos().txid);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    write(&path, &bytes);
    let refused = killed.recover(KEEP);
    assert!(
        matches!(&refused, Err(RecoverError::Ltx { file, .. }) if file.max == made.pos().txid),
        "{refused:?}"
    );
    bytes[92] = 0;
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&path).unwrap();
    write(&killed.ltx(Txid::new(99)), &bytes);
    let refused = killed.recover(KEEP);
    assert!(
        matches!(refused, Err(RecoverError::Misnamed { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_database_without_any_transaction_is_taken_up_whole_by_the_primary_alone() {
    let made = Made::new("DELETE");
    made.insert(30);
    let killed = made.killed();
    std::fs::remove_dir_all(killed.directory().join("ltx")).unwrap();
    let refused = killed.recover(Unsent::Drop);
    assert!(
        matches!(refused, Err(RecoverError::NoHistory { .. })),
        "{refused:?}"
    );
    let recovered = killed.recover(KEEP).unwrap();
    let expected = Pos {
        txid: Txid::FIRST,
        checksum: made.pos().checksum,
    };
    assert_eq!(recovered.history.pos(), expected);
}

#[test]
fn a_dropped_database_stays_dropped_and_goes_on_counting() {
    let made = Made::new("DELETE");
    made.insert(3);
    let with_files = made.killed();
    let before = made.pos();
    made.system.drop_database("a");
    let dropped = made.pos();
    assert_eq!(dropped.txid, before.txid.next().unwrap());
    assert_eq!(dropped.checksum, Checksum::EMPTY_DATABASE);
    // The daemon died after the transaction and before the files were gone.
    std::fs::copy(made.killed().ltx(dropped.txid), with_files.ltx(dropped.txid)).unwrap();
    let recovered = with_files.recover(KEEP).unwrap();
    assert_eq!(recovered.history.pos(), dropped);
    assert_eq!(recovered.files.len(FileKind::Database).unwrap(), 0);
    assert!(!recovered.files.exists(FileKind::Database));
    let again = with_files.recover(KEEP).unwrap();
    assert_eq!(again.history.pos(), dropped);
}

/// Whatever is damaged, and wherever: the database is as its position says, or is refused.
#[test]
fn damage_anywhere_is_refused_or_makes_no_difference() {
    let mut choices = Choices::new(1);
    let (mut refused, mut recovered) = (0, 0);
    for mode in ["DELETE", "PERSIST", "WAL"] {
        let made = Made::new(mode);
        made.insert(60);
        made.run("BEGIN; UPDATE t SET v = randomblob(800)");
        for _ in 0..60 {
            let killed = made.killed();
            let newest = format!("ltx/{0}-{0}.ltx", made.pos().txid);
            let name = choices.one_of(&["database", "journal", "wal", newest.as_str()]);
            if !killed.directory().join(name).exists() {
                continue;
            }
            killed.change(name, |bytes| {
                let len = u32::try_from(bytes.len()).unwrap();
                // Headers are where damage is worst.
                let reach = choices.one_of(&[100.min(len), len]);
                let at = choices.below(reach) as usize;
                match choices.below(3) {
                    0 => bytes[at] ^= 1 << choices.below(8),
                    1 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                    _ => bytes.truncate(at),
                }
            });
            match killed.recover(KEEP) {
                Err(_) => refused += 1,
                Ok(found) => {
                    recovered += 1;
                    let pos = found.history.pos();
                    let bytes = std::fs::read(killed.directory().join("database")).unwrap_or_default();
                    match found.history.page_size() {
                        Some(page_size) => assert_eq!(checksum(&bytes, page_size), pos.checksum),
                        None => assert!(bytes.is_empty()),
                    }
                }
            }
        }
    }
    assert!(
        refused > 20 && recovered > 20,
        "{refused} refused, {recovered} recovered"
    );
}
