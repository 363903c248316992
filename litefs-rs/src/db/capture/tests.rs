use bytes::BufMut as _;
use ltx::Checksum;
use proptest::prelude::*;

use super::*;
use crate::db::{
    locks::{Owner, Request},
    page::JournalMode,
    testing::Memory,
    wal::{ByteOrder, WalChecksum},
};

const PAGE: PageSize = PageSize::MIN;
const PAGE_BYTES: usize = PAGE.as_usize();

/// A database in memory, what is captured of it, and what one gets who applies that.
struct Database {
    files: Memory,
    locks: Locks,
    capture: Capture,
    synced: Vec<FileKind>,
    /// A page's content is one byte, all over it.
    applied: Vec<Vec<u8>>,
    points: Vec<CommitPoint>,
    log: Option<(WalHeader, WalChecksum, u64)>,
}

impl Database {
    fn new() -> Self {
        Self {
            files: Memory::default(),
            locks: Locks::default(),
            capture: Capture::new(None, 0),
            synced: Vec::new(),
            applied: Vec::new(),
            points: Vec::new(),
            log: None,
        }
    }

    /// Takes an input and does what is asked for; then what the input announces.
    fn input(&mut self, input: Input<'_>) -> Result<(), CaptureError> {
        let mut outputs = Vec::new();
        self.capture
            .handle(input, &self.locks, &self.files, &mut outputs)?;
        for output in outputs {
            match output {
                Output::Sync(file) => {
                    self.synced.push(file);
                    self.input(Input::Synced { file })?;
                }
                Output::Commit(point) => {
                    self.apply(&point);
                    self.input(Input::Committed(&point))?;
                    self.points.push(point);
                }
            }
        }
        match input {
            Input::Write { file, offset, data } => {
                let content = self.files.0.entry(file).or_default();
                let from = usize::try_from(offset).unwrap();
                content.resize(content.len().max(from + data.len()), 0);
                content[from..from + data.len()].copy_from_slice(data);
            }
            Input::Truncate { file, len } => {
                let content = self.files.0.entry(file).or_default();
                content.resize(usize::try_from(len).unwrap(), 0);
            }
            Input::Unlink { file } => drop(self.files.0.remove(&file)),
            Input::UnlinkSuperJournal { .. }
            | Input::GiveUp { .. }
            | Input::Synced { .. }
            | Input::Committed(_) => {}
        }
        Ok(())
    }

    fn apply(&mut self, point: &CommitPoint) {
        let page_bytes = point.page_size.as_usize();
        self.applied
            .resize(point.commit_pages as usize, vec![0xee; page_bytes]);
        for (pgno, place) in &point.pages {
            let mut page = vec![0; page_bytes];
            read_page(&self.files, *place, &mut page).unwrap();
            self.applied[pgno.get() as usize - 1] = page;
        }
    }

    fn write(&mut self, file: FileKind, offset: usize, data: &[u8]) -> Result<(), CaptureError> {
        let offset = offset as u64;
        self.input(Input::Write { file, offset, data })
    }

    fn hold(&mut self, lock: LockByte, mode: Option<Mode>) {
        let request = Request {
            owner: Owner(1),
            file: lock.file(),
            range: lock.offset()..lock.offset() + 1,
            mode,
        };
        self.locks.request(&request).unwrap();
    }

