use proptest::prelude::*;

use super::*;
use crate::Lba;

const LINE: u64 = LINE_BYTES;
const OBJECT_BYTES: u64 = 5 * LINE + 1234;
const WORTHWHILE: CacheLimits = CacheLimits {
    slots: 8,
    fetch_lines_max: 2,
    fetched_permille_max: 1_000_000,
};

/// The byte at a place of an object.
fn byte(object: ObjectSeq, at: u64) -> u8 {
    (object.0 * 131 + at * 7 + at / LINE * 13).to_le_bytes()[0]
}

/// A driver: slots in memory, fetches and fills and reads that end when they are told to.
struct Driver {
    cache: ReadCache,
    slots: Vec<Vec<u8>>,
    fetches: Vec<Fetch>,
    fills: Vec<Fill>,
    reads: Vec<(ObjectSeq, CacheStep)>,
}

impl Driver {
    fn new(limits: CacheLimits) -> Self {
        Self {
            cache: ReadCache::new(limits),
            slots: vec![Vec::new(); limits.slots as usize],
            fetches: Vec::new(),
            fills: Vec::new(),
            reads: Vec::new(),
        }
    }

    fn plan(&mut self, object: ObjectSeq, bytes: Range<u64>, why: Wanted) -> Plan {
        let plan = self.cache.plan(object, OBJECT_BYTES, bytes.clone(), why);
        let mut at = bytes.start;
        for step in &plan.steps {
            let (CacheStep::Slot { bytes, .. } | CacheStep::Fetch { bytes, .. }) = step;
            assert_eq!(bytes.start, at);
            at = bytes.end;
            self.reads.push((object, step.clone()));
        }
        assert!(at == bytes.end || why == Wanted::Ahead);
        for fetch in &plan.fetches {
            assert!(fetch.bytes.end <= OBJECT_BYTES && fetch.bytes.end - fetch.bytes.start <= 2 * LINE);
        }
        self.fetches.extend(plan.fetches.iter().cloned());
        plan
    }

    fn end_fetch(&mut self, at: usize, got: bool) {
        let fetch = self.fetches.remove(at);
        let fills = self.cache.fetched(fetch.id, got);
        for fill in &fills {
            assert!(fetch.bytes.start <= fill.bytes.start && fill.bytes.end <= fetch.bytes.end);
            let busy = self.fills.iter().any(|other| other.slot == fill.slot);
            let read = self
                .reads
                .iter()
                .any(|(_, step)| matches!(step, CacheStep::Slot { slot, .. } if *slot == fill.slot));
            assert!(!busy && !read, "slot {} is in use", fill.slot);
            self.slots[fill.slot as usize] = fill.bytes.clone().map(|at| byte(fetch.object, at)).collect();
        }
        self.fills.extend(fills);
    }

    fn end_fill(&mut self, at: usize, done: bool) {
        let fill = self.fills.remove(at);
        self.cache.filled(&fill, done);
    }

    fn end_read(&mut self, at: usize) {
        let (object, step) = self.reads.remove(at);
        if let CacheStep::Slot { slot, from, bytes } = step {
            let found = &self.slots[slot as usize][usize::try_from(from).unwrap()..];
            let wanted: Vec<u8> = bytes.clone().map(|at| byte(object, at)).collect();
            assert_eq!(
                found[..wanted.len()],
                wanted,
                "slot {slot} for {bytes:?} of {object}"
            );
            self.cache.read_done(slot);
        }
    }

    fn settle(&mut self) {
        while !self.fetches.is_empty() {
            self.end_fetch(0, true);
        }
        while !self.fills.is_empty() {
            self.end_fill(0, true);
        }
        while !self.reads.is_empty() {
            self.end_read(0);
        }
    }

