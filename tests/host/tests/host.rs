//! Tests of what only a real kernel can show: device-mapper, LVM, file systems that grow, power cuts below them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "host/bytes.rs"]
mod bytes;
#[path = "host/grow.rs"]
mod grow;
#[path = "host/half_made.rs"]
mod half_made;
#[path = "host/harness.rs"]
mod harness;
#[path = "host/luks.rs"]
mod luks;
#[path = "host/lvm.rs"]
mod lvm;
#[path = "host/metadata_cut.rs"]
mod metadata_cut;
#[path = "host/missing_disk.rs"]
mod missing_disk;
#[path = "host/newer.rs"]
mod newer;
#[path = "host/node.rs"]
mod node;
#[path = "host/node_cut.rs"]
mod node_cut;
#[path = "host/operations.rs"]
mod operations;
#[path = "host/pool.rs"]
mod pool;
#[path = "host/report.rs"]
mod report;
#[path = "host/snapshot.rs"]
mod snapshot;
#[path = "host/thin.rs"]
mod thin;
#[path = "host/walk.rs"]
mod walk;
#[path = "host/writer_cut.rs"]
mod writer_cut;

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == node::AS_VOLUMED) {
        let config = words.next().expect("a configuration file");
        return node::serve(Path::new(&config));
    }
    let mut cases = host_tests::cases![
        node::a_volume_on_the_host_grows_under_load_by_one_request,
        node::volumes_on_the_host_outlive_volumed_and_come_back_after_a_boot,
        grow::a_mounted_file_system_grows_with_its_device,
        half_made::what_lvm_listed_and_its_pool_never_heard_of_is_made_anew,
        luks::a_luks_device_grows_only_for_who_has_the_key,
        lvm::a_volume_group_inside_a_volume_is_not_ours,
        lvm::reports_are_json_with_sizes_in_bytes,
        lvm::what_is_there_already_is_an_error_five,
        missing_disk::a_missing_disk_is_told_and_what_lies_on_others_goes_on,
        newer::a_pool_that_knows_more_than_its_catalog_is_put_right_by_tags_and_not_touched,
        operations::every_operation_on_thin_volumes_converges_after_a_kill,
        operations::every_operation_on_linear_volumes_converges_after_a_kill,
        pool::every_call_on_encrypted_thin_slices_does_what_it_says_twice,
        pool::every_call_on_encrypted_linear_slices_does_what_it_says_twice,
        pool::foreign_logical_volumes_stay_as_they_are_byte_for_byte,
        pool::a_thin_pool_filled_at_full_speed_grows_and_never_runs_out_while_extents_are_free,
        pool::changes_between_captures_are_told_to_the_chunk_and_not_across_a_lost_base,
        pool::changes_are_not_told_across_a_repair_of_the_pool,
        pool::an_overflow_fails_the_capture_and_the_volume_goes_on,
        snapshot::a_snapshot_that_overflows_is_lost_and_its_origin_is_not,
        thin::a_full_pool_holds_writers_until_it_grows,
        thin::the_difference_of_two_snapshots_is_what_was_written_between,
        walk::random_calls_of_a_thin_pool_do_as_a_model_says,
    ];
    if host_tests::is_long() {
        cases.extend(operations::points());
        // The encrypted ones are all this and more.
        cases.extend(host_tests::cases![
            pool::every_call_on_thin_slices_does_what_it_says_twice,
            pool::every_call_on_linear_slices_does_what_it_says_twice,
        ]);
    }
    cases.extend(harness::CASES);
    cases.extend([
        writer_cut::CASE,
        writer_cut::LIAR,
        metadata_cut::CASE,
        node_cut::CASE,
    ]);
    host_tests::main(cases, Path::new(env!("CARGO_TARGET_TMPDIR")))
}
