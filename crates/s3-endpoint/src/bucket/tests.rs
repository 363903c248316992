use std::collections::BTreeMap as Map;
use std::sync::Barrier;

use crashsafe::{Log, RealDisk, Recorder};
use daemon::wall_clock::SystemClock;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::listing::After;

fn open(disk: Arc<dyn Disk>, directory: &Path) -> Bucket {
    Bucket::open(disk, Arc::new(SystemClock), directory).unwrap()
}

fn real(directory: &Path) -> Bucket {
    open(Arc::new(RealDisk), directory)
}

/// Puts `body` with the note `note` in its metadata, and returns the etag.
fn put(
    bucket: &Bucket,
    key: &str,
    body: &[u8],
    note: &str,
    condition: &Condition,
) -> Result<String, BucketError> {
    let (staged, mut writer) = bucket.stage()?;
    writer.write(body).map_err(doing("write"))?;
    let digest = writer.digest();
    let record = Record {
        key: key.to_owned(),
        etag: format!("{}-1", digest.hash),
        modified: bucket.clock.now(),
        headers: Map::new(),
        metadata: Map::from([("note".to_owned(), note.to_owned())]),
        checksums: Map::new(),
    };
    writer.finish(&record).map_err(doing("finish"))?;
    bucket.commit(staged, &record, &digest, condition)?;
    Ok(record.etag)
}

/// Reads an object's body and note.
fn get(bucket: &Bucket, key: &str) -> Result<(Vec<u8>, String), BucketError> {
    let reader = bucket.read(key)?;
    let bytes = reader
        .read(0..reader.data_bytes())
        .map_err(BucketError::Damaged)?;
    Ok((bytes.to_vec(), reader.record().metadata["note"].clone()))
}

fn keys(bucket: &Bucket) -> Vec<String> {
    list(bucket).unwrap()
}

fn list(bucket: &Bucket) -> Result<Vec<String>, BucketError> {
    let query = Query {
        limit: usize::MAX,
        ..Query::default()
    };
    bucket.list(
        &query,
        |_| true,
        |items, _| {
            let key = |item: &Item<'_, Indexed>| match item.after() {
                After::Key(key) | After::CommonPrefix(key) => key,
            };
            items.iter().map(key).collect()
        },
    )
}

#[test]
fn odd_keys_are_kept_apart_and_listed_in_byte_order() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(1_024);
    let mut names = [
        "a",
        "a/",
        "a/b",
        "a/b/c",
        "a-b",
        "../../etc/passwd",
        "..",
        ".",
        "/",
        "//",
        "ü/€",
        "A",
        "a\u{1}",
        &long,
    ];
    {
        let bucket = real(directory.path());
        for name in names {
            put(&bucket, name, name.as_bytes(), name, &Condition::Absent).unwrap();
        }
    }
    let bucket = real(directory.path());
    for name in names {
        assert_eq!(
            get(&bucket, name).unwrap(),
            (name.as_bytes().to_vec(), name.to_owned())
        );
    }
    names.sort_unstable();
    assert_eq!(keys(&bucket), names);
}

#[test]
fn conditions_hold_or_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    let stale = Condition::Matches("other".to_owned());
    assert!(matches!(
        put(&bucket, "k", b"1", "", &stale),
        Err(BucketError::NoSuchKey)
    ));
    let one = put(&bucket, "k", b"1", "", &Condition::Absent).unwrap();
    assert!(matches!(
        put(&bucket, "k", b"2", "", &Condition::Absent),
        Err(BucketError::Precondition)
    ));
    assert!(matches!(
        put(&bucket, "k", b"2", "", &stale),
        Err(BucketError::Precondition)
    ));
    let two = put(&bucket, "k", b"2", "", &Condition::Matches(one.clone())).unwrap();
    assert!(matches!(
        bucket.delete("k", &Condition::Matches(one)),
        Err(BucketError::Precondition)
    ));
    bucket.delete("k", &Condition::Matches(two)).unwrap();
    bucket.delete("k", &Condition::None).unwrap();
    assert!(matches!(get(&bucket, "k"), Err(BucketError::NoSuchKey)));
    put(&bucket, "k", b"3", "", &Condition::Absent).unwrap();
}

