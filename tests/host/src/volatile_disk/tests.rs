use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

const PAGE: usize = 4096;

/// How many of 100 cuts leave `byte` at the start of page `page`.
fn left(disk: &VolatileDisk, page: u64, byte: u8) -> usize {
    let cut = |seed| disk.cut(&mut ChaCha8Rng::seed_from_u64(seed));
    (0..100)
        .filter(|seed| {
            let mut first = [0];
            cut(*seed).read(&mut first, page * PAGE as u64);
            first == [byte]
        })
        .count()
}

#[test]
fn a_cut_takes_what_was_not_flushed_or_not() {
    let mut disk = VolatileDisk::new(1 << 20);
    disk.write(&[1; PAGE], 0);
    disk.flush();
    disk.write(&[2; 2 * PAGE], 0);
    disk.force(PAGE as u64, PAGE as u64);
    let luck = left(&disk, 0, 2);
    assert!((1..100).contains(&luck), "{luck}");
    assert_eq!(left(&disk, 0, 1) + luck, 100);
    assert_eq!(left(&disk, 1, 2), 100);
    disk.flush();
    assert_eq!(left(&disk, 0, 2), 100);
}

#[test]
fn a_disk_after_a_cut_has_its_size_and_goes_on() {
    let mut disk = VolatileDisk::new(1 << 20).cut(&mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(disk.len(), 1 << 20);
    disk.write(&[7; 512], (1 << 20) - 512);
    disk.flush();
    let mut bytes = [0; 512];
    disk.cut(&mut ChaCha8Rng::seed_from_u64(2))
        .read(&mut bytes, (1 << 20) - 512);
    assert_eq!(bytes, [7; 512]);
}
