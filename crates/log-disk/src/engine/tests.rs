use std::io;

use bytes::Bytes;

use super::*;
use crate::head::Stream;
use crate::testing::{DISK, SALT, page_seal, sealer};
use crate::{BLOCK_BYTES, JournalId, Lba, Role, Superblock, seal_object};

#[derive(Debug, Default)]
struct NoPages;

impl PageStore for NoPages {
    fn store(&mut self, leaf: u32, _: &[u8]) {
        panic!("leaf {leaf} is paged out of a small map")
    }

    fn load(&mut self, _: u32) -> io::Result<Vec<u8>> {
        Err(io::Error::other("nothing was stored"))
    }
}

fn head() -> Head {
    let mut head = Head::new(DISK, 1 << 20, vec![1; 85]);
    head.epoch = Epoch(3);
    head.owner = JournalId([4; 16]);
    head.streams.push(Stream {
        epoch: Epoch(3),
        owner: JournalId([4; 16]),
        begin: ObjectSeq(1),
        after: ObjectSeq(0),
    });
    head
}

/// An engine, its clock and what it asked for and nobody has done yet.
struct Bench {
    engine: Engine<NoPages>,
    now: Time,
    out: Vec<Output>,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self::after(config, Vec::new())
    }

    /// An engine that finds records of an earlier life in its journal.
    fn after(config: Config, records: Vec<crate::Record>) -> Self {
        let superblock = Superblock {
            disk: DISK,
            journal: JournalId([4; 16]),
            revision: 5,
            ring_pages: 4096,
            epoch: Epoch(3),
            adopting: Epoch(0),
            tail_position: 0,
            tail_seq: Seq(1),
            tail_epoch: Epoch(3),
            tail_crc: 0,
            durable_seq: Seq(0),
        };
        let engine = Engine::new(Start {
            map: ExtentMap::new(NoPages, page_seal(), config.map_runs_max),
            config,
            sealer: Arc::new(sealer()),
            lineage: Lineage::new(&head(), Arc::new(sealer()), &[]).unwrap(),
            salt: SALT,
            now: Time(0),
            head: head(),
            etag: Etag("1".to_owned()),
            confirmed: Time(0),
            leaves: BTreeMap::new(),
            objects: Objects::default(),
            next_object: ObjectSeq(1),
            data_seq: ObjectSeq(0),
            durable_seq: Seq(0),
            objects_since_checkpoint: 0,
            superblock,
            next_position: records.last().map_or(0, |record| record.header.end()),
            next_seq: Seq(1 + records.len() as u64),
            last_crc: records.last().map_or(0, |record| record.crc),
            records,
        });
        Self {
            engine,
            now: Time(0),
            out: Vec::new(),
        }
    }

    fn local() -> Self {
        Self::new(Config::default())
    }

    fn tell(&mut self, input: Input) {
        self.engine.handle(self.now, input, &mut self.out);
    }

    fn ask(&mut self, id: u64, request: Request) {
        let id = RequestId(id);
        self.tell(Input::Request { id, request });
    }

    fn write(&mut self, id: u64, lba: u64, fua: bool) {
        let data = Bytes::from(vec![7; BLOCK_BYTES]);
        let lba = Lba(lba);
        self.ask(id, Request::Write { lba, data, fua });
    }

    fn appended(&mut self, seq: u64) {
        self.tell(Input::Appended {
            seq: Seq(seq),
            done: true,
        });
    }

    fn pass(&mut self, micros: u64) {
        self.now = self.now.plus(micros);
        self.tell(Input::Tick);
    }

    /// Takes the requests that ended since the last call.
    fn ended(&mut self) -> Vec<(u64, Outcome)> {
        let ended = self
            .out
            .extract_if(.., |output| matches!(output, Output::Complete { .. }));
        ended
            .filter_map(|output| match output {
                Output::Complete { request, outcome } => Some((request.0, outcome)),
                _ => None,
            })
            .collect()
    }

    fn take<T>(&mut self, pick: impl Fn(&Output) -> Option<T>) -> Option<T> {
        let at = self.out.iter().position(|output| pick(output).is_some())?;
        pick(&self.out.remove(at))
    }

    /// Puts together the object that was asked for; the guest's blocks are all alike.
    fn seal(&mut self) -> ObjectSeq {
        let job = self.take(|output| match output {
            Output::Seal(job) => Some(job.clone()),
            _ => None,
        });
        let job = job.expect("an object to be put together");
        let block =
            |run: &crate::ToSeal| Bytes::from(vec![7; usize::try_from(run.blocks).unwrap() * BLOCK_BYTES]);
        let data: Vec<Bytes> = job.runs.iter().map(block).collect();
        let seq = job.header.seq;
        let object = seal_object(&sealer(), job.compression, job.header, &job.runs, &data);
        self.tell(Input::Sealed {
            seq,
            object: Some(object),
        });
        seq
    }

    fn stored(&mut self, seq: ObjectSeq, outcome: PutOutcome) {
        let name = ObjectName {
            role: Role::Data,
            seq,
            epoch: Epoch(3),
        };
        self.tell(Input::Put { name, outcome });
    }
}