    /// Appends frames to the log, the last of which commits `pages`.
    fn append(&mut self, writes: &[(u32, u8)], pages: u32) {
        self.hold(LockByte::WalWrite, Some(Mode::Exclusive));
        let (header, mut checksum, end) = match self.log {
            Some(log) => log,
            None => {
                let header = WalHeader {
                    order: ByteOrder::Little,
                    page_size: PAGE,
                    sequence: 0,
                    salts: (u32::try_from(self.points.len()).unwrap(), 5),
                };
                let (bytes, checksum) = header.encode();
                self.write(FileKind::Wal, 0, &bytes).unwrap();
                (header, checksum, 32)
            }
        };
        let mut frames = Vec::new();
        for (index, (number, fill)) in writes.iter().enumerate() {
            let commit = if index + 1 == writes.len() { pages } else { 0 };
            let page = page_of(*number, *fill, pages, JournalMode::Wal);
            checksum = header.encode_frame(&mut frames, checksum, Pgno::new(*number).unwrap(), commit, &page);
        }
        self.write(FileKind::Wal, usize::try_from(end).unwrap(), &frames)
            .unwrap();
        self.log = Some((header, checksum, end + frames.len() as u64));
    }

    fn give_up(&mut self, lock: LockByte, by: GiveUp) {
        self.input(Input::GiveUp { lock, by }).unwrap();
        self.hold(lock, None);
    }

    fn begin_journal(&mut self) {
        let mut header = rollback_journal::MAGIC.to_vec();
        header.put_bytes(0, 504);
        self.write(FileKind::RollbackJournal, 0, &header).unwrap();
    }

    /// Writes pages to the database and cuts or grows its file as SQLite does.
    fn write_pages(&mut self, writes: &[(u32, u8)], pages: u32) {
        for (number, fill) in writes {
            let page = page_of(*number, *fill, pages, JournalMode::Rollback);
            let offset = (*number as usize - 1) * PAGE_BYTES;
            self.write(FileKind::Database, offset, &page).unwrap();
        }
        let len = u64::from(pages) * PAGE_BYTES as u64;
        let file = FileKind::Database;
        self.input(Input::Truncate { file, len }).unwrap();
    }
}

fn page_of(number: u32, fill: u8, pages: u32, mode: JournalMode) -> Vec<u8> {
    let mut page = vec![fill; PAGE_BYTES];
    if number == 1 {
        page[..16].copy_from_slice(b"SQLite format 3\0");
        page[16..18].copy_from_slice(&[2, 0]);
        page[18..20].fill(if mode == JournalMode::Wal { 2 } else { 1 });
        page[28..32].copy_from_slice(&pages.to_be_bytes());
        page[92..96].copy_from_slice(&[fill; 4]);
    }
    page
}

/// A database of three pages, committed by a rollback journal.
fn three_pages() -> Database {
    let mut database = Database::new();
    database.begin_journal();
    database.write_pages(&[(1, 1), (2, 2), (3, 3)], 3);
    let file = FileKind::RollbackJournal;
    database.input(Input::Unlink { file }).unwrap();
    assert_eq!(database.points.len(), 1);
    database
}

#[test]
fn what_a_writer_left_who_died_is_taken_only_when_another_gives_the_lock_up_after_it() {
    let mut database = three_pages();
    database.append(&[(1, 7), (2, 7)], 3);
    let left = database.log.take();
    database.give_up(LockByte::WalWrite, GiveUp::Close);
    assert_eq!(database.points.len(), 1, "nobody was told that it is committed");
    // Nobody rebuilt the index: the next writer overwrites the frames.
    let (header, _, _) = left.unwrap();
    database.log = Some((header, header.encode().1, 32));
    database.append(&[(3, 9)], 3);
    database.give_up(LockByte::WalWrite, GiveUp::Request);
    let pages: Vec<u32> = database.points[1].pages.keys().map(|pgno| pgno.get()).collect();
    assert_eq!(pages, [3]);
    // One dies again, and this time somebody recovers the log, which gives the lock up without writing.
    database.append(&[(2, 8)], 3);
    database.give_up(LockByte::WalWrite, GiveUp::Close);
    database.hold(LockByte::WalWrite, Some(Mode::Exclusive));
    database.give_up(LockByte::WalWrite, GiveUp::Request);
    assert_eq!(database.points.len(), 3);
    assert_eq!(database.applied[1][0], 8);
}