#[test]
fn of_64_threads_that_create_or_replace_one_key_exactly_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    let first = put(&bucket, "old", b"first", "", &Condition::Absent).unwrap();
    for (key, condition) in [("new", Condition::Absent), ("old", Condition::Matches(first))] {
        let start = Barrier::new(64);
        let winners: Vec<String> = std::thread::scope(|scope| {
            let racer = |number: usize| {
                let (bucket, start, condition) = (&bucket, &start, &condition);
                scope.spawn(move || {
                    start.wait();
                    let body = format!("racer {number}");
                    put(bucket, key, body.as_bytes(), "", condition)
                        .is_ok()
                        .then_some(body)
                })
            };
            let racers: Vec<_> = (0..64).map(racer).collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().unwrap())
                .collect()
        });
        assert_eq!(winners.len(), 1, "{key}: {winners:?}");
        assert_eq!(get(&bucket, key).unwrap().0, winners[0].as_bytes());
    }
    assert!(
        RealDisk.list(&directory.path().join("tmp")).unwrap().is_empty(),
        "losers leave nothing"
    );
}

#[test]
fn a_reader_keeps_the_version_it_opened() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    put(&bucket, "k", b"old", "", &Condition::None).unwrap();
    let reader = bucket.read("k").unwrap();
    put(&bucket, "k", b"newer", "", &Condition::None).unwrap();
    assert_eq!(reader.read(0..3).unwrap(), "old");
    bucket.delete("k", &Condition::None).unwrap();
    assert_eq!(reader.read(0..3).unwrap(), "old");
}

#[test]
fn what_a_killed_put_left_is_swept_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    put(&bucket, "k", b"kept", "", &Condition::None).unwrap();
    let (staged, mut writer) = bucket.stage().unwrap();
    writer.write(&[7; 3 << 20]).unwrap();
    staged.keep(); // as a kill would: nobody removes it
    drop(bucket);
    assert_eq!(RealDisk.list(&directory.path().join("tmp")).unwrap().len(), 1);
    let bucket = real(directory.path());
    assert!(RealDisk.list(&directory.path().join("tmp")).unwrap().is_empty());
    assert_eq!(keys(&bucket), ["k"]);
}

/// Flips a bit of an object's file.
fn flip(directory: &Path, key: &str, at: impl FnOnce(u64) -> u64) {
    let path = directory.join("objects").join(file_name(key));
    let file = RealDisk.open("test", &path, OpenOptions::READ_WRITE).unwrap();
    let at = at(file.len().unwrap());
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 4], at).unwrap();
}

#[test]
fn a_flipped_bit_in_the_data_is_an_error_and_never_other_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    put(&bucket, "k", &[9; 200_000], "", &Condition::None).unwrap();
    flip(directory.path(), "k", |_| 123_456);
    assert!(matches!(
        get(&bucket, "k"),
        Err(BucketError::Damaged(DamageError::Block { block: 1, .. }))
    ));
    // Once replaced, it is whole again.
    put(&bucket, "k", b"new", "", &Condition::None).unwrap();
    assert_eq!(get(&bucket, "k").unwrap().0, b"new");
}

#[test]
fn an_object_whose_record_is_damaged_is_not_taken_for_absent() {
    let directory = tempfile::tempdir().unwrap();
    put(&real(directory.path()), "HEAD", b"epoch 7", "", &Condition::None).unwrap();
    flip(directory.path(), "HEAD", |len| len - 60);
    let bucket = real(directory.path());
    assert!(keys(&bucket).is_empty());
    assert!(matches!(get(&bucket, "HEAD"), Err(BucketError::Damaged(_))));
    for condition in [Condition::Absent, Condition::Matches("x".to_owned())] {
        assert!(matches!(
            put(&bucket, "HEAD", b"epoch 1", "", &condition),
            Err(BucketError::Damaged(_))
        ));
    }
    bucket.delete("HEAD", &Condition::None).unwrap();
    put(&bucket, "HEAD", b"epoch 1", "", &Condition::Absent).unwrap();
    assert_eq!(keys(&real(directory.path())), ["HEAD"]);
}

