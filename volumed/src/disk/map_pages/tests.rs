#![allow(clippy::unwrap_used)]

use super::super::settings::{RING_BYTES_MIN, SliceSettings};
use super::*;

fn pages(dir: &tempfile::TempDir, map_bytes: u64) -> MapPages {
    let mut settings = SliceSettings::new(dir.path().join("slice"), RING_BYTES_MIN, 0);
    settings.map_bytes = map_bytes;
    MapPages::new(Slice::open(&settings).unwrap())
}

#[test]
fn leaves_come_back_from_the_slice_and_beyond_its_room_from_memory() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut pages = pages(&dir, 4 * 4096);
    let leaf = |fill: u8| vec![fill; 5000];
    for fill in 0..4 {
        pages.store(u32::from(fill), &leaf(fill));
    }
    pages.store(1, &leaf(9));
    for (number, fill) in [(0, 0), (1, 9), (2, 2), (3, 3)] {
        assert_eq!(pages.load(number).unwrap(), leaf(fill), "leaf {number}");
    }
    assert!(pages.load(4).is_err());
}
