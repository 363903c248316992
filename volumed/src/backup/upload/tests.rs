use std::sync::Arc;

use objstore::faults::{Call, Damage as Fault, Fault as Injected};
use objstore::{FaultStore, MemoryStore, ObjectStore};

use super::*;
use crate::backup::tests::{
    Memory, VOLUME, backups_on, head_of, keys, memory_backups, noise, put, small_block, snapshot, time,
};
use crate::backup::{Abandoned, abandon, delete_manifest, restore, state, verify};

#[tokio::test]
async fn zero_and_unwritten_blocks_are_not_stored() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(6);
    image.set(1, small_block(1));
    image.set(2, vec![0; BLOCK_BYTES]);
    image.set_undefined(3);
    let uploaded = put(&backups, "vs_1", &image, None).await;
    assert_eq!((uploaded.blocks_new, uploaded.head.data_blocks), (1, 1));
    assert_eq!(keys(&store, "backup/vol_1234abcd/b/").await.len(), 1);
}

#[tokio::test]
async fn one_content_in_many_places_is_stored_once() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(9);
    for number in 0..9 {
        image.set(number, small_block(1));
    }
    let uploaded = put(&backups, "vs_1", &image, None).await;
    assert_eq!((uploaded.blocks_new, uploaded.head.data_blocks), (1, 9));
    assert_eq!(uploaded.uploaded_bytes, uploaded.head.stored_bytes);
    assert_eq!(keys(&store, "backup/vol_1234abcd/b/").await.len(), 1);
}

#[tokio::test]
async fn an_incremental_backup_of_one_sixteenth_uploads_at_most_1_15_of_it() {
    // Nothing in it compresses: the worst case.
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(16);
    for number in [0, 7, 15] {
        image.set(number, noise(number as u64 + 1, BLOCK_BYTES));
    }
    let full = put(&backups, "vs_1", &image, None).await;
    assert_eq!(full.blocks_new, 3);
    image.set(7, noise(99, BLOCK_BYTES));
    let next = put(&backups, "vs_2", &image, Some("vs_1")).await;
    assert_eq!((next.blocks_new, next.base), (1, BaseUse::Used));
    assert_eq!(next.head.parent.as_deref(), Some("vs_1"));
    let manifest_bytes = 4_096;
    let limit = BLOCK_BYTES as u64 * 115 / 100;
    assert!(
        next.uploaded_bytes + manifest_bytes <= limit,
        "{} of {limit}",
        next.uploaded_bytes
    );
}

#[tokio::test]
async fn a_short_last_block_is_filled_with_zeros() {
    let (_, backups) = memory_backups();
    let size_bytes = BLOCK_BYTES as u64 + 512;
    let image = Memory::new(size_bytes);
    let mut last = vec![0; BLOCK_BYTES];
    last[..512].fill(7);
    image.set(1, last.clone());
    put(&backups, "vs_1", &image, None).await;
    let target = Memory::new(size_bytes);
    restore(&backups, &snapshot("vs_1"), &target, &Progress::default())
        .await
        .unwrap();
    assert!(target.block(1) == last);
}

#[tokio::test]
async fn a_second_call_finds_the_first_one_done() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(2);
    image.set(0, small_block(1));
    let first = put(&backups, "vs_1", &image, None).await;
    let second = put(&backups, "vs_1", &image, None).await;
    assert_eq!(second.head, first.head);
    assert_eq!(second.uploaded_bytes, 0);
}

#[tokio::test]
async fn a_base_that_is_gone_or_damaged_means_a_full_upload() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(2);
    image.set(0, small_block(1));
    let missing = put(&backups, "vs_1", &image, Some("vs_0")).await;
    assert_eq!((missing.base, missing.blocks_new), (BaseUse::Missing, 1));
    delete_manifest(&backups, &snapshot("vs_1"), time(0))
        .await
        .unwrap();
    let deleted = put(&backups, "vs_2", &image, Some("vs_1")).await;
    assert_eq!(
        (deleted.base, deleted.blocks_new, deleted.head.parent),
        (BaseUse::Missing, 1, None)
    );
    assert!(store.damage(&snapshot("vs_2").manifest_key(), |bytes| bytes[200] ^= 1));
    let damaged = put(&backups, "vs_3", &image, Some("vs_2")).await;
    assert_eq!((damaged.base, damaged.blocks_new), (BaseUse::Unusable, 1));
}

