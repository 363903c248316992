//! Patterns on devices.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
};

pub(crate) const MIB: u64 = 1 << 20;

/// Fills a range and waits until it is durable.
pub(crate) fn fill(device: &str, offset: u64, len: u64, byte: u8) {
    let file = OpenOptions::new().write(true).open(device).expect(device);
    let piece = vec![byte; usize::try_from(MIB.min(len)).unwrap()];
    let mut done = 0;
    while done < len {
        let now = (len - done).min(MIB);
        file.write_all_at(&piece[..usize::try_from(now).unwrap()], offset + done)
            .expect(device);
        done += now;
    }
    file.sync_data().expect(device);
}

/// Tells whether a range reads as nothing but `byte`.
pub(crate) fn is_filled(device: &str, offset: u64, len: u64, byte: u8) -> bool {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    File::open(device)
        .and_then(|file| file.read_exact_at(&mut bytes, offset))
        .expect(device);
    bytes.iter().all(|found| *found == byte)
}