const DONE: Outcome = Outcome::Done;

#[test]
fn writes_are_answered_in_their_order_whichever_ends_first() {
    let mut bench = Bench::local();
    bench.write(1, 10, false);
    bench.write(2, 20, false);
    bench.appended(2);
    assert_eq!(bench.ended(), []);
    bench.appended(1);
    assert_eq!(bench.ended(), [(1, DONE), (2, DONE)]);
}

#[test]
fn a_pad_that_an_earlier_life_left_at_the_end_keeps_no_remote_flush_waiting() {
    let header = crate::RecordHeader {
        kind: crate::RecordKind::Pad,
        disk: DISK,
        epoch: Epoch(2),
        pages: 5,
        seq: Seq(1),
        position: 0,
        salt: SALT,
        previous_crc: 0,
        durable_seq: Seq(0),
    };
    let (_, pad) = crate::Record::encode(&sealer(), header, &[]);
    let config = Config {
        durability: Durability::Remote,
        ..Config::default()
    };
    let mut bench = Bench::after(config, vec![pad]);
    bench.ask(1, Request::Flush);
    bench.pass(1);
    assert_eq!(bench.ended(), [(1, DONE)]);
    assert_eq!(bench.engine.stats().lag, Lag::default());
}

#[test]
fn the_superblock_learns_within_a_second_what_is_durable() {
    let mut bench = Bench::local();
    bench.write(1, 10, true);
    bench.appended(1);
    bench.tell(Input::Synced { done: true });
    let written = |output: &Output| match output {
        Output::WriteSuperblock { superblock } => Some(superblock.durable_seq),
        _ => None,
    };
    assert_eq!(bench.take(written), None);
    assert!(bench.engine.deadline().is_some_and(|at| at <= Time(1_000_000)));
    bench.pass(1_000_000);
    assert_eq!(bench.take(written), Some(Seq(1)));
}

#[test]
fn what_arrives_while_records_are_written_goes_into_one() {
    let mut bench = Bench::new(Config {
        appends_max: 1,
        ..Config::default()
    });
    for id in 1..=5 {
        bench.write(id, id * 10, false);
    }
    bench.appended(1);
    assert_eq!(bench.ended(), [(1, DONE)]);
    bench.appended(2);
    assert_eq!(bench.ended(), [(2, DONE), (3, DONE), (4, DONE), (5, DONE)]);
}

#[test]
fn a_write_with_fua_waits_for_the_records_before_it_and_for_a_sync() {
    let mut bench = Bench::local();
    bench.write(1, 10, false);
    bench.write(2, 20, true);
    bench.appended(2);
    assert!(
        !bench.out.contains(&Output::Sync),
        "a sync over a hole proves nothing"
    );
    bench.appended(1);
    assert_eq!(bench.ended(), [(1, DONE)]);
    assert!(bench.out.contains(&Output::Sync));
    bench.tell(Input::Synced { done: true });
    assert_eq!(bench.ended(), [(2, DONE)]);
}

#[test]
fn a_flush_covers_what_was_answered_before_it_and_a_sync_what_was_written_before_it() {
    let mut bench = Bench::local();
    bench.write(1, 10, false);
    bench.appended(1);
    bench.ask(2, Request::Flush);
    bench.write(3, 20, false);
    bench.appended(2);
    bench.ask(4, Request::Flush);
    bench.ended();
    bench.tell(Input::Synced { done: true });
    assert_eq!(
        bench.ended(),
        [(2, DONE)],
        "the second write came after the sync was asked for"
    );
    bench.tell(Input::Synced { done: true });
    assert_eq!(bench.ended(), [(4, DONE)]);
}

#[test]
fn a_remote_flush_waits_for_the_gap_free_prefix_of_objects() {
    let mut bench = Bench::new(Config {
        durability: Durability::Remote,
        ..Config::default()
    });
    bench.write(1, 10, true);
    bench.appended(1);
    let first = bench.seal();
    bench.write(2, 20, true);
    bench.appended(2);
    let second = bench.seal();
    bench.stored(second, PutOutcome::Stored);
    assert_eq!(bench.ended(), []);
    bench.stored(first, PutOutcome::Unknown);
    assert_eq!(bench.ended(), []);
    bench.stored(first, PutOutcome::Stored);
    assert_eq!(bench.ended(), [(1, DONE), (2, DONE)]);
    assert_eq!(bench.engine.stats().durable_seq, Seq(2));
}

