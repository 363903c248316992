use std::sync::Arc;

use objstore::FaultStore;
use objstore::faults::Call;

use super::*;
use crate::backup::tests::{
    Memory, VOLUME, backups_on, keys, memory_backups, noise, put, small_block, snapshot,
};
use crate::backup::{BLOCK, GC};

fn image() -> Memory {
    let image = Memory::of_blocks(4);
    image.set(0, noise(1, BLOCK_BYTES));
    image.set(1, small_block(2));
    image.set_undefined(2);
    image.set(3, noise(4, BLOCK_BYTES));
    image
}

#[tokio::test]
async fn ranges_of_any_alignment_read_what_was_backed_up() {
    let (_, backups) = memory_backups();
    let image = image();
    put(&backups, "vs_1", &image, None).await;
    let reader = RangeReader::open(&backups, &snapshot("vs_1")).await.unwrap();
    let whole: Vec<u8> = (0..4).flat_map(|number| image.block(number)).collect();
    let (frame, block) = (FRAME_BYTES, BLOCK_BYTES);
    for (offset, len) in [
        (0, 1),
        (frame - 1, 2),
        (frame, frame),
        (block - 3, 7),
        (block + 5, 2 * frame),
        (2 * block - 10, block + 20),
        (4 * block - 1, 1),
        (4 * block, 0),
    ] {
        let read = reader.read(offset as u64, len).await.unwrap();
        assert!(read == whole[offset..offset + len], "{len} bytes at {offset}");
    }
}

#[tokio::test]
async fn a_small_read_fetches_one_header_and_one_frame() {
    let (inner, backups) = memory_backups();
    put(&backups, "vs_1", &image(), None).await;
    let store = FaultStore::new(Arc::new(inner));
    let reader = RangeReader::open(&backups_on(Arc::new(store.clone())), &snapshot("vs_1"))
        .await
        .unwrap();
    reader.read(10 * FRAME_BYTES as u64 + 17, 100).await.unwrap();
    assert_eq!(store.calls(Call::Get, Some(BLOCK)), 2);
    // The header is known now; zeros and what was never written cost nothing.
    reader.read(11 * FRAME_BYTES as u64, 100).await.unwrap();
    assert_eq!(store.calls(Call::Get, Some(BLOCK)), 3);
    reader.read(2 * BLOCK_BYTES as u64, 100).await.unwrap();
    assert_eq!(store.calls(Call::Get, Some(BLOCK)), 3);
}

#[tokio::test]
async fn a_range_past_the_end_is_refused() {
    let (_, backups) = memory_backups();
    put(&backups, "vs_1", &image(), None).await;
    let reader = RangeReader::open(&backups, &snapshot("vs_1")).await.unwrap();
    for (offset, len) in [(reader.size_bytes(), 1), (u64::MAX, 2), (0, BLOCK_BYTES * 4 + 1)] {
        let error = reader.read(offset, len).await.unwrap_err();
        assert!(matches!(error, RangeReaderError::OutOfRange { .. }), "{error}");
    }
}

#[tokio::test]
async fn damage_within_reach_of_a_small_read_is_named() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(1);
    image.set(0, small_block(2));
    put(&backups, "vs_1", &image, None).await;
    let block = keys(&store, &format!("backup/{VOLUME}/b/")).await.remove(0);
    let reader = || async {
        RangeReader::open(&backups, &snapshot("vs_1"))
            .await
            .unwrap()
            .read(0, 9)
            .await
    };

    assert!(store.damage(&block, |bytes| bytes[350] ^= 1));
    let error = reader().await.unwrap_err();
    assert_eq!(error.to_string(), format!("object {block}: frame 0 is damaged"));
    assert!(store.damage(&block, |bytes| bytes[100] ^= 1));
    let error = reader().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("object {block}: its header is damaged")
    );
    objstore::ObjectStore::delete(&store, &block, GC).await.unwrap();
    let error = reader().await.unwrap_err();
    assert_eq!(error.to_string(), format!("object {block}: missing"));
}
