use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::Tree;
use crate::{Log, RealDisk, Recorder};

const OLD: &[u8] = &[1; 9_000];
const NEW: &[u8] = &[2; 13_000];
const DONE: &str = "done";
/// Cuts drawn after each event.
const DRAWS: u64 = 60;

type Writer = fn(&Recorder<RealDisk>, &Path) -> Result<()>;

/// Records one replacement of a durable file.
fn recorded(write: Writer) -> Log {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    write_atomic(&RealDisk, "old", &path, OLD, 0o600).unwrap();
    let recorder = Recorder::new(RealDisk, directory.path()).unwrap();
    write(&recorder, &path).unwrap();
    recorder.mark(DONE, []);
    assert_eq!(
        Tree::read(&RealDisk, directory.path())
            .unwrap()
            .file("state")
            .unwrap()
            .to_vec(),
        NEW
    );
    recorder.log()
}

/// What the cuts of a log leave of the file, wherever that is not what was promised.
fn broken_promises(log: &Log) -> Vec<String> {
    let mut broken = Vec::new();
    for events in 0..=log.len() {
        for seed in 0..DRAWS {
            let cut = log.cut(events, &mut ChaCha8Rng::seed_from_u64(seed));
            let bytes = cut.tree().file("state").map(crate::model::Content::to_vec);
            match bytes.as_deref() {
                Some(NEW) => {}
                Some(OLD) if cut.last_marker(DONE).is_none() => {}
                Some(OLD) => broken.push(format!("event {events} seed {seed}: acknowledged and gone")),
                Some(_) => broken.push(format!("event {events} seed {seed}: torn")),
                None => broken.push(format!("event {events} seed {seed}: missing")),
            }
        }
    }
    broken
}

#[test]
fn a_file_written_atomically_is_old_or_new_at_every_cut_and_new_for_good_when_done() {
    let log = recorded(|disk, path| write_atomic(disk, "new", path, NEW, 0o600));
    let events: Vec<String> = log.events().collect();
    assert_eq!(
        events,
        [
            "new:open",
            "new:write_at",
            "new:sync_data",
            "new:rename",
            "new:sync_dir",
            "done:mark"
        ]
    );
    assert_eq!(broken_promises(&log), Vec::<String>::new());
}

#[test]
fn a_missing_file_sync_is_caught_as_a_torn_file() {
    let log = recorded(|disk, path| {
        let (temporary, file) = create_temporary(disk, "new", path, 0o600)?;
        file.write_at(NEW, 0)?;
        disk.rename("new", &temporary, path)?;
        disk.sync_dir("new", directory_of(path))
    });
    assert!(
        broken_promises(&log)
            .iter()
            .any(|broken| broken.ends_with("torn"))
    );
}

#[test]
fn a_missing_directory_sync_is_caught_as_a_lost_acknowledgement() {
    let log = recorded(|disk, path| {
        let (temporary, file) = create_temporary(disk, "new", path, 0o600)?;
        file.write_at(NEW, 0)?;
        file.sync_data()?;
        disk.rename("new", &temporary, path)
    });
    let broken = broken_promises(&log);
    assert!(
        broken
            .iter()
            .any(|broken| broken.ends_with("acknowledged and gone")),
        "{broken:?}"
    );
    assert!(
        !broken.iter().any(|broken| broken.ends_with("torn")),
        "{broken:?}"
    );
}

#[test]
fn writing_in_place_is_caught_as_a_torn_file() {
    let log = recorded(|disk, path| {
        let file = disk.open(
            "new",
            path,
            OpenOptions {
                truncate: true,
                ..OpenOptions::READ_WRITE
            },
        )?;
        file.write_at(NEW, 0)?;
        file.sync_data()
    });
    assert!(
        broken_promises(&log)
            .iter()
            .any(|broken| broken.ends_with("torn"))
    );
}

#[test]
fn left_over_temporary_files_are_swept_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let keep = [".state.tmp", "state.0.tmp", ".state.x.tmp", ".state.1", "state"];
    for name in keep.iter().chain(&[".state.0.tmp", ".a.b.12.tmp"]) {
        RealDisk
            .open("make", &directory.path().join(name), OpenOptions::CREATE_NEW)
            .unwrap();
    }
    assert_eq!(
        sweep_temporaries(&RealDisk, "sweep", directory.path()).unwrap(),
        2
    );
    let mut kept: Vec<_> = RealDisk
        .list(directory.path())
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    kept.sort();
    let mut keep = keep.map(str::to_owned).to_vec();
    keep.sort();
    assert_eq!(kept, keep);
}

#[test]
fn a_left_over_temporary_file_is_not_written_into() {
    let directory = tempfile::tempdir().unwrap();
    let left_over = directory.path().join(".state.0.tmp");
    RealDisk
        .open("make", &left_over, OpenOptions::CREATE_NEW)
        .unwrap();
    write_atomic(&RealDisk, "new", &directory.path().join("state"), NEW, 0o640).unwrap();
    assert_eq!(RealDisk.stat(&left_over).unwrap().unwrap().len, 0);
    assert_eq!(RealDisk.list(directory.path()).unwrap().len(), 2);
}

#[test]
fn a_failed_write_leaves_no_temporary_file() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("taken");
    RealDisk.create_dir_all("make", &target.join("below")).unwrap();
    write_atomic(&RealDisk, "new", &target, NEW, 0o600).unwrap_err();
    assert_eq!(RealDisk.list(directory.path()).unwrap().len(), 1);
}

#[test]
fn a_durable_directory_is_there_after_every_cut_that_follows() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(RealDisk, directory.path()).unwrap();
    // As after a crash: a level is there, and not durable.
    recorder
        .create_dir_all("crashed", &directory.path().join("a"))
        .unwrap();
    create_dir_durable(&recorder, "new", &directory.path().join("a/b/c")).unwrap();
    let log = recorder.log();
    for seed in 0..DRAWS {
        let cut = log.cut(log.len(), &mut ChaCha8Rng::seed_from_u64(seed));
        assert!(cut.tree().contains("a/b/c"), "seed {seed}: {cut:?}");
    }
}

#[test]
fn a_durable_directory_is_not_made_where_a_file_stands() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = create_dir_durable(&RealDisk, "new", &file.path().join("below")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
}
