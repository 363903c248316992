use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::RealDisk;

const FILES: [&str; 3] = ["a", "b", "d/c"];

/// One random call that changes something; calls that the system refuses are fine, and must leave no trace.
fn step<D: Disk>(disk: &D, root: &Path, rng: &mut impl Rng) {
    let path = root.join(FILES[rng.random_range(0..FILES.len())]);
    let other = root.join(FILES[rng.random_range(0..FILES.len())]);
    let (offset, len) = (rng.random_range(0..20_000), rng.random_range(1..9_000_u64));
    let result = match rng.random_range(0..9) {
        0 => disk.rename("step", &path, &other),
        1 => disk.remove_file("step", &path),
        2 => disk.reflink("step", &path, &other),
        3 => disk.sync_dir("step", path.parent().unwrap()),
        4 if rng.random_bool(0.3) => disk.remove_dir_all("step", &root.join("d")),
        4 => disk.create_dir_all("step", &root.join("d")),
        call => disk
            .open("step", &path, OpenOptions::CREATE)
            .and_then(|file| match call {
                5 => file.write_at(&vec![rng.random(); usize::try_from(len).unwrap()], offset),
                6 => file.set_len(offset),
                7 => file.punch_hole(offset, len),
                _ => file.sync_data(),
            }),
    };
    drop(result);
}

#[test]
fn prop_a_replay_without_a_power_cut_equals_the_real_directory() {
    for seed in 0..25 {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(RealDisk, directory.path()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..60 {
            step(&recorder, directory.path(), &mut rng);
        }
        let log = recorder.log();
        let replayed = log.kill(log.len());
        let real = Tree::read(&RealDisk, directory.path()).unwrap();
        let plain = |tree: &Tree| -> Vec<_> {
            tree.nodes()
                .map(|(path, _)| {
                    (
                        path.to_path_buf(),
                        tree.file(path).map(crate::model::Content::to_vec),
                    )
                })
                .collect()
        };
        assert!(
            plain(replayed.tree()) == plain(&real),
            "seed {seed}: {:?}",
            recorder.events()
        );
    }
}

/// Appends to two files in two directories, syncing by chance, and marks what must then be there for good.
fn append<D: Disk>(recorder: &Recorder<D>, root: &Path, rng: &mut impl Rng) -> Vec<Vec<u8>> {
    recorder.create_dir_all("append", &root.join("d")).unwrap();
    recorder.sync_dir("append", root).unwrap();
    let paths = [root.join("a"), root.join("d/b")];
    let files = paths
        .clone()
        .map(|path| recorder.open("append", &path, OpenOptions::CREATE_NEW).unwrap());
    let mut contents = vec![Vec::new(); 2];
    let mut named = [false; 2];
    let mut synced = [0; 2];
    for _ in 0..40 {
        let index = rng.random_range(0..2);
        match rng.random_range(0..4) {
            0 => {
                recorder
                    .sync_dir("append", paths[index].parent().unwrap())
                    .unwrap();
                named[index] = true;
            }
            1 => {
                files[index].sync_data().unwrap();
                synced[index] = contents[index].len();
            }
            _ => {
                let bytes: Vec<u8> = (0..rng.random_range(1..3_000)).map(|_| rng.random()).collect();
                files[index]
                    .write_at(&bytes, contents[index].len() as u64)
                    .unwrap();
                contents[index].extend(bytes);
            }
        }
        for (index, label) in ["a", "d/b"]
            .into_iter()
            .enumerate()
            .filter(|(index, _)| named[*index])
        {
            recorder.mark(label, synced[index].to_string());
        }
    }
    contents
}

#[test]
fn prop_synced_bytes_under_a_synced_name_are_there_after_every_later_cut() {
    let (mut promised, mut lost) = (0, 0);
    for seed in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(RealDisk, directory.path()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let contents = append(&recorder, directory.path(), &mut rng);
        let log = recorder.log();
        for events in 0..=log.len() {
            let cut = log.cut(events, &mut rng);
            for (label, content) in ["a", "d/b"].into_iter().zip(&contents) {
                let left = cut.tree().file(label).map(crate::model::Content::to_vec);
                let Some(synced) = cut.last_marker(label) else {
                    continue;
                };
                let synced: usize = std::str::from_utf8(synced).unwrap().parse().unwrap();
                let left = left.unwrap_or_else(|| panic!("seed {seed} event {events}: {label} is gone"));
                assert!(
                    left.len() >= synced,
                    "seed {seed} event {events}: {label} is short"
                );
                assert!(
                    left[..synced] == content[..synced],
                    "seed {seed} event {events}: {label} is torn"
                );
                promised += synced;
                lost += usize::from(left[..] != content[..left.len()]);
            }
        }
    }
    assert!(
        promised > 0 && lost > 0,
        "the cuts hurt nothing: {promised} bytes promised, {lost} files hurt"
    );
}

#[test]
fn events_are_named_by_operation_and_call_and_can_be_aimed_at() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(RealDisk, directory.path()).unwrap();
    let path = directory.path().join("volume");
    let file = recorder
        .open("pool:create", &path, OpenOptions::CREATE_NEW)
        .unwrap();
    file.set_len(8192).unwrap();
    file.sync_all().unwrap();
    recorder.mark("catalog", *b"volume");
    assert_eq!(
        recorder.events(),
        [
            "pool:create:open",
            "pool:create:set_len",
            "pool:create:sync_all",
            "catalog:mark"
        ]
    );
    let log = recorder.log();
    assert_eq!(log.after("pool:create:set_len"), [2]);
    assert_eq!(log.kill(1).tree().file("volume").unwrap().len(), 0);
    assert_eq!(log.kill(2).tree().file("volume").unwrap().len(), 8192);
    assert_eq!(log.kill(3).last_marker("catalog"), None);
    assert_eq!(log.kill(4).last_marker("catalog"), Some(&b"volume"[..]));
}

