#![allow(clippy::unwrap_used)]

use super::super::settings::RING_BYTES_MIN;
use super::*;

fn settings(dir: &tempfile::TempDir) -> SliceSettings {
    let mut settings = SliceSettings::new(dir.path().join("slice"), RING_BYTES_MIN, 0);
    settings.map_bytes = 1 << 20;
    settings
}

#[test]
fn a_slice_is_made_whole_and_reads_back_what_was_written() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let settings = settings(&dir);
    let slice = Slice::open(&settings).unwrap();
    let mut pages = Pages::new(2);
    pages.as_bytes_mut().fill(7);
    slice
        .write(slice.ring_offset(settings.ring_pages() + 3), &pages)
        .unwrap();
    slice.sync().unwrap();
    let mut read = Pages::new(2);
    // A position counts on for ever; its place in the ring comes around.
    Slice::open(&settings).unwrap().read_ring(3, &mut read).unwrap();
    assert_eq!(read.as_bytes(), pages.as_bytes());
    assert!(!dir.path().join("slice.new").exists());
}

#[test]
fn a_slice_that_is_too_small_is_refused_with_both_sizes() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut settings = settings(&dir);
    drop(Slice::open(&settings).unwrap());
    settings.cache_bytes = 4096;
    let refused = Slice::open(&settings).unwrap_err().to_string();
    assert!(refused.contains(&settings.total_bytes().to_string()), "{refused}");
}
