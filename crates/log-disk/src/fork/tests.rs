use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::testing::{DISK, SALT, sealer};
use crate::{CheckpointRef, Epoch, Etag, ObjectSeq, ReapOptions, Reaped, Reaping, Snapshot, head_key};

const FORK: DiskId = DiskId([8; 16]);
const GRANDCHILD: DiskId = DiskId([9; 16]);

/// A bucket without objects; versions are counts of changes.
#[derive(Default)]
struct Bucket {
    keys: BTreeMap<String, (Bytes, u64)>,
    changes: u64,
}

impl Bucket {
    fn put(&mut self, key: String, body: Bytes) {
        self.changes += 1;
        self.keys.insert(key, (body, self.changes));
    }

    fn answer(&mut self, ask: BucketAsk) -> BucketAnswer {
        match ask {
            BucketAsk::GetHead { disk } => BucketAnswer::Head(match self.keys.get(&head_key(disk)) {
                Some((bytes, version)) => GotHead::Found {
                    bytes: bytes.clone(),
                    etag: Etag(version.to_string()),
                },
                None => GotHead::Missing,
            }),
            BucketAsk::PutHead { disk, expected, body } => {
                let found = self
                    .keys
                    .get(&head_key(disk))
                    .map(|(_, version)| Etag(version.to_string()));
                if found != expected {
                    return BucketAnswer::HeadPut(HeadPut::Stale);
                }
                self.put(head_key(disk), body);
                BucketAnswer::HeadPut(HeadPut::Stored(Etag(self.changes.to_string())))
            }
            BucketAsk::ListPins { disk } => {
                let prefix = Pin::prefix(disk);
                let rests = self.keys.keys().filter_map(|key| key.strip_prefix(&prefix));
                BucketAnswer::Pins(rests.filter_map(Pin::parse).collect())
            }
            BucketAsk::PutPin { disk, pin } => {
                self.put(pin.key(disk), Bytes::new());
                BucketAnswer::Done
            }
            BucketAsk::DeletePin { disk, pin } => {
                self.keys.remove(&pin.key(disk));
                BucketAnswer::Done
            }
            BucketAsk::List { .. } => BucketAnswer::Listed(Vec::new()),
            ask => panic!("{ask:?} of a bucket without objects"),
        }
    }

    fn has_pin(&self, disk: DiskId, number: u64, fork: DiskId) -> bool {
        self.keys.contains_key(&Pin { number, fork }.key(disk))
    }

    fn head(&self, sealer: &Sealer) -> Head {
        Head::decode(sealer, &self.keys[&head_key(sealer.disk())].0).unwrap()
    }
}

fn snapshot(name: &str, number: u64) -> Snapshot {
    Snapshot {
        name: name.to_owned(),
        size_blocks: 500,
        checkpoint: CheckpointRef {
            number,
            seq: ObjectSeq(number * 10),
            epoch: Epoch(1),
            front_bytes: 100,
            total_bytes: 200,
            data_seq: ObjectSeq(number * 10 - 2),
        },
    }
}

fn parent() -> Head {
    let mut head = Head::new(DISK, 1000, vec![1; 85]);
    head.snapshots = vec![snapshot("monday", 4)];
    head.checkpoint = Some(snapshot("", 6).checkpoint);
    head
}

fn bucket() -> Bucket {
    let mut bucket = Bucket::default();
    bucket.put(head_key(DISK), parent().encode(&sealer(), SALT).into());
    bucket
}

fn key_of(disk: DiskId) -> Arc<Sealer> {
    Arc::new(Sealer::new(&[3; 32], disk))
}

fn options(parent: DiskId, fork: DiskId) -> ForkOptions {
    ForkOptions {
        parent: key_of(parent),
        snapshot: "monday".to_owned(),
        fork: key_of(fork),
        wrapped_key: vec![2; 85],
        salt: SALT,
        mutant: None,
    }
}

/// Forks, with `before` called before each thing that is done; it stops everything by `false`.
fn fork(
    bucket: &mut Bucket,
    options: ForkOptions,
    mut before: impl FnMut(&mut Bucket, &BucketAsk) -> bool,
) -> Option<Result<Head, ForkError>> {
    let (mut forking, mut ask) = Forking::new(options);
    loop {
        if !before(bucket, &ask) {
            return None;
        }
        match forking.answer(bucket.answer(ask)) {
            Ok(BucketStep::Ask(next)) => ask = next,
            Ok(BucketStep::Over(head)) => return Some(Ok(head)),
            Err(why) => return Some(Err(why)),
        }
    }
}