#[test]
fn the_log_may_not_be_written_without_its_lock_nor_where_it_holds_transactions() {
    let mut database = three_pages();
    database.append(&[(2, 7)], 3);
    database.give_up(LockByte::WalWrite, GiveUp::Request);
    let refused = database.write(FileKind::Wal, 2000, &[0; 24]);
    assert!(
        matches!(refused, Err(CaptureError::LogWithoutLock)),
        "{refused:?}"
    );
    database.hold(LockByte::WalWrite, Some(Mode::Exclusive));
    let refused = database.write(FileKind::Wal, 32, &[0; 24]);
    assert!(
        matches!(
            refused,
            Err(CaptureError::OverwritesLog {
                offset: 32,
                captured: 568
            })
        ),
        "{refused:?}"
    );
    let (file, len) = (FileKind::Wal, 567);
    let refused = database.input(Input::Truncate { file, len });
    assert!(
        matches!(
            refused,
            Err(CaptureError::CutsLog {
                len: 567,
                captured: 568
            })
        ),
        "{refused:?}"
    );
    database.input(Input::Truncate { file, len: 568 }).unwrap();
}

#[test]
fn a_journal_that_never_was_live_ends_nothing() {
    let mut database = three_pages();
    let file = FileKind::RollbackJournal;
    database.write(file, 0, &[0; 512]).unwrap();
    database.input(Input::Truncate { file, len: 0 }).unwrap();
    database.write(file, 0, &[0; 28]).unwrap();
    database.input(Input::Unlink { file }).unwrap();
    assert_eq!(database.points.len(), 1);
}

#[test]
fn every_way_to_finish_a_journal_ends_its_transaction() {
    let ways: [fn(&mut Database); 3] = [
        |database| {
            database
                .input(Input::Unlink {
                    file: FileKind::RollbackJournal,
                })
                .unwrap()
        },
        |database| {
            let file = FileKind::RollbackJournal;
            database.input(Input::Truncate { file, len: 0 }).unwrap();
        },
        |database| database.write(FileKind::RollbackJournal, 0, &[0; 28]).unwrap(),
    ];
    for finish in ways {
        let mut database = three_pages();
        database.begin_journal();
        database.write_pages(&[(1, 4), (4, 4)], 5);
        database.write(FileKind::RollbackJournal, 512, &[1; 100]).unwrap();
        assert_eq!(database.points.len(), 1, "more of the journal ends nothing");
        finish(&mut database);
        let point = &database.points[1];
        let pages: Vec<u32> = point.pages.keys().map(|pgno| pgno.get()).collect();
        assert_eq!((point.trigger, point.commit_pages), (Trigger::Journal, 5));
        assert_eq!(pages, [1, 4, 5], "the page that nobody wrote is new all the same");
        finish(&mut database);
        assert_eq!(database.points.len(), 2, "once is enough");
    }
}

#[test]
fn a_new_page_that_the_log_does_not_have_comes_from_the_database() {
    let mut database = three_pages();
    database.append(&[(1, 7), (4, 7)], 5);
    database.give_up(LockByte::WalWrite, GiveUp::Request);
    let places: Vec<_> = database.points[1]
        .pages
        .iter()
        .map(|(pgno, place)| (pgno.get(), place.file))
        .collect();
    let (log, file) = (FileKind::Wal, FileKind::Database);
    assert_eq!(places, [(1, log), (4, log), (5, file)]);
    assert_eq!(
        database.applied[4], [0; PAGE_BYTES],
        "behind the end of the file it is zeros"
    );
}

#[test]
fn a_log_is_emptied_only_when_what_was_copied_from_it_is_durable() {
    let mut database = three_pages();
    database.append(&[(2, 7)], 3);
    database.give_up(LockByte::WalWrite, GiveUp::Request);
    assert_eq!(
        database.synced,
        [FileKind::RollbackJournal, FileKind::Database, FileKind::Wal],
        "each before its commit"
    );
    database.write_pages(&[(2, 7)], 3);
    let file = FileKind::Wal;
    database.hold(LockByte::WalWrite, Some(Mode::Exclusive));
    database.input(Input::Truncate { file, len: 0 }).unwrap();
    assert_eq!(database.synced.last(), Some(&FileKind::Database));
    assert_eq!(database.synced.len(), 4);
}

