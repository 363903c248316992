use super::*;

#[test]
fn a_directory_that_does_not_exist_yet_is_judged_by_its_nearest_parent() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(nearest(&place.path().join("a/b")), place.path());
    let finding = data_directory(&Layout::new(place.path().join("node")));
    assert_ne!(finding.verdict, Verdict::Missing, "{finding:?}");
}

#[test]
fn a_path_too_long_for_sockets_is_told_before_the_start_fails() {
    let finding = data_directory(&Layout::new(PathBuf::from(format!("/tmp/{}", "d".repeat(90)))));
    assert_eq!(finding.verdict, Verdict::Missing);
}

#[test]
fn bucket_and_pool_on_one_disk_are_warned_about_unless_there_is_another_store() {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::new(place.path().to_owned());
    let pool = [layout.below("volumed/pool")];
    assert_eq!(bucket_place(&layout, &pool, false).verdict, Verdict::Warning);
    assert_eq!(bucket_place(&layout, &pool, true).verdict, Verdict::Ok);
    let elsewhere = [PathBuf::from("/proc/pool")];
    assert_eq!(bucket_place(&layout, &elsewhere, false).verdict, Verdict::Ok);
}

#[test]
fn the_reflink_check_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let _verdict = reflink(&[place.path().join("pool")]);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn the_folders_of_pools_are_judged_and_not_the_data_directory() {
    let found = reflink(&[PathBuf::from("/proc/pool")]);
    assert!(
        found.verdict == Verdict::Note && found.found.contains("/proc"),
        "{found:?}"
    );
    assert_eq!(reflink(&[]).verdict, Verdict::Ok);
}