fn reap(bucket: &mut Bucket, disk: DiskId) -> Reaped {
    let options = ReapOptions {
        sealer: key_of(disk),
        salt: SALT,
        mutant: None,
    };
    let (mut reaping, mut ask) = Reaping::new(options);
    loop {
        match reaping.answer(bucket.answer(ask)).unwrap() {
            BucketStep::Ask(next) => ask = next,
            BucketStep::Over(reaped) => return reaped,
        }
    }
}

#[test]
fn a_fork_begins_as_the_snapshot_and_has_left_its_pin() {
    let mut bucket = bucket();
    let head = fork(&mut bucket, options(DISK, FORK), |_, _| true)
        .unwrap()
        .unwrap();
    assert_eq!(head, bucket.head(&key_of(FORK)));
    assert_eq!(
        (head.size_blocks, head.checkpoint),
        (500, Some(snapshot("", 4).checkpoint))
    );
    assert_eq!(head.bases[0].last, ObjectSeq(40));
    assert!(bucket.has_pin(DISK, 4, FORK));
}

#[test]
fn a_fork_that_died_at_any_step_is_made_by_beginning_again() {
    for steps in 0..8 {
        let mut bucket = bucket();
        let mut left = steps;
        let died = fork(&mut bucket, options(DISK, FORK), |_, _| {
            left -= 1;
            left >= 0
        });
        let is_there = bucket.keys.contains_key(&head_key(FORK));
        assert!(!is_there || bucket.has_pin(DISK, 4, FORK), "a fork without a pin");
        let made = died.unwrap_or_else(|| fork(&mut bucket, options(DISK, FORK), |_, _| true).unwrap());
        assert_eq!(made.unwrap(), bucket.head(&key_of(FORK)));
    }
}

#[test]
fn a_snapshot_that_goes_meanwhile_leaves_no_fork_and_no_pin() {
    let mut bucket = bucket();
    let mut looks = 0;
    let made = fork(&mut bucket, options(DISK, FORK), |bucket, ask| {
        looks += u32::from(matches!(ask, BucketAsk::GetHead { disk } if *disk == DISK));
        if looks == 2 {
            let mut head = parent();
            head.snapshots.clear();
            bucket.put(head_key(DISK), head.encode(&sealer(), SALT).into());
        }
        true
    });
    let name = "monday".to_owned();
    assert_eq!(made, Some(Err(ForkError::NoSnapshot { name })));
    assert!(!bucket.has_pin(DISK, 4, FORK));
    // What an earlier attempt sent may arrive only now: its place is taken.
    assert!(bucket.head(&key_of(FORK)).deleted);
    let again = fork(&mut bucket, options(DISK, FORK), |_, _| true);
    assert_eq!(again, Some(Err(ForkError::Taken { disk: FORK })));
}

#[test]
fn a_fork_of_a_fork_leaves_a_pin_with_both_and_keeps_it_when_the_one_between_goes() {
    let mut bucket = bucket();
    let mut head = fork(&mut bucket, options(DISK, FORK), |_, _| true)
        .unwrap()
        .unwrap();
    head.snapshots = vec![snapshot("monday", 9)];
    head.checkpoint = None;
    head.checkpoint = Some(snapshot("", 4).checkpoint);
    bucket.put(head_key(FORK), head.encode(&key_of(FORK), SALT).into());
    fork(&mut bucket, options(FORK, GRANDCHILD), |_, _| true)
        .unwrap()
        .unwrap();
    let reaped = reap(&mut bucket, FORK);
    assert_eq!(reaped.bases, [DISK]);
    assert!(!bucket.has_pin(DISK, 4, FORK));
    assert!(bucket.has_pin(DISK, 4, GRANDCHILD) && bucket.has_pin(FORK, 9, GRANDCHILD));
    reap(&mut bucket, GRANDCHILD);
    assert!(
        !bucket.keys.keys().any(|key| key.contains("/r/")),
        "{:?}",
        bucket.keys.keys()
    );
}

#[test]
fn a_deleted_disk_is_not_forked() {
    let mut bucket = bucket();
    reap(&mut bucket, DISK);
    let made = fork(&mut bucket, options(DISK, FORK), |_, _| true);
    assert_eq!(made, Some(Err(ForkError::Deleted { disk: DISK })));
}
