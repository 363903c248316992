#![allow(clippy::unwrap_used)]

use super::behind_header;

const CHUNK: u64 = 64 << 10;

#[test]
fn ranges_behind_a_header_are_the_bytes_of_the_volume() {
    let changed = [0..CHUNK, 15 << 20..17 << 20, 100 << 20..200 << 20];
    let moved = behind_header(&changed, 16 << 20, 150 << 20);
    assert_eq!(moved, [0..1 << 20, 84 << 20..150 << 20]);
}