#[test]
fn an_object_whose_file_is_removed_is_gone_for_readers_and_listings_alike() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    for key in ["a", "b", "c"] {
        put(&bucket, key, b"body", "", &Condition::None).unwrap();
    }
    let file = |key| directory.path().join("objects").join(file_name(key));
    std::fs::remove_file(file("a")).unwrap();
    assert!(matches!(get(&bucket, "a"), Err(BucketError::NoSuchKey)));
    std::fs::remove_file(file("b")).unwrap();
    assert_eq!(keys(&bucket), ["c"]);
    // As after a start: what is gone does not stand in the way of another.
    put(&bucket, "a", b"again", "", &Condition::Absent).unwrap();
    assert_eq!(keys(&bucket), ["a", "c"]);
}

#[test]
fn an_object_whose_file_is_brought_back_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    for key in ["a", "b"] {
        put(&bucket, key, b"body", "", &Condition::None).unwrap();
    }
    let file = |key| directory.path().join("objects").join(file_name(key));
    let away = directory.path().join("away");
    RealDisk.rename("test", &file("a"), &away).unwrap();
    assert!(matches!(get(&bucket, "a"), Err(BucketError::NoSuchKey)));
    RealDisk.rename("test", &away, &file("a")).unwrap();
    assert_eq!(get(&bucket, "a").unwrap().0, b"body");
    assert_eq!(keys(&bucket), ["a", "b"]);
    // What is brought back is believed no more than what was there.
    RealDisk.rename("test", &file("a"), &away).unwrap();
    assert_eq!(keys(&bucket), ["b"]);
    RealDisk.rename("test", &file("b"), &file("a")).unwrap();
    assert!(matches!(get(&bucket, "a"), Err(BucketError::Damaged(_))));
}

#[test]
fn while_the_disk_is_away_nothing_is_said_to_be_gone() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    put(&bucket, "a", b"body", "", &Condition::None).unwrap();
    let (objects, away) = (directory.path().join("objects"), directory.path().join("away"));
    RealDisk.rename("test", &objects, &away).unwrap();
    assert!(matches!(get(&bucket, "a"), Err(BucketError::Io { .. })));
    assert!(matches!(list(&bucket), Err(BucketError::Io { .. })));
    RealDisk.rename("test", &away, &objects).unwrap();
    assert_eq!(get(&bucket, "a").unwrap().0, b"body");
    assert_eq!(keys(&bucket), ["a"]);
}

#[test]
fn a_file_under_the_name_of_another_key_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    {
        let bucket = real(directory.path());
        put(&bucket, "a", b"of a", "", &Condition::None).unwrap();
        put(&bucket, "b", b"of b", "", &Condition::None).unwrap();
    }
    let objects = directory.path().join("objects");
    RealDisk
        .rename(
            "test",
            &objects.join(file_name("a")),
            &objects.join(file_name("b")),
        )
        .unwrap();
    let bucket = real(directory.path());
    assert!(matches!(get(&bucket, "a"), Err(BucketError::NoSuchKey)));
    assert!(matches!(get(&bucket, "b"), Err(BucketError::Damaged(_))));
}

#[test]
fn a_bucket_in_use_is_not_closed() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    put(&bucket, "k", b"x", "", &Condition::None).unwrap();
    assert!(!bucket.close_if_empty().unwrap());
    bucket.delete("k", &Condition::None).unwrap();
    assert!(bucket.close_if_empty().unwrap());
    assert!(matches!(
        put(&bucket, "k", b"x", "", &Condition::None),
        Err(BucketError::ReadOnly)
    ));
}

static OLD: [u8; 90_000] = [1; 90_000];
static NEW: [u8; 70_000] = [2; 70_000];
/// Cuts drawn after each event.
const DRAWS: u64 = 15;

/// Records a create, a replacement and a deletion, each marked when it was acknowledged.
fn recorded() -> Log {
    let directory = tempfile::tempdir().unwrap();
    put(&real(directory.path()), "gone", &OLD, "old", &Condition::Absent).unwrap();
    let old = put(
        &real(directory.path()),
        "replaced",
        &OLD,
        "old",
        &Condition::Absent,
    )
    .unwrap();
    let recorder = Arc::new(Recorder::new(RealDisk, directory.path()).unwrap());
    let bucket = open(recorder.clone(), directory.path());
    put(&bucket, "created", &NEW, "new", &Condition::Absent).unwrap();
    recorder.mark("created", []);
    put(&bucket, "replaced", &NEW, "new", &Condition::Matches(old)).unwrap();
    recorder.mark("replaced", []);
    bucket.delete("gone", &Condition::None).unwrap();
    recorder.mark("gone", []);
    recorder.log()
}

