//! On a file system that shares blocks between files, a backup reads what changed since the last one and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use crashsafe::RealDisk;
use it::{
    reflink::{FileSystem, mounted},
    volumed::Volumed,
};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Value, json};

const BLOCK: u64 = 4 << 20;
const BLOCKS: u64 = 256;

/// Writes and discards at random as a machine would, and returns the blocks that have other bytes since.
fn change(slice: &Path, rng: &mut ChaCha8Rng) -> BTreeSet<u64> {
    let file = File::options().read(true).write(true).open(slice).unwrap();
    let page_at = |page: u64| {
        let mut bytes = vec![0; 4096];
        file.read_exact_at(&mut bytes, page * 4096).unwrap();
        bytes
    };
    let mut before = BTreeMap::new();
    for _ in 0..40 {
        let (first, count) = (rng.random_range(0..BLOCKS * 1024 - 64), rng.random_range(1..64));
        for page in first..first + count {
            before.entry(page).or_insert_with(|| page_at(page));
        }
        if rng.random_bool(0.2) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&file, flags, first * 4096, count * 4096).unwrap();
        } else {
            let mut bytes = vec![0; usize::try_from(count * 4096).unwrap()];
            rng.fill_bytes(&mut bytes);
            file.write_all_at(&bytes, first * 4096).unwrap();
        }
    }
    file.sync_all().unwrap();
    let changed = before.iter().filter(|(page, bytes)| page_at(**page) != **bytes);
    changed.map(|(page, _)| page / 1024).collect()
}

/// Returns how many blocks a backup did not read.
async fn blocks_unread(volumed: &Volumed, snapshot: &str) -> u64 {
    let events: Vec<Value> = volumed.client().get("/v1/events").await.unwrap();
    let told = format!("snapshot {snapshot} is in the object store");
    let mut messages = events.iter().map(|event| event["message"].as_str().unwrap());
    let message = messages.find(|message| message.starts_with(&told)).unwrap();
    let Some((before, _)) = message.split_once(" blocks of 4 MiB known to be unchanged") else {
        return 0;
    };
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Rounds of changes, backups and restores on a file system of `kind`.
async fn play(kind: FileSystem, seed: u64) {
    let (place, _mounted) = mounted(kind, 8).unwrap();
    let folder = place.path().join("pool");
    let mut volumed = Volumed::new().await.unwrap();
    let config = volumed.path("config.toml");
    let (here, there) = (volumed.path("volumed/pool"), folder.display().to_string());
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace(&here.display().to_string(), &there);
    crashsafe::write_atomic(&RealDisk, "it:config", &config, text.as_bytes(), 0o600).unwrap();
    let _running = volumed.start().await.unwrap();
    let client = volumed.client();
    let wish = json!({"name": "data", "encrypted": false, "auto_backup_enabled": false});
    let volume = volumed.create(&client, &wish).await.unwrap();
    let slice = folder.join(format!("v-{volume}.img"));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    change(&slice, &mut rng);
    let first = volumed.snapshot(&client, &volume).await.unwrap();
    assert_eq!(blocks_unread(&volumed, &first).await, 0);
    for round in 0..3 {
        let changed = change(&slice, &mut rng).len() as u64;
        let snapshot = volumed.snapshot(&client, &volume).await.unwrap();
        let unread = blocks_unread(&volumed, &snapshot).await;
        println!("{kind:?}, round {round}: {changed} of {BLOCKS} blocks changed, {unread} were not read");
        assert!(unread <= BLOCKS - changed, "a change was not looked at");
        // A page that was written with what it held, or discarded twice, is read for nothing.
        assert!(unread + 2 >= BLOCKS - changed, "blocks were read for nothing");
        let wish = json!({"name": "back", "snapshot_id": snapshot, "encrypted": false, "auto_backup_enabled": false});
        let back = volumed.create(&client, &wish).await.unwrap();
        let (mine, theirs) = (
            File::open(&slice).unwrap(),
            File::open(folder.join(format!("v-{back}.img"))).unwrap(),
        );
        let (mut one, mut other) = (vec![0; 4 << 20], vec![0; 4 << 20]);
        for block in 0..BLOCKS {
            mine.read_exact_at(&mut one, block * BLOCK).unwrap();
            theirs.read_exact_at(&mut other, block * BLOCK).unwrap();
            assert!(one == other, "block {block} came back wrong");
        }
    }
    // One capture is kept, for the next backup.
    let names = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let captures = names.filter(|name| name.to_string_lossy().starts_with("s-"));
    assert_eq!(captures.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_xfs_reads_what_changed_and_nothing_else() {
    play(FileSystem::Xfs, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_btrfs_reads_what_changed_and_nothing_else() {
    play(FileSystem::Btrfs, 2).await;
}