#[test]
fn the_end_of_a_journal_is_durable_before_the_next_transaction_counts() {
    let mut database = three_pages();
    let (file, journal) = (FileKind::RollbackJournal, FileKind::RollbackJournal);
    database.begin_journal();
    database.input(Input::Synced { file }).unwrap();
    database.write_pages(&[(1, 4)], 3);
    database.synced.clear();
    database.write(file, 0, &[0; 28]).unwrap();
    assert_eq!(
        database.synced,
        [FileKind::Database],
        "SQLite has synced its journal"
    );
    database.append(&[(2, 7)], 3);
    database.give_up(LockByte::WalWrite, GiveUp::Request);
    assert_eq!(database.synced[1..], [journal, FileKind::Wal], "but not its end");
}

#[test]
fn a_super_journal_ends_the_transactions_that_name_it_and_no_others() {
    let mut database = three_pages();
    database.begin_journal();
    database.write_pages(&[(1, 4), (2, 4)], 3);
    let mut end = b"/mnt/db-mj1".to_vec();
    let sum = end.iter().map(|byte| u32::from(*byte)).sum();
    end.put_u32(11);
    end.put_u32(sum);
    end.put_slice(&rollback_journal::MAGIC);
    database.write(FileKind::RollbackJournal, 512, &end).unwrap();
    database
        .input(Input::UnlinkSuperJournal { name: b"db-mj2" })
        .unwrap();
    assert_eq!(database.points.len(), 1);
    database
        .input(Input::UnlinkSuperJournal { name: b"db-mj1" })
        .unwrap();
    assert_eq!(database.points[1].trigger, Trigger::SuperJournal);
    let file = FileKind::RollbackJournal;
    database.input(Input::Unlink { file }).unwrap();
    assert_eq!(
        database.points.len(),
        2,
        "its own journal has nothing left to end"
    );
}

#[test]
fn pages_of_another_size_are_all_there_and_a_dropped_database_is_forgotten() {
    let mut database = three_pages();
    database.begin_journal();
    let mut pages = vec![5; 2048];
    pages[..100].copy_from_slice(&page_of(1, 5, 2, JournalMode::Rollback)[..100]);
    pages[16] = 4;
    database.write(FileKind::Database, 0, &pages[..1000]).unwrap();
    let file = FileKind::Database;
    database.input(Input::Truncate { file, len: 2048 }).unwrap();
    database.write(FileKind::Database, 1000, &pages[1000..]).unwrap();
    database
        .input(Input::Unlink {
            file: FileKind::RollbackJournal,
        })
        .unwrap();
    let point = database.points.last().unwrap();
    assert!(point.resizes_pages && point.page_size.bytes() == 1024 && point.pages.len() == 2);
    database.input(Input::Unlink { file }).unwrap();
    assert_eq!(database.points.last().unwrap().trigger, Trigger::Drop);
    let count = database.points.len();
    database.input(Input::Unlink { file }).unwrap();
    assert_eq!(database.points.len(), count, "there is nothing to drop");
    database.begin_journal();
    database.write_pages(&[(1, 1)], 1);
    database
        .input(Input::Unlink {
            file: FileKind::RollbackJournal,
        })
        .unwrap();
    assert!(
        !database.points.last().unwrap().resizes_pages,
        "any size is as good"
    );
}

#[derive(Debug, Clone)]
enum Action {
    /// By a rollback journal: pages written, size afterwards.
    Journal(Vec<(u32, u8)>, u32),
    /// By the log.
    Append(Vec<(u32, u8)>, u32),
    /// Without any journal.
    Unjournaled(Vec<(u32, u8)>, u32),
    /// The log is copied into the database; then it is begun anew, or not yet.
    Checkpoint(bool),
}