#[test]
fn after_a_power_cut_what_was_acknowledged_stands_and_what_was_not_is_old_or_new() {
    let log = recorded();
    assert!(log.len() >= 15, "{:?}", log.events().collect::<Vec<_>>());
    for events in 0..=log.len() {
        for seed in 0..DRAWS {
            let cut = log.cut(events, &mut StdRng::seed_from_u64(seed));
            let directory = tempfile::tempdir().unwrap();
            cut.write(&RealDisk, directory.path()).unwrap();
            let bucket = real(directory.path());
            let at = format!("event {events} seed {seed}");
            let acknowledged = |label: &str| cut.last_marker(label).is_some();
            let states = [
                ("created", None, Some((&NEW[..], "new"))),
                ("replaced", Some((&OLD[..], "old")), Some((&NEW[..], "new"))),
                ("gone", Some((&OLD[..], "old")), None),
            ];
            for (key, before, after) in states {
                let found = match get(&bucket, key) {
                    Ok(found) => Some(found),
                    Err(BucketError::NoSuchKey) => None,
                    Err(error) => panic!("{at}: {key}: {error:?}"),
                };
                let found = found.as_ref().map(|(bytes, note)| (&bytes[..], note.as_str()));
                let allowed = found == after || (found == before && !acknowledged(key));
                assert!(
                    allowed,
                    "{at}: {key} is {:?}",
                    found.map(|(bytes, note)| (bytes.len(), note))
                );
            }
            assert!(
                RealDisk.list(&directory.path().join("tmp")).unwrap().is_empty(),
                "{at}: leftovers"
            );
        }
    }
}

#[test]
fn a_kill_at_any_event_leaves_old_or_new() {
    let log = recorded();
    for events in 0..=log.len() {
        let directory = tempfile::tempdir().unwrap();
        let cut = log.kill(events);
        cut.write(&RealDisk, directory.path()).unwrap();
        let bucket = real(directory.path());
        let (bytes, note) = get(&bucket, "replaced").unwrap();
        let new = bytes == NEW && note == "new";
        let old = bytes == OLD && note == "old" && cut.last_marker("replaced").is_none();
        assert!(new || old, "event {events}: {} bytes, {note}", bytes.len());
    }
}

/// A disk whose directory syncs fail once they are told to.
#[derive(Debug)]
struct NoSync(RealDisk, AtomicBool);

impl Disk for NoSync {
    fn open(&self, label: &'static str, path: &Path, options: OpenOptions) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(label, path, options)
    }
    fn create_dir_all(&self, label: &'static str, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(label, path)
    }
    fn remove_file(&self, label: &'static str, path: &Path) -> io::Result<()> {
        self.0.remove_file(label, path)
    }
    fn remove_dir_all(&self, label: &'static str, path: &Path) -> io::Result<()> {
        self.0.remove_dir_all(label, path)
    }
    fn rename(&self, label: &'static str, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(label, from, to)
    }
    fn sync_dir(&self, label: &'static str, path: &Path) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) {
            return Err(io::Error::other("EIO"));
        }
        self.0.sync_dir(label, path)
    }
    fn reflink(&self, label: &'static str, from: &Path, to: &Path) -> io::Result<()> {
        self.0.reflink(label, from, to)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<crashsafe::Entry>> {
        self.0.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<crashsafe::Stat>> {
        self.0.stat(path)
    }
    fn space(&self, path: &Path) -> io::Result<crashsafe::Space> {
        self.0.space(path)
    }
}

#[test]
fn after_a_sync_that_did_not_succeed_nothing_more_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(NoSync(RealDisk, AtomicBool::new(false)));
    let bucket = open(disk.clone(), directory.path());
    put(&bucket, "kept", b"x", "", &Condition::None).unwrap();
    disk.1.store(true, Ordering::Relaxed);
    assert!(matches!(
        put(&bucket, "k", b"x", "", &Condition::None),
        Err(BucketError::Io { .. })
    ));
    disk.1.store(false, Ordering::Relaxed);
    assert!(matches!(
        put(&bucket, "k", b"x", "", &Condition::None),
        Err(BucketError::ReadOnly)
    ));
    assert!(matches!(
        bucket.delete("kept", &Condition::None),
        Err(BucketError::ReadOnly)
    ));
    assert_eq!(get(&bucket, "kept").unwrap().0, b"x");
}