#[test]
fn the_class_of_a_flush_is_that_of_the_moment_it_was_asked_for() {
    let mut bench = Bench::local();
    bench.write(1, 10, false);
    bench.appended(1);
    bench.ask(2, Request::Flush);
    bench.tell(Input::SetDurability(Durability::Remote));
    bench.ask(3, Request::Flush);
    bench.ended();
    bench.tell(Input::Synced { done: true });
    assert_eq!(bench.ended(), [(2, DONE)]);
    bench.tell(Input::SetDurability(Durability::None));
    bench.ask(4, Request::Flush);
    assert_eq!(bench.ended(), [(4, DONE)]);
}

#[test]
fn a_read_takes_the_journal_over_the_objects_and_zeros_where_neither_has_anything() {
    let mut bench = Bench::local();
    bench.write(1, 10, false);
    bench.appended(1);
    bench.pass(3_000_000);
    let object = bench.seal();
    bench.stored(object, PutOutcome::Stored);
    bench.write(2, 11, false);
    bench.appended(2);
    bench.ask(
        3,
        Request::Zero {
            lba: Lba(12),
            blocks: 1,
            fua: false,
        },
    );
    bench.appended(3);
    let (lba, blocks) = (Lba(9), 5);
    bench.ask(4, Request::Read { lba, blocks });
    let parts = bench.take(|output| match output {
        Output::Read { parts, .. } => Some(parts.clone()),
        _ => None,
    });
    let kinds: Vec<_> = parts
        .expect("a read")
        .iter()
        .map(|part| {
            let kind = match part.source {
                None => "zeros",
                Some(crate::Source::Object { .. }) => "object",
                Some(crate::Source::Journal { .. }) => "journal",
            };
            (part.lba.0, part.blocks, kind)
        })
        .collect();
    let expected = [
        (9, 1, "zeros"),
        (10, 1, "object"),
        (11, 1, "journal"),
        (12, 1, "zeros"),
        (13, 1, "zeros"),
    ];
    assert_eq!(kinds, expected);
}

fn look(bench: &mut Bench) -> Time {
    let asked = bench.take(|output| match output {
        Output::GetHead { asked } => Some(*asked),
        _ => None,
    });
    asked.expect("a look at HEAD")
}

fn found(head: &Head, etag: &str) -> GotHead {
    GotHead::Found {
        bytes: head.encode(&sealer(), SALT).into(),
        etag: Etag(etag.to_owned()),
    }
}

#[test]
fn with_stop_answers_cease_when_nobody_confirms_ownership_and_go_on_when_somebody_does() {
    let mut bench = Bench::new(Config {
        on_outage: OnOutage::Stop,
        ..Config::default()
    });
    bench.pass(9_000_000);
    let asked = look(&mut bench);
    bench.write(1, 10, false);
    bench.pass(2_000_000);
    bench.appended(1);
    assert_eq!(bench.ended(), []);
    let got = found(&head(), "1");
    bench.tell(Input::Head { asked, got });
    assert_eq!(bench.ended(), [(1, DONE)]);
    bench.pass(8_000_000);
    bench.write(2, 10, false);
    bench.appended(2);
    assert_eq!(
        bench.ended(),
        [],
        "ten seconds after the look was asked for, not after it was answered"
    );
}

#[test]
fn with_ride_an_outage_stops_nobody() {
    let mut bench = Bench::local();
    bench.pass(900_000_000);
    bench.write(1, 10, false);
    bench.appended(1);
    assert_eq!(bench.ended(), [(1, DONE)]);
}

#[test]
fn another_owner_in_head_ends_everything() {
    let mut bench = Bench::local();
    bench.write(1, 10, false);
    bench.pass(5_000_000);
    let asked = look(&mut bench);
    let mut theirs = head();
    theirs.epoch = Epoch(4);
    bench.tell(Input::Head {
        asked,
        got: found(&theirs, "2"),
    });
    assert_eq!(bench.engine.stopped(), Some(Stopped::Fenced { by: Epoch(4) }));
    assert_eq!(bench.ended(), [(1, Outcome::Failed)]);
    bench.write(2, 10, false);
    bench.appended(1);
    assert_eq!(bench.ended(), [(2, Outcome::Failed)]);
}

