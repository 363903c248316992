//! Thin pools: what they do when they are full, and what they know about differences.

use std::time::Duration;

use host_tests::Guest;

use crate::{
    bytes::{MIB, fill, is_filled},
    report,
};

fn pool(guest: &Guest, mib: u64, virtual_mib: u64) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk");
    guest.must(&format!(
        "lvcreate -y --type thin-pool -L {mib}M --chunksize 64k --poolmetadatasize 4m --zero y --monitor n -n pool $vg"
    ));
    guest.must(&format!(
        "lvcreate -y -n v -V {virtual_mib}M --thinpool $vg/pool -kn"
    ));
}

fn pool_status(guest: &Guest) -> String {
    guest.must("dmsetup status $vg-pool-tpool")
}

/// Waits for a state of the pool; the harness's time limit ends it.
fn wait_for_state(guest: &Guest, state: &str) -> String {
    loop {
        let status = pool_status(guest);
        if status.split_whitespace().any(|word| word == state) {
            return status;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

pub(crate) fn a_full_pool_holds_writers_until_it_grows(guest: &Guest) {
    pool(guest, 64, 256);
    guest.record("thin-pool-status-rw.txt", &pool_status(guest));
    let device = format!("/dev/{}/v", guest.vg());
    let writer = std::thread::spawn({
        let device = device.clone();
        move || fill(&device, 0, 128 * MIB, 7)
    });
    let full = wait_for_state(guest, "out_of_data_space");
    guest.record("thin-pool-status-out-of-data-space.txt", &full);
    guest.record("lvs-full.json", &report::text(guest, "lvs -a", report::LV_FIELDS));
    let row = report::lv(guest, "pool");
    assert_eq!(
        (row["data_percent"].as_str(), row["lv_health_status"].as_str()),
        (Some("100.00"), Some("out_of_data"))
    );
    let refused = guest.run("lvcreate -y -n s -s $vg/v");
    assert_eq!(refused.code, Some(5), "a snapshot of a full pool");
    guest.must("lvextend -L 256M $vg/pool");
    writer.join().expect("the writer went on without an error");
    wait_for_state(guest, "rw");
    assert!(is_filled(&device, 0, 128 * MIB, 7));
}

/// A chunk's worth of bytes.
const CHUNK: u64 = 64 << 10;

pub(crate) fn the_difference_of_two_snapshots_is_what_was_written_between(guest: &Guest) {
    pool(guest, 256, 128);
    let device = format!("/dev/{}/v", guest.vg());
    fill(&device, 0, 4 * CHUNK, 1);
    fill(&device, 16 * CHUNK, 8 * CHUNK, 1);
    guest.must("lvcreate -y -n s-1 -s $vg/v -ky");
    fill(&device, 2 * CHUNK, CHUNK, 2);
    fill(&device, 100 * CHUNK, 3 * CHUNK, 2);
    guest.must("blkdiscard -o $((20 * 65536)) -l $((2 * 65536)) /dev/$vg/v");
    guest.must("lvcreate -y -n s-2 -s $vg/v -ky");
    let id = |name: &str| {
        report::lv(guest, name)["thin_id"]
            .as_str()
            .expect("a thin id")
            .to_owned()
    };
    let (one, two) = (id("s-1"), id("s-2"));
    guest.must("dmsetup message $vg-pool-tpool 0 reserve_metadata_snap");
    guest.record("thin-pool-status-metadata-snapshot.txt", &pool_status(guest));
    assert_ne!(
        pool_status(guest).split_whitespace().nth(6),
        Some("-"),
        "the held root"
    );
    let delta = |more: &str| {
        guest.must(&format!(
            "thin_delta {more} -m --snap1 {one} --snap2 {two} /dev/mapper/$vg-pool_tmeta"
        ))
    };
    let (plain, verbose) = (delta(""), delta("--verbose"));
    let dump = guest.must("thin_dump -m /dev/mapper/$vg-pool_tmeta");
    guest.must("dmsetup message $vg-pool-tpool 0 release_metadata_snap");
    assert_eq!(pool_status(guest).split_whitespace().nth(6), Some("-"));
    guest.record("thin-delta.xml", &plain);
    guest.record("thin-delta-verbose.xml", &verbose);
    guest.record("thin-dump.xml", &dump);
    let has = |line: &str| assert!(plain.contains(line), "no {line} in {plain}");
    has(r#"data_block_size="128""#);
    has(r#"<different begin="2" length="1"/>"#);
    has(r#"<right_only begin="100" length="3"/>"#);
    has(r#"<left_only begin="20" length="2"/>"#);
    has(r#"<same begin="0" length="2"/>"#);
}
