use std::path::PathBuf;

use crashsafe::{Disk as _, OpenOptions, RealDisk};
use proptest::prelude::*;

use super::*;

fn record(key: &str) -> Record {
    Record {
        key: key.to_owned(),
        etag: "e-1".to_owned(),
        modified: jiff::Timestamp::UNIX_EPOCH,
        headers: BTreeMap::from([("content-type".to_owned(), "text/plain".to_owned())]),
        metadata: BTreeMap::from([("hangar-nonce".to_owned(), "00ff".to_owned())]),
        checksums: BTreeMap::new(),
    }
}

/// Writes an object in chunks and returns its file's path.
fn written(directory: &tempfile::TempDir, data: &[u8], chunk: usize) -> PathBuf {
    let path = directory.path().join("object");
    let file = RealDisk
        .open(
            "test",
            &path,
            OpenOptions {
                truncate: true,
                ..OpenOptions::CREATE
            },
        )
        .unwrap();
    let mut writer = ObjectWriter::new(file);
    for chunk in data.chunks(chunk) {
        writer.write(chunk).unwrap();
    }
    let digest = writer.digest();
    assert_eq!(
        (digest.data_bytes, digest.crc32),
        (data.len() as u64, crc32fast::hash(data))
    );
    writer.finish(&record("a/b")).unwrap();
    path
}

fn open(path: &std::path::Path) -> Result<ObjectReader, DamageError> {
    ObjectReader::open(RealDisk.open("test", path, OpenOptions::READ).unwrap())
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..251).cycle().take(bytes).collect()
}

#[test]
fn an_empty_object_is_a_footer_and_a_record() {
    let directory = tempfile::tempdir().unwrap();
    let reader = open(&written(&directory, b"", 1)).unwrap();
    assert_eq!(reader.record(), &record("a/b"));
    assert_eq!(reader.read(0..0).unwrap(), "");
}

#[test]
fn sizes_around_the_block_and_the_buffer_come_back_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (block, buffer) = (BLOCK, BUFFER_BYTES);
    for bytes in [
        1,
        block - 1,
        block,
        block + 1,
        buffer - 1,
        buffer,
        buffer + 1,
        2 * buffer + block + 5,
    ] {
        let data = pattern(bytes);
        let reader = open(&written(&directory, &data, 100_003)).unwrap();
        assert_eq!(reader.read(0..bytes as u64).unwrap(), data, "{bytes} bytes");
    }
}

#[test]
fn any_changed_byte_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, &pattern(700), 700);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let file = RealDisk.open("test", &path, OpenOptions::READ_WRITE).unwrap();
        file.write_at(&bad, 0).unwrap();
        let found = match open(&path) {
            Err(DamageError::Io(error)) => panic!("byte {at}: {error}"),
            Err(_) => true,
            Ok(reader) => matches!(reader.read(0..700), Err(DamageError::Block { block: 0, .. })),
        };
        assert!(found, "byte {at} of {} changed unseen", good.len());
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, &pattern(70_000), 70_000);
    let file = RealDisk.open("test", &path, OpenOptions::READ_WRITE).unwrap();
    for len in (0..file.len().unwrap()).rev().step_by(97) {
        file.set_len(len).unwrap();
        assert!(
            matches!(open(&path), Err(DamageError::Damaged { .. })),
            "cut to {len}"
        );
    }
}

#[test]
fn damage_outside_the_range_does_not_stop_a_read() {
    let directory = tempfile::tempdir().unwrap();
    let data = pattern(3 * BLOCK);
    let path = written(&directory, &data, 4_096);
    let file = RealDisk.open("test", &path, OpenOptions::READ_WRITE).unwrap();
    file.write_at(b"!", BLOCK_BYTES + 5).unwrap();
    let reader = open(&path).unwrap();
    assert_eq!(reader.read(0..BLOCK_BYTES).unwrap(), data[..BLOCK]);
    assert!(matches!(
        reader.read(BLOCK_BYTES - 1..BLOCK_BYTES + 1),
        Err(DamageError::Block { block: 1, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn prop_every_range_is_the_slice(bytes in 1_usize..300_000, from in 0..=1_000_usize, to in 0..=1_000_usize) {
        let directory = tempfile::tempdir().unwrap();
        let data = pattern(bytes);
        let reader = open(&written(&directory, &data, 65_537)).unwrap();
        let scale = |share: usize| share * bytes / 1_000;
        let (from, to) = (scale(from).min(scale(to)), scale(from).max(scale(to)));
        let read = reader.read(from as u64..to as u64).unwrap();
        prop_assert_eq!(&read[..], &data[from..to]);
    }
}
