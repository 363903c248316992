//! A program that syncs what it writes, on ext4 on a thin volume, and a power cut.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
};

use host_tests::{Body, Case, End, Guest, PowerCut};
use rand::RngExt as _;

const FILES: u64 = 4;
const BLOCKS: u64 = 32;
const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const ROUNDS: u64 = 400;

pub(crate) const CASE: Case = Case {
    name: "writer_cut::what_was_synced_survives_a_power_cut",
    body: Body::PowerCut(PowerCut {
        workload: write_and_sync,
        check: what_was_synced_survives_a_power_cut,
        requests: 1500,
        short_seeds: 2,
        long_seeds: 50,
    }),
    end: End::Passes,
};

/// A writer that says so and does not sync is found out.
pub(crate) const LIAR: Case = Case {
    name: "writer_cut::what_was_not_synced_does_not",
    body: Body::PowerCut(PowerCut {
        workload: write_only,
        check: what_was_synced_survives_a_power_cut,
        requests: 1500,
        short_seeds: 0,
        long_seeds: 1,
    }),
    end: End::Fails(&["was synced", "acknowledged before the cut"]),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Each,
    Never,
}

fn write_and_sync(guest: &Guest) {
    write(guest, Sync::Each);
}

fn write_only(guest: &Guest) {
    write(guest, Sync::Never);
}

fn write(guest: &Guest, sync: Sync) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk");
    guest.must("lvcreate -y --type thin-pool -L 256M --chunksize 64k --poolmetadatasize 4m -n pool $vg");
    guest.must("lvcreate -y -n v -V 128M --thinpool $vg/pool -kn");
    guest.must("mkfs.ext4 -q /dev/$vg/v && mkdir mnt && mount /dev/$vg/v mnt && mkdir mnt/new && sync");
    let dir = guest.scratch().join("mnt");
    let mut rng = guest.rng();
    let open = |file: u64| {
        let path = dir.join(format!("f{file}"));
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .unwrap()
    };
    let files: Vec<File> = (0..FILES).map(open).collect();
    guest.arm();
    for stamp in 1..=ROUNDS {
        let (file, block) = (rng.random_range(0..FILES), rng.random_range(0..BLOCKS));
        let handle = &files[usize::try_from(file).unwrap()];
        let bytes = stamp.to_le_bytes().repeat(BLOCK / 8);
        handle.write_all_at(&bytes, block * BLOCK as u64).unwrap();
        if sync == Sync::Each {
            handle.sync_data().unwrap();
        }
        if stamp == 1 && sync == Sync::Each {
            // The names.
            File::open(&dir).unwrap().sync_all().unwrap();
        }
        guest.acknowledge(&format!("{stamp} {file} {block}"));
        if stamp % 10 == 0 {
            let path = dir.join("new").join(stamp.to_string());
            let made = File::create(&path).unwrap();
            if sync == Sync::Each {
                made.sync_all().unwrap();
                File::open(dir.join("new")).unwrap().sync_all().unwrap();
            }
            guest.acknowledge(&format!("new {stamp}"));
        }
    }
}

fn what_was_synced_survives_a_power_cut(guest: &Guest) {
    guest.must("vgck $vg && vgchange -ay $vg");
    // Mounting replays the journal; after that nothing may be left to repair.
    guest.must(
        "mkdir mnt && mount /dev/$vg/v mnt && umount mnt && e2fsck -fn /dev/$vg/v && mount /dev/$vg/v mnt",
    );
    let dir = guest.scratch().join("mnt");
    let mut synced: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut last = 0;
    for line in guest.acknowledged() {
        if let Some(name) = line.strip_prefix("new ") {
            assert!(
                dir.join("new").join(name).exists(),
                "file {name} was synced and is gone"
            );
            continue;
        }
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        synced.insert((numbers[1], numbers[2]), numbers[0]);
        last = numbers[0];
    }
    for ((file, block), stamp) in synced {
        let bytes = fs::read(dir.join(format!("f{file}"))).unwrap();
        let start = usize::try_from(block).unwrap() * BLOCK;
        for (index, sector) in bytes[start..start + BLOCK].chunks(SECTOR).enumerate() {
            let found = u64::from_le_bytes(sector[..8].try_into().unwrap());
            // One write may have been under way: newer than all that were acknowledged.
            assert!(
                found == stamp || found == last + 1,
                "file {file} block {block} sector {index}: {found}, synced was {stamp}"
            );
            assert!(
                sector.chunks(8).all(|word| word == found.to_le_bytes()),
                "a sector is torn"
            );
        }
    }
    guest.note(&format!("checked up to stamp {last}"));
}