    /// Reads a line of an object; says whether it was here.
    fn touch(&mut self, object: u64, line: u64) -> bool {
        let plan = self.plan(ObjectSeq(object), line * LINE..line * LINE + 10, Wanted::Now);
        self.settle();
        plan.fetches.is_empty()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Plan(u64, u64, u64, u8),
    EndFetch(usize, bool),
    EndFill(usize, bool),
    EndRead(usize),
    Forget(u64),
    Distrust(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_u64, 0..OBJECT_BYTES, 1..3 * LINE, 0..5_u8).prop_map(|(o, from, len, why)| Step::Plan(o, from, len, why)),
        3 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(at, got)| Step::EndFetch(at, got)),
        3 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(at, done)| Step::EndFill(at, done)),
        3 => any::<usize>().prop_map(Step::EndRead),
        1 => (1..5_u64).prop_map(Step::Forget),
        1 => (1..5_u64, 0..OBJECT_BYTES - 1).prop_map(|(o, at)| Step::Distrust(o, at)),
    ]
}

proptest! {
    #[test]
    fn prop_a_slot_holds_what_its_reader_wants_whatever_ends_when(
        slots in 0..6_u32,
        permille in prop_oneof![Just(1_000_u64), Just(1_000_000)],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let limits = CacheLimits { slots, fetch_lines_max: 2, fetched_permille_max: permille };
        let mut driver = Driver::new(limits);
        for step in steps {
            match step {
                Step::Plan(object, from, len, why) => {
                    let why = match why { 0 => Wanted::Ahead, 1 => Wanted::Once, _ => Wanted::Now };
                    let bytes = from..(from + len).min(OBJECT_BYTES);
                    driver.plan(ObjectSeq(object), bytes, why);
                }
                Step::EndFetch(at, got) if !driver.fetches.is_empty() => {
                    driver.end_fetch(at % driver.fetches.len(), got);
                }
                Step::EndFill(at, done) if !driver.fills.is_empty() => {
                    driver.end_fill(at % driver.fills.len(), done);
                }
                Step::EndRead(at) if !driver.reads.is_empty() => driver.end_read(at % driver.reads.len()),
                Step::Forget(object) => driver.cache.forget(ObjectSeq(object)),
                Step::Distrust(object, at) => driver.cache.distrust(ObjectSeq(object), at..at + 1),
                Step::EndFetch(..) | Step::EndFill(..) | Step::EndRead(_) => {}
            }
        }
        driver.settle();
        // Nothing is lost: every slot is free or holds a line.
        prop_assert_eq!(driver.cache.free.len() + driver.cache.lines.len(), slots as usize);
        prop_assert!(driver.cache.fetches.is_empty());
    }
}

#[test]
fn what_was_read_is_here_the_next_time() {
    let mut driver = Driver::new(WORTHWHILE);
    assert!(!driver.touch(1, 0));
    assert!(driver.touch(1, 0));
}

#[test]
fn a_line_is_fetched_once_however_many_want_it() {
    let mut driver = Driver::new(WORTHWHILE);
    let first = driver.plan(ObjectSeq(1), 0..10, Wanted::Now);
    let second = driver.plan(ObjectSeq(1), 20..30, Wanted::Now);
    assert_eq!((first.fetches.len(), second.fetches.len()), (1, 0));
    driver.end_fetch(0, true);
    // Until it is written, the bytes in memory serve.
    let third = driver.plan(ObjectSeq(1), 5..6, Wanted::Now);
    assert!(matches!(third.steps[..], [CacheStep::Fetch { fetch, .. }] if fetch == first.fetches[0].id));
    driver.settle();
}

#[test]
fn nothing_past_the_end_of_an_object_is_fetched() {
    let mut driver = Driver::new(WORTHWHILE);
    let plan = driver.plan(ObjectSeq(1), OBJECT_BYTES - 1..OBJECT_BYTES, Wanted::Now);
    assert_eq!(plan.fetches[0].bytes, 5 * LINE..OBJECT_BYTES);
    driver.settle();
}

#[test]
fn a_long_scan_does_not_drive_out_what_is_used() {
    let mut driver = Driver::new(CacheLimits {
        slots: 40,
        ..WORTHWHILE
    });
    for _ in 0..3 {
        for line in 0..5 {
            driver.touch(1, line);
        }
    }
    for object in 10..100 {
        driver.touch(object, 0);
    }
    let here = (0..5).filter(|line| driver.touch(1, *line)).count();
    assert_eq!(here, 5);
}