#[tokio::test]
async fn a_base_that_lost_a_block_is_told_and_means_a_full_upload() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(3);
    image.set(0, small_block(1));
    image.set(1, small_block(2));
    put(&backups, "vs_1", &image, None).await;
    let blocks = keys(&store, "backup/vol_1234abcd/b/").await;
    store.delete(&blocks[1], MANIFEST).await.unwrap();
    // Not even what is known not to have changed.
    let next = put_changed(&backups, "vs_2", &image, "vs_1", Vec::new()).await;
    assert_eq!(
        (next.base, next.blocks_new, next.blocks_unread),
        (BaseUse::Unusable, 2, 0)
    );
    let damage = next.base_damage.unwrap();
    assert_eq!(damage.to_string(), format!("object {}: missing", blocks[1]));
    let report = verify(&backups, &snapshot("vs_2"), &Progress::default())
        .await
        .unwrap();
    assert!(report.is_whole());
}

#[tokio::test]
async fn an_image_of_another_size_is_refused() {
    let (_, backups) = memory_backups();
    let head = head_of(VOLUME, "vs_1", 3 * BLOCK_BYTES as u64);
    let error = upload(&backups, head, &Memory::of_blocks(2), None, &Progress::default())
        .await
        .unwrap_err();
    assert!(matches!(error, UploadError::Size { .. }));
}

#[tokio::test]
async fn an_abandoned_upload_never_publishes() {
    let (store, backups) = memory_backups();
    let image = Memory::of_blocks(1);
    image.set(0, small_block(1));
    assert_eq!(
        abandon(&backups, &snapshot("vs_1"), time(0)).await.unwrap(),
        Abandoned::Abandoned
    );
    let head = head_of(VOLUME, "vs_1", BLOCK_BYTES as u64);
    let error = upload(&backups, head, &image, None, &Progress::default())
        .await
        .unwrap_err();
    assert!(matches!(error, UploadError::Abandoned { .. }));
    assert!(state::load(&store, VOLUME).await.unwrap().state.open.is_empty());
}

#[tokio::test]
async fn abandoning_a_published_snapshot_leaves_it() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(1);
    image.set(0, small_block(1));
    put(&backups, "vs_1", &image, None).await;
    assert_eq!(
        abandon(&backups, &snapshot("vs_1"), time(0)).await.unwrap(),
        Abandoned::Published
    );
    let report = verify(&backups, &snapshot("vs_1"), &Progress::default())
        .await
        .unwrap();
    assert!(report.is_whole() && report.blocks == 1);
}

/// Uploads with the `skip`th call of a kind failing, then again without; returns whether the fault struck.
async fn crash_and_retry(call: Call, fault: Fault, skip: u64) -> bool {
    let inner = MemoryStore::new();
    let store = FaultStore::new(Arc::new(inner.clone()));
    let backups = backups_on(Arc::new(store.clone()));
    let image = Memory::of_blocks(4);
    image.set(0, small_block(1));
    image.set(2, small_block(2));
    put(&backups, "vs_1", &image, None).await;
    image.set(3, small_block(3));
    image.set(0, small_block(4));

    store.inject(Injected::next(call, fault).after(skip));
    let head = || head_of(VOLUME, "vs_2", image.size_bytes());
    let first = upload(
        &backups,
        head(),
        &image,
        Some("vs_1".into()),
        &Progress::default(),
    )
    .await;
    store.heal();
    let struck = first.is_err();
    if let Err(error) = first {
        assert_eq!(error.remedy(), Remedy::Retry, "{error}");
    }
    let retried = upload(
        &backups,
        head(),
        &image,
        Some("vs_1".into()),
        &Progress::default(),
    )
    .await
    .unwrap();
    assert_eq!(
        (retried.head.data_blocks, retried.head.parent.as_deref()),
        (3, Some("vs_1"))
    );

    // The same as if nothing had happened: what is stored, what is said of it, and nothing left open.
    assert!(state::load(&inner, VOLUME).await.unwrap().state.open.is_empty());
    assert_eq!(
        keys(&inner, "backup/").await.len(),
        4 + 2 + 1,
        "blocks, manifests, register"
    );
    let target = Memory::of_blocks(4);
    restore(&backups, &snapshot("vs_2"), &target, &Progress::default())
        .await
        .unwrap();
    target.assert_equals(&image);
    struck
}

