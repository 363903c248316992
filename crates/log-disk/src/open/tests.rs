use super::*;
use crate::head::Stream;
use crate::testing::DISK;

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