fn any_action() -> impl Strategy<Value = Action> {
    let writes = || (prop::collection::vec((1_u32..9, any::<u8>()), 0..5), 1_u32..9);
    prop_oneof![
        1 => writes().prop_map(|(pages, size)| Action::Journal(pages, size)),
        3 => writes().prop_map(|(pages, size)| Action::Append(pages, size)),
        1 => writes().prop_map(|(pages, size)| Action::Unjournaled(pages, size)),
        1 => any::<bool>().prop_map(Action::Checkpoint),
    ]
}

/// The database as a list of pages: page 1 is written by every transaction, and so are new ones by those of the log, as
/// SQLite does.
struct Model(Vec<Vec<u8>>);

impl Model {
    fn change(&mut self, writes: &[(u32, u8)], size: u32, mode: JournalMode) -> Vec<(u32, u8)> {
        let before = u32::try_from(self.0.len()).unwrap();
        let mut done: Vec<(u32, u8)> = writes
            .iter()
            .copied()
            .filter(|(number, _)| *number <= size)
            .collect();
        if mode == JournalMode::Wal {
            done.extend((before + 1..=size).map(|number| (number, 0x77)));
        }
        done.push((1, u8::try_from(done.len()).unwrap()));
        self.0.resize(size as usize, vec![0; PAGE_BYTES]);
        for (number, fill) in &done {
            self.0[*number as usize - 1] = page_of(*number, *fill, size, mode);
        }
        done
    }
}

proptest! {
    #[test]
    fn prop_what_is_captured_makes_the_database_that_was_written(
        actions in prop::collection::vec(any_action(), 1..25),
    ) {
        let mut database = Database::new();
        let mut model = Model(Vec::new());
        for action in actions {
            let in_log = database.log.is_some();
            match action {
                Action::Journal(writes, size) if !in_log => {
                    let writes = model.change(&writes, size, JournalMode::Rollback);
                    database.begin_journal();
                    database.write_pages(&writes, size);
                    let file = FileKind::RollbackJournal;
                    database.input(Input::Unlink { file }).unwrap();
                }
                Action::Append(writes, size) if !model.0.is_empty() => {
                    let writes = model.change(&writes, size, JournalMode::Wal);
                    database.append(&writes, size);
                    database.give_up(LockByte::WalWrite, GiveUp::Request);
                }
                Action::Unjournaled(writes, size) if !in_log => {
                    let writes = model.change(&writes, size, JournalMode::Rollback);
                    database.hold(LockByte::Shared, Some(Mode::Exclusive));
                    database.write_pages(&writes, size);
                    database.give_up(LockByte::Shared, GiveUp::Request);
                }
                Action::Checkpoint(anew) if in_log => {
                    let pages: Vec<_> = model.0.iter().flatten().copied().collect();
                    database.write(FileKind::Database, 0, &pages).unwrap();
                    let len = pages.len() as u64;
                    database.input(Input::Truncate { file: FileKind::Database, len }).unwrap();
                    if anew {
                        database.input(Input::Unlink { file: FileKind::Wal }).unwrap();
                        database.log = None;
                    }
                }
                Action::Journal(..) | Action::Append(..) | Action::Unjournaled(..) | Action::Checkpoint(_) => {}
            }
            prop_assert_eq!(&database.applied, &model.0);
            for (number, expected) in (1..).zip(&model.0) {
                let mut page = vec![0; PAGE_BYTES];
                let pgno = Pgno::new(number).unwrap();
                let place = database.capture.place(pgno).unwrap();
                read_page(&database.files, place, &mut page).unwrap();
                prop_assert_eq!(Checksum::of_page(pgno, &page), Checksum::of_page(pgno, expected));
            }
        }
    }
}