#[test]
fn a_head_that_cannot_be_read_is_not_taken_for_anything() {
    let mut bench = Bench::local();
    bench.pass(5_000_000);
    let asked = look(&mut bench);
    let got = GotHead::Unknown;
    bench.tell(Input::Head { asked, got });
    assert_eq!(bench.engine.stopped(), None);
    bench.pass(60_000_000);
    let asked = look(&mut bench);
    let got = GotHead::Missing;
    bench.tell(Input::Head { asked, got });
    assert_eq!(bench.engine.stopped(), Some(Stopped::Head));
}

#[test]
fn a_swap_whose_answer_was_lost_is_recognised_as_our_own() {
    let mut bench = Bench::local();
    let size_blocks = 2 << 20;
    bench.ask(1, Request::Grow { size_blocks });
    let body = bench.take(|output| match output {
        Output::PutHead { body, .. } => Some(body.clone()),
        _ => None,
    });
    let bytes = body.expect("a swap of HEAD");
    let outcome = HeadPut::Stale;
    bench.tell(Input::HeadPut { outcome });
    bench.pass(1_000_000);
    let asked = look(&mut bench);
    let etag = Etag("2".to_owned());
    bench.tell(Input::Head {
        asked,
        got: GotHead::Found { bytes, etag },
    });
    assert_eq!(bench.ended(), [(1, DONE)]);
    assert!(bench.out.contains(&Output::Resized { size_blocks }));
    assert_eq!(bench.engine.size_blocks(), size_blocks);
}

#[test]
fn a_disk_never_shrinks() {
    let mut bench = Bench::local();
    bench.ask(1, Request::Grow { size_blocks: 5 });
    assert_eq!(bench.ended(), [(1, Outcome::Refused)]);
}

#[test]
fn a_journal_that_cannot_be_written_ends_everything() {
    let mut bench = Bench::local();
    bench.write(1, 10, false);
    bench.tell(Input::Appended {
        seq: Seq(1),
        done: false,
    });
    assert_eq!(bench.engine.stopped(), Some(Stopped::Journal));
    assert_eq!(bench.ended(), [(1, Outcome::Failed)]);
}

#[test]
fn a_full_ring_lets_nothing_in_until_the_store_has_taken_something() {
    let mut bench = Bench::local();
    let mut id = 0;
    let mut seq = 0;
    loop {
        let before = bench.engine.stats().accepted_seq;
        id += 1;
        let data = Bytes::from(vec![7; 512 * BLOCK_BYTES]);
        let lba = Lba(id * 512);
        bench.ask(
            id,
            Request::Write {
                lba,
                data,
                fua: false,
            },
        );
        let accepted = bench.engine.stats().accepted_seq;
        if accepted == before {
            break;
        }
        while seq < accepted.0 {
            seq += 1;
            bench.appended(seq);
        }
        bench.pass(600_000);
        bench.ended();
    }
    assert!(
        bench.engine.stats().ring_permille > 700,
        "{:?}",
        bench.engine.stats()
    );
    bench.pass(600_000_000);
    assert_eq!(bench.ended(), []);
    while bench.out.iter().any(|output| matches!(output, Output::Seal(_))) {
        let object = bench.seal();
        bench.stored(object, PutOutcome::Stored);
    }
    bench.tell(Input::SuperblockWritten { done: true });
    seq += 1;
    bench.appended(seq);
    bench.pass(1_000_000);
    while seq < bench.engine.stats().accepted_seq.0 {
        seq += 1;
        bench.appended(seq);
        bench.pass(1_000_000);
    }
    assert_eq!(bench.ended().last(), Some(&(id, DONE)));
}

#[test]
fn a_sweep_takes_what_former_epochs_left_and_nothing_that_is_ours() {
    let mut bench = Bench::local();
    let name = |seq, epoch| ObjectName {
        role: Role::Data,
        seq: ObjectSeq(seq),
        epoch: Epoch(epoch),
    };
    bench.write(1, 10, false);
    bench.appended(1);
    bench.pass(3_000_000);
    let object = bench.seal();
    bench.stored(object, PutOutcome::Stored);
    bench.write(2, 10, false);
    bench.appended(2);
    bench.pass(3_000_000);
    let on_its_way = bench.seal();
    assert_eq!((object, on_its_way), (ObjectSeq(1), ObjectSeq(2)));
    let of_others = [name(1, 2), name(9, 2)];
    let names = vec![name(1, 3), name(2, 3), name(7, 3), of_others[0], of_others[1]];
    bench.tell(Input::Sweep { names });
    let mut deleted = Vec::new();
    while let Some(name) = bench.take(|output| match output {
        Output::Delete { name } => Some(*name),
        _ => None,
    }) {
        deleted.push(name);
    }
    assert_eq!(
        deleted, of_others,
        "what is ours is known, on its way, or still to be made"
    );
}
