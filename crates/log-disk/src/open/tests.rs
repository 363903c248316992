use super::*;
use crate::head::Stream;
use crate::testing::{DISK, SALT, sealer};

const OURS: JournalId = JournalId([1; 16]);
const THEIRS: JournalId = JournalId([2; 16]);

fn superblock(epoch: u32, adopting: u32) -> Superblock {
    Superblock {
        disk: DISK,
        journal: OURS,
        revision: 1,
        ring_pages: 100,
        epoch: Epoch(epoch),
        adopting: Epoch(adopting),
        tail_position: 0,
        tail_seq: Seq(1),
        tail_epoch: Epoch(0),
        tail_crc: 0,
        durable_seq: Seq(0),
    }
}

/// The judgement of a journal of ours, when the newest stream is `owner`'s in `epoch` and the newest claim is `claimed`.
fn judge(journal: &Superblock, stream: Option<(u32, JournalId)>, claimed: u32) -> JournalState {
    let mut head = Head::new(DISK, 100, Vec::new());
    head.epoch = Epoch(claimed);
    head.streams.extend(stream.map(|(epoch, owner)| Stream {
        epoch: Epoch(epoch),
        owner,
        begin: ObjectSeq(1),
        after: ObjectSeq(0),
    }));
    judge_journal(journal, &head)
}

fn stale(journal: u32, disk: u32) -> JournalState {
    JournalState::Stale {
        journal: Epoch(journal),
        disk: Epoch(disk),
    }
}

#[test]
fn the_journal_of_the_newest_stream_is_replayed() {
    assert_eq!(
        judge(&superblock(4, 0), Some((4, OURS)), 4),
        JournalState::Continues
    );
}

#[test]
fn claims_that_nobody_completed_do_not_matter() {
    assert_eq!(
        judge(&superblock(4, 0), Some((4, OURS)), 9),
        JournalState::Continues
    );
    assert_eq!(
        judge(&superblock(4, 7), Some((4, OURS)), 9),
        JournalState::Continues
    );
}

#[test]
fn a_process_that_died_between_head_and_superblock_finds_its_journal_again() {
    assert_eq!(
        judge(&superblock(4, 5), Some((5, OURS)), 5),
        JournalState::Continues
    );
}

#[test]
fn a_journal_that_comes_back_after_another_went_on_is_never_replayed() {
    assert_eq!(judge(&superblock(4, 0), Some((5, THEIRS)), 5), stale(4, 5));
    assert_eq!(judge(&superblock(4, 5), Some((5, THEIRS)), 5), stale(4, 5));
}

#[test]
fn an_old_copy_of_a_slice_is_never_replayed() {
    assert_eq!(judge(&superblock(4, 0), Some((6, OURS)), 6), stale(4, 6));
}

#[test]
fn a_journal_that_was_never_written_to_misses_nothing() {
    assert_eq!(
        judge(&superblock(0, 5), Some((4, THEIRS)), 5),
        JournalState::Unused
    );
    assert_eq!(judge(&superblock(0, 1), None, 1), JournalState::Unused);
}

#[derive(Debug)]
struct NoPages;

impl PageStore for NoPages {
    fn store(&mut self, leaf: u32, _: &[u8]) {
        panic!("leaf {leaf} of an empty map")
    }

    fn load(&mut self, _: u32) -> std::io::Result<Vec<u8>> {
        Err(std::io::Error::other("nothing was stored"))
    }
}

/// The first opening dies after HEAD names its epoch 4, this one claims 5: should it die as well, the journal must be known
/// as that of epoch 4 or 5, not of 3 or 5.
#[test]
fn a_journal_is_still_known_as_ours_when_two_openings_in_a_row_die() {
    let mut head = Head::new(DISK, 100, Vec::new());
    head.epoch = Epoch(4);
    head.owner = OURS;
    head.streams.push(Stream {
        epoch: Epoch(4),
        owner: OURS,
        begin: ObjectSeq(1),
        after: ObjectSeq(0),
    });
    let options = OpenOptions {
        config: Config::default(),
        sealer: Arc::new(sealer()),
        bases: Vec::new(),
        salt: SALT,
        new_journal: THEIRS,
        ring_pages: 100,
        discard_stale_journal: false,
        discard_damaged_journal: false,
        roll_back_to: None,
        force: false,
        pages: Some(NoPages),
    };
    let (mut opening, _) = Opening::new(options);
    let bytes = head.encode(&sealer(), SALT).into();
    let etag = || Etag("1".to_owned());
    let answers = [
        Answer::Superblocks(Some([superblock(3, 4).encode(), vec![0; 4096]])),
        Answer::Head(GotHead::Found { bytes, etag: etag() }),
        Answer::HeadPut(HeadPut::Stored(etag())),
        Answer::Listed(Vec::new()),
    ];
    let mut ask = answers
        .map(|answer| opening.answer(Time(1), answer))
        .into_iter()
        .last();
    while let Some(Ask::ReadRing { .. }) = ask {
        ask = Some(opening.answer(Time(1), Answer::Ring(None)));
    }
    let Ask::WriteSuperblock(written) = opening.answer(Time(1), Answer::Done) else {
        panic!("the journal is not told")
    };
    assert_eq!((written.epoch, written.adopting), (Epoch(4), Epoch(5)));
}
