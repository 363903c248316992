use super::*;
use crate::backup::block::BLOCK_BYTES;
use crate::backup::tests::{Memory, VOLUME, keys, memory_backups, noise, put, small_block, snapshot};
use crate::backup::{Flaw, verify};

async fn restored(backups: &Backups, id: &str, target: &Memory) -> Result<Restored, RestoreError> {
    restore(backups, &snapshot(id), target, &Progress::default()).await
}

#[tokio::test]
async fn a_restore_is_byte_identical_and_writes_no_zeros() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(5);
    image.set(0, small_block(1));
    image.set_undefined(1);
    image.set(3, noise(3, BLOCK_BYTES));
    put(&backups, "vs_1", &image, None).await;
    let target = Memory::of_blocks(5);
    let restored = restored(&backups, "vs_1", &target).await.unwrap();
    target.assert_equals(&image);
    assert_eq!(restored.bytes_written, (FRAME_BYTES + BLOCK_BYTES) as u64);
    assert_eq!(target.writes(), 2);
    // Zeros that a guest may rely on were asked for: blocks 2 and 4, and the rest of block 0. Block 1 was not.
    assert_eq!(target.zeroed_bytes(), (3 * BLOCK_BYTES - FRAME_BYTES) as u64);
}

#[tokio::test]
async fn a_larger_target_keeps_what_lies_beyond() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(1);
    image.set(0, small_block(1));
    put(&backups, "vs_1", &image, None).await;
    let target = Memory::of_blocks(3);
    target.set(2, small_block(9));
    let _restored = restored(&backups, "vs_1", &target).await.unwrap();
    assert!(target.block(0) == small_block(1) && target.block(2) == small_block(9));
}

#[tokio::test]
async fn a_smaller_target_is_refused() {
    let (_, backups) = memory_backups();
    put(&backups, "vs_1", &Memory::of_blocks(2), None).await;
    let error = restored(&backups, "vs_1", &Memory::of_blocks(1))
        .await
        .unwrap_err();
    assert!(matches!(error, RestoreError::TooSmall { .. }));
    assert_eq!(error.remedy(), Remedy::FixRequest);
}

#[tokio::test]
async fn a_snapshot_that_never_was_is_not_found() {
    let (_, backups) = memory_backups();
    let error = restored(&backups, "vs_1", &Memory::of_blocks(1))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        RestoreError::Manifest(ManifestError::NotFound { .. })
    ));
}

#[tokio::test]
async fn damage_is_named_by_restore_and_verify_alike() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(3);
    image.set(0, small_block(1));
    image.set(2, small_block(2));
    put(&backups, "vs_1", &image, None).await;
    let block = keys(&store, &format!("backup/{VOLUME}/b/")).await.remove(0);
    assert!(store.damage(&block, |bytes| bytes[400] ^= 0x20));

    let error = restored(&backups, "vs_1", &Memory::of_blocks(3))
        .await
        .unwrap_err();
    let RestoreError::Damaged { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        *source,
        Damage {
            object: block.clone(),
            flaw: Flaw::Frame { frame: 0 }
        }
    );
    assert_eq!(error.remedy(), Remedy::FixData);

    let report = verify(&backups, &snapshot("vs_1"), &Progress::default())
        .await
        .unwrap();
    assert_eq!((report.blocks, report.bytes), (2, BLOCK_BYTES as u64));
    assert_eq!(report.damages, std::slice::from_ref(source));
    assert_eq!(
        report.damages[0].to_string(),
        format!("object {block}: frame 0 is damaged")
    );
}

#[tokio::test]
async fn missing_and_truncated_blocks_and_manifests_are_named() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(2);
    image.set(0, small_block(1));
    image.set(1, small_block(2));
    put(&backups, "vs_1", &image, None).await;
    let blocks = keys(&store, &format!("backup/{VOLUME}/b/")).await;
    objstore::ObjectStore::delete(&store, &blocks[0], crate::backup::GC)
        .await
        .unwrap();
    assert!(store.damage(&blocks[1], |bytes| bytes.truncate(300)));
    let report = verify(&backups, &snapshot("vs_1"), &Progress::default())
        .await
        .unwrap();
    let length = Flaw::Length {
        expected_bytes: 344,
        found_bytes: 300,
    };
    let expected = [
        Damage {
            object: blocks[0].clone(),
            flaw: Flaw::Missing,
        },
        Damage {
            object: blocks[1].clone(),
            flaw: length,
        },
    ];
    assert_eq!(report.damages, expected);

    let manifest = snapshot("vs_1").manifest_key();
    assert!(store.damage(&manifest, |bytes| *bytes.last_mut().unwrap() ^= 1));
    let report = verify(&backups, &snapshot("vs_1"), &Progress::default())
        .await
        .unwrap();
    assert_eq!(
        report.damages,
        [Damage {
            object: manifest,
            flaw: Flaw::Trailer
        }]
    );
}

#[tokio::test]
async fn two_blocks_exchanged_in_the_bucket_do_not_authenticate() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(2);
    image.set(0, small_block(1));
    image.set(1, small_block(2));
    put(&backups, "vs_1", &image, None).await;
    let blocks = keys(&store, &format!("backup/{VOLUME}/b/")).await;
    let first = objstore::ObjectStore::get(&store, &blocks[0], None, crate::backup::GC)
        .await
        .unwrap()
        .bytes;
    assert!(store.damage(&blocks[1], |bytes| *bytes = first.to_vec()));
    let report = verify(&backups, &snapshot("vs_1"), &Progress::default())
        .await
        .unwrap();
    assert_eq!(
        report.damages,
        [Damage {
            object: blocks[1].clone(),
            flaw: Flaw::HeaderSeal
        }]
    );
}

#[test]
fn runs_join_frames_that_are_alike_and_end_with_the_volume() {
    let mut zero = [true; FRAMES];
    zero[1] = false;
    zero[2] = false;
    let expected = [
        (true, 0..FRAME_BYTES),
        (false, FRAME_BYTES..2 * FRAME_BYTES + 512),
    ];
    assert_eq!(runs(&zero, 2 * FRAME_BYTES + 512), expected);
}
