use std::sync::Arc;

use objstore::faults::{Call, Damage as Fault, Fault as Injected};
use objstore::{FaultStore, Key, ObjectStore};

use super::*;
use crate::backup::tests::{
    Memory, VOLUME, backups_on, data_key, head_of, memory_backups, put, small_block, snapshot, time,
};
use crate::backup::{Flaw, Progress, delete_manifest, restore, upload};
use crate::bulk::Workers;
use crate::keys::ClusterKey;

/// Three volumes whose ids are prefixes of one another, with a snapshot or two each.
async fn fill(backups: &Backups) {
    let image = Memory::of_blocks(2);
    for (volume_id, snapshot_id) in [
        ("vol_1", "vs_a"),
        ("vol_1", "vs_b"),
        ("vol_10", "vs_c"),
        ("vol_1-x", "vs_d"),
    ] {
        image.set(0, small_block(volume_id.len() as u64));
        let head = head_of(volume_id, snapshot_id, 8 << 20);
        let _uploaded = upload(backups, head, &image, None, &Progress::default())
            .await
            .unwrap();
    }
}

fn ids(listing: &Listing) -> Vec<(&str, &str)> {
    let mut ids: Vec<_> = listing
        .heads
        .iter()
        .map(|head| (head.volume_id.as_str(), head.snapshot_id.as_str()))
        .collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_fresh_host_with_bucket_and_key_lists_and_restores_everything() {
    let (store, backups) = memory_backups();
    fill(&backups).await;
    // Nothing of the old host but the exported text of its key.
    let text = backups.cluster_key.export_text(None, &crate::random::OsRandom);
    drop(backups);
    let key = ClusterKey::import_text(&text, None).unwrap();
    let fresh = Backups::new(Arc::new(store), key, Workers::inline());
    let listing = list(&fresh).await.unwrap();
    assert_eq!(
        ids(&listing),
        [
            ("vol_1", "vs_a"),
            ("vol_1", "vs_b"),
            ("vol_1-x", "vs_d"),
            ("vol_10", "vs_c")
        ]
    );
    assert!(listing.unreadable.is_empty());
    for head in &listing.heads {
        let target = Memory::of_blocks(2);
        let snapshot = SnapshotRef::new(&head.volume_id, &head.snapshot_id).unwrap();
        let restored = restore(&fresh, &snapshot, &target, &Progress::default())
            .await
            .unwrap();
        assert!(target.block(0) == small_block(head.volume_id.len() as u64));
        assert_eq!(restored.head, *head);
        assert!(
            fresh
                .cluster_key
                .unwrap(&head.volume_id, &head.wrapped_key)
                .unwrap()
                == data_key()
        );
    }
}

#[tokio::test]
async fn deleted_snapshots_are_not_listed_and_damaged_ones_are_named() {
    let (store, backups) = memory_backups();
    fill(&backups).await;
    delete_manifest(&backups, &SnapshotRef::new("vol_1", "vs_a").unwrap(), time(0))
        .await
        .unwrap();
    let damaged = SnapshotRef::new("vol_10", "vs_c").unwrap().manifest_key();
    assert!(store.damage(&damaged, |bytes| bytes[150] ^= 4));
    let listing = list(&backups).await.unwrap();
    assert_eq!(ids(&listing), [("vol_1", "vs_b"), ("vol_1-x", "vs_d")]);
    assert_eq!(
        listing.unreadable,
        [Damage {
            object: damaged,
            flaw: Flaw::Facts
        }]
    );
}

#[tokio::test]
async fn the_wrong_cluster_key_lists_every_manifest_as_under_another_key() {
    let (store, backups) = memory_backups();
    fill(&backups).await;
    let other = Backups::new(
        Arc::new(store),
        ClusterKey::from_bytes([1; 32]),
        Workers::inline(),
    );
    let listing = list(&other).await.unwrap();
    assert_eq!((listing.heads.len(), listing.unreadable.len()), (0, 4));
    assert!(
        listing
            .unreadable
            .iter()
            .all(|damage| damage.remedy() == Remedy::FixRequest)
    );
}

#[tokio::test]
async fn objects_that_are_not_ours_are_passed_over() {
    let (store, backups) = memory_backups();
    fill(&backups).await;
    for key in [
        "backup/README",
        "backup/a b/c",
        "backup/vol_1/m/too/deep",
        "backup/zz/file",
        "other/thing",
    ] {
        store
            .put_if_absent(&Key::new(key).unwrap(), vec![1].into(), MANIFEST)
            .await
            .unwrap();
    }
    assert_eq!(
        volumes(&backups).await.unwrap(),
        ["vol_1", "vol_1-x", "vol_10", "zz"].map(str::to_owned)
    );
    assert_eq!(list(&backups).await.unwrap().heads.len(), 4);
}

#[tokio::test]
async fn a_store_that_does_not_answer_never_shortens_the_list() {
    let (inner, backups) = memory_backups();
    fill(&backups).await;
    for call in [Call::List, Call::Get] {
        let mut skip = 0;
        loop {
            let store = FaultStore::new(Arc::new(inner.clone()));
            store.inject(Injected::next(call, Fault::FailBefore).after(skip));
            match list(&backups_on(Arc::new(store))).await {
                Err(error) => assert_eq!(error.remedy(), Remedy::Retry),
                Ok(listing) => {
                    assert_eq!(listing.heads.len(), 4);
                    break;
                }
            }
            skip += 1;
        }
        assert!(skip >= 4, "{call:?} struck {skip} times only");
    }
}

#[tokio::test]
async fn one_snapshot_is_read_alone() {
    let (_, backups) = memory_backups();
    let uploaded = put(&backups, "vs_1", &Memory::of_blocks(1), None).await;
    assert_eq!(head(&backups, &snapshot("vs_1")).await.unwrap(), uploaded.head);
    delete_manifest(&backups, &snapshot("vs_1"), time(0))
        .await
        .unwrap();
    let error = head(&backups, &snapshot("vs_1")).await.unwrap_err();
    assert!(matches!(error, ManifestError::Deleted { .. }));
    assert!(list_volume(&backups, VOLUME).await.unwrap().heads.is_empty());
    assert!(matches!(
        list_volume(&backups, "../x").await,
        Err(ListingError::Id(_))
    ));
}

#[tokio::test]
async fn snapshots_under_another_cluster_key_are_counted_and_not_called_damaged() {
    let (store, backups) = memory_backups();
    fill(&backups).await;
    let ours = backups.cluster_key.id().to_string();
    let damaged = SnapshotRef::new("vol_1", "vs_a").unwrap().manifest_key();
    assert!(store.damage(&damaged, |bytes| bytes[0] ^= 1));
    let stranger = Backups::new(
        Arc::new(store),
        ClusterKey::from_bytes([8; 32]),
        Workers::inline(),
    );
    let listing = list(&stranger).await.unwrap();
    let (sealed, damages) = listing.by_other_keys();
    assert_eq!(sealed, [(ours, 3)].into());
    assert_eq!((damages.len(), &damages[0].object), (1, &damaged));
}
