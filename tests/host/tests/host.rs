//! Tests of what only a real kernel can show: device-mapper, LVM, file systems that grow, power cuts below them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "host/bytes.rs"]
mod bytes;
#[path = "host/grow.rs"]
mod grow;
#[path = "host/harness.rs"]
mod harness;
#[path = "host/luks.rs"]
mod luks;
#[path = "host/lvm.rs"]
mod lvm;
#[path = "host/metadata_cut.rs"]
mod metadata_cut;
#[path = "host/report.rs"]
mod report;
#[path = "host/snapshot.rs"]
mod snapshot;
#[path = "host/thin.rs"]
mod thin;
#[path = "host/writer_cut.rs"]
mod writer_cut;

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut cases = host_tests::cases![
        grow::a_mounted_file_system_grows_with_its_device,
        luks::a_luks_device_grows_only_for_who_has_the_key,
        lvm::a_volume_group_inside_a_volume_is_not_ours,
        lvm::reports_are_json_with_sizes_in_bytes,
        lvm::what_is_there_already_is_an_error_five,
        snapshot::a_snapshot_that_overflows_is_lost_and_its_origin_is_not,
        thin::a_full_pool_holds_writers_until_it_grows,
        thin::the_difference_of_two_snapshots_is_what_was_written_between,
    ];
    cases.extend(harness::CASES);
    cases.extend([writer_cut::CASE, writer_cut::LIAR, metadata_cut::CASE]);
    host_tests::main(cases, Path::new(env!("CARGO_TARGET_TMPDIR")))
}