#[test]
fn a_dead_object_leaves_its_slots_to_others() {
    let mut driver = Driver::new(WORTHWHILE);
    for line in 0..5 {
        driver.touch(1, line);
    }
    driver.cache.forget(ObjectSeq(1));
    assert_eq!(driver.cache.stats().lines, 0);
    assert_eq!(driver.cache.free.len(), 8);
}

#[test]
fn damaged_bytes_are_fetched_again() {
    let mut driver = Driver::new(WORTHWHILE);
    driver.touch(1, 0);
    let plan = driver.plan(ObjectSeq(1), 0..10, Wanted::Now);
    assert!(matches!(plan.steps[..], [CacheStep::Slot { .. }]));
    driver.cache.distrust(ObjectSeq(1), 0..10);
    driver.settle();
    assert!(!driver.touch(1, 0));
}

#[test]
fn a_guest_that_never_comes_back_is_not_cached_for() {
    let limits = CacheLimits {
        slots: 64,
        fetched_permille_max: 4_000,
        ..WORTHWHILE
    };
    let mut driver = Driver::new(limits);
    for object in 0..2_000 {
        driver.touch(object, 0);
    }
    let stats = driver.cache.stats();
    assert!(stats.guarded);
    assert!(stats.fetched_bytes < 2_000 * LINE / 8, "{stats:?}");
    // What is wanted a second time soon is let in all the same.
    driver.touch(5_000, 0);
    driver.touch(5_000, 0);
    assert!(driver.touch(5_000, 0));
}

#[test]
fn the_guard_lets_go_when_the_guest_comes_back_to_places() {
    let limits = CacheLimits {
        slots: 64,
        fetched_permille_max: 4_000,
        ..WORTHWHILE
    };
    let mut driver = Driver::new(limits);
    for object in 0..500 {
        driver.touch(object, 0);
    }
    assert!(driver.cache.stats().guarded);
    for _ in 0..400 {
        for line in 0..5 {
            driver.plan(ObjectSeq(9_000), line * LINE..line * LINE + 4096, Wanted::Now);
            driver.settle();
        }
    }
    assert!(!driver.cache.stats().guarded);
}

#[test]
fn what_is_read_once_in_the_background_is_not_kept() {
    let mut driver = Driver::new(WORTHWHILE);
    let plan = driver.plan(ObjectSeq(1), 100..200, Wanted::Once);
    assert_eq!(plan.fetches[0].bytes, 100..200);
    driver.settle();
    assert_eq!(driver.cache.stats().lines, 0);
}

fn ahead(reads: &mut ReadAhead, lba: u64, blocks: u64) -> Option<Range<u64>> {
    let ahead = reads.saw(Lba(lba), blocks, 10_000);
    ahead.map(|(lba, blocks)| lba.0..lba.0 + blocks)
}

#[test]
fn sequential_reads_are_read_ahead_further_and_further() {
    let mut reads = ReadAhead::new(AheadLimits::default());
    assert_eq!(ahead(&mut reads, 100, 8), None);
    assert_eq!(ahead(&mut reads, 108, 8), Some(116..148));
    assert_eq!(ahead(&mut reads, 116, 8), Some(148..188));
    let mut longest = 0;
    let mut until = 188;
    for lba in (124..9_000).step_by(8) {
        if let Some(range) = ahead(&mut reads, lba, 8) {
            assert_eq!(range.start, until, "nothing is read ahead twice or left out");
            longest = longest.max(range.end - (lba + 8));
            until = range.end;
        }
    }
    assert_eq!(longest, 1024);
}

#[test]
fn random_reads_are_not_read_ahead() {
    let mut reads = ReadAhead::new(AheadLimits::default());
    let places = (0..200_u64).map(|n| n * 7919 % 9_973);
    let noticed = places.filter(|lba| ahead(&mut reads, *lba, 1).is_some()).count();
    assert!(noticed < 20, "{noticed}");
}

#[test]
fn nothing_past_the_end_of_a_disk_is_read_ahead() {
    let mut reads = ReadAhead::new(AheadLimits::default());
    ahead(&mut reads, 9_960, 8);
    assert_eq!(ahead(&mut reads, 9_968, 8), Some(9_976..10_000));
    assert_eq!(ahead(&mut reads, 9_976, 24), None);
}