#[test]
fn what_stood_there_before_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    crate::write_atomic(
        &RealDisk,
        "before",
        &directory.path().join("old"),
        b"bytes",
        0o600,
    )
    .unwrap();
    let log = Recorder::new(RealDisk, directory.path()).unwrap().log();
    for seed in 0..50 {
        let cut = log.cut(0, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(cut.tree().file("old").unwrap().to_vec(), b"bytes");
    }
}

#[test]
fn a_cut_is_written_out_as_files() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(RealDisk, directory.path().join("live")).unwrap();
    crate::create_dir_durable(&recorder, "new", &directory.path().join("live/d")).unwrap();
    crate::write_atomic(
        &recorder,
        "new",
        &directory.path().join("live/d/state"),
        b"bytes",
        0o600,
    )
    .unwrap();
    let log = recorder.log();
    let left = directory.path().join("left");
    log.cut(log.len(), &mut ChaCha8Rng::seed_from_u64(1))
        .write(&RealDisk, &left)
        .unwrap();
    assert_eq!(std::fs::read(left.join("d/state")).unwrap(), b"bytes");
}

#[test]
fn a_change_outside_the_recorded_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(RealDisk, directory.path().join("in")).unwrap();
    let outside = directory.path().join("out");
    let error = recorder.open("x", &outside, OpenOptions::CREATE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!outside.exists());
}

#[test]
fn bulk_readers_get_no_descriptor_to_slip_past_the_recording() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(RealDisk, directory.path()).unwrap();
    let path = directory.path().join("a");
    assert_eq!(
        recorder
            .open("x", &path, OpenOptions::CREATE)
            .unwrap()
            .as_raw_fd(),
        None
    );
    assert!(
        RealDisk
            .open("x", &path, OpenOptions::READ)
            .unwrap()
            .as_raw_fd()
            .is_some()
    );
}