#[tokio::test]
async fn a_failure_of_any_store_call_is_made_good_by_calling_again() {
    for (call, fault) in [
        (Call::Put, Fault::FailBefore),
        (Call::Put, Fault::FailAfter),
        (Call::Get, Fault::FailBefore),
        (Call::Get, Fault::Short { got_bytes: 3 }),
        (Call::List, Fault::FailBefore),
    ] {
        let mut struck = 0;
        for skip in 0..10 {
            struck += u32::from(crash_and_retry(call, fault.clone(), skip).await);
        }
        let least = match call {
            Call::Put => 5,
            Call::List => 1,
            _ => 3,
        };
        assert!(struck >= least, "{call:?} {fault:?} struck {struck} times only");
    }
}

#[tokio::test]
async fn stored_bytes_are_the_same_after_a_resumed_upload() {
    let inner = MemoryStore::new();
    let store = FaultStore::new(Arc::new(inner.clone()) as Arc<dyn ObjectStore>);
    let backups = backups_on(Arc::new(store.clone()));
    let image = Memory::of_blocks(4);
    for number in 0..4 {
        image.set(number, small_block(number as u64));
    }
    store.inject(Injected::next(Call::Put, Fault::FailBefore).on(MANIFEST));
    let head = head_of(VOLUME, "vs_1", image.size_bytes());
    assert!(
        upload(&backups, head, &image, None, &Progress::default())
            .await
            .is_err()
    );
    let resumed = put(&backups, "vs_1", &image, None).await;
    let (_, clean) = memory_backups();
    let clean = put(&clean, "vs_1", &image, None).await;
    assert_eq!(resumed.uploaded_bytes, 0);
    assert_eq!(resumed.head, clean.head);
}

async fn put_changed(
    backups: &Backups,
    id: &str,
    image: &Memory,
    base: &str,
    changed: Vec<std::ops::Range<u64>>,
) -> Uploaded {
    let head = head_of(VOLUME, id, ImageSource::size_bytes(image));
    let base = Base {
        snapshot_id: base,
        changed: Some(changed),
    };
    upload(backups, head, image, Some(base), &Progress::default())
        .await
        .unwrap()
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn what_did_not_change_is_not_read_and_restores_all_the_same() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(8);
    for number in 0..6 {
        image.set(number, small_block(number as u64 + 1));
    }
    image.set(6, vec![0; BLOCK_BYTES]);
    image.set_undefined(7);
    put(&backups, "vs_1", &image, None).await;
    image.set(2, small_block(77));
    // One byte of block 2, and the seam of blocks 4 and 5 without a byte of them.
    let changed = vec![11 * MIB..11 * MIB + 1, 16 * MIB..16 * MIB];
    let next = put_changed(&backups, "vs_2", &image, "vs_1", changed).await;
    assert_eq!(
        (next.blocks_unread, next.blocks_new, next.base),
        (7, 1, BaseUse::Used)
    );
    // The same content read in full comes to the same manifest.
    let full = put(&backups, "vs_3", &image, Some("vs_1")).await;
    assert_eq!(
        (full.blocks_unread, full.head.data_blocks),
        (0, next.head.data_blocks)
    );
    assert!(
        verify(&backups, &snapshot("vs_2"), &Progress::default())
            .await
            .unwrap()
            .is_whole()
    );
}

#[tokio::test]
async fn the_end_of_a_volume_that_grew_is_read() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(2);
    image.set(0, small_block(1));
    image.set(1, small_block(2));
    put(&backups, "vs_1", &image, None).await;
    let grown = Memory::of_blocks(3);
    for number in 0..3 {
        grown.set(number, small_block(number as u64 + 1));
    }
    let next = put_changed(&backups, "vs_2", &grown, "vs_1", Vec::new()).await;
    assert_eq!(
        (next.blocks_unread, next.blocks_new, next.head.data_blocks),
        (2, 1, 3)
    );
}

#[tokio::test]
async fn without_its_base_a_change_list_is_worth_nothing() {
    let (_, backups) = memory_backups();
    let image = Memory::of_blocks(2);
    image.set(1, small_block(2));
    let next = put_changed(&backups, "vs_2", &image, "vs_gone", Vec::new()).await;
    assert_eq!(
        (next.blocks_unread, next.blocks_new, next.base),
        (0, 1, BaseUse::Missing)
    );
}
