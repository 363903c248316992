//! Captures that stay, on a pool whose files share blocks.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use crate::ops::tests::crash_everywhere_on;
use crate::ops::{EXPIRE, SNAPSHOT};
use crate::pool::SliceId;
use crate::service::Service;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::testing::{Rig, read, request, settled, write};
use crate::volume::{GIB, Volume};

fn sharing() -> Rig {
    let mut rig = Rig::new();
    rig.shares = true;
    rig
}

/// Takes a snapshot, and returns it with the number of blocks that were not read for it.
async fn taken(service: &Service, volume: &Volume) -> (Snapshot, u64) {
    let snapshot = service.take_snapshot(&volume.id).await.unwrap();
    settled(service).await;
    let operations = service.operations(Some(snapshot.id.to_string())).await.unwrap();
    let unread = operations[0].record.state["blocks_unread"].as_u64().unwrap();
    (snapshot, unread)
}

async fn has_capture(service: &Service, snapshot: &Snapshot) -> bool {
    let pool = service.context().pools.get("default").unwrap();
    pool.exists(&SliceId::Capture(snapshot.id.clone())).await.unwrap()
}

async fn filled(_rig: &Rig, service: Service) -> (Volume, Snapshot) {
    let volume = service.create(request("data")).await.unwrap();
    write(&service, &volume, 1 << 20, &[7; 4096]).await;
    write(&service, &volume, 500 << 20, &[8; 4096]).await;
    let (snapshot, unread) = taken(&service, &volume).await;
    assert_eq!(unread, 0, "nothing was known");
    write(&service, &volume, 500 << 20, &[9; 4096]).await;
    (volume, snapshot)
}

#[tokio::test(start_paused = true)]
async fn a_second_backup_reads_the_blocks_that_changed_and_the_first_s_capture_goes() {
    for encrypted in [false, true] {
        let rig = sharing();
        rig.run(async |service| {
            let mut wish = request("data");
            wish.encrypted = Some(encrypted);
            let volume = service.create(wish).await.unwrap();
            write(&service, &volume, 1 << 20, &[7; 4096]).await;
            let (first, unread) = taken(&service, &volume).await;
            assert_eq!((unread, has_capture(&service, &first).await), (0, true));
            write(&service, &volume, 500 << 20, &[9; 4096]).await;
            let (second, unread) = taken(&service, &volume).await;
            // Of 256 blocks of 4 MiB.
            assert_eq!(unread, 255);
            assert!(!has_capture(&service, &first).await && has_capture(&service, &second).await);
            let mut restore = request("back");
            (restore.size_gb, restore.encrypted) = (None, Some(encrypted));
            restore.snapshot_id = Some(second.id.to_string());
            let back = service.create(restore).await.unwrap();
            settled(&service).await;
            assert_eq!(read(&service, &back, 1 << 20, 4096).await, [7; 4096]);
            assert_eq!(read(&service, &back, 500 << 20, 4096).await, [9; 4096]);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_beside_a_kept_capture_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere_on(
        sharing,
        SNAPSHOT,
        filled,
        async |service, (volume, _)| drop(service.take_snapshot(&volume.id).await),
        async |_, service, (volume, first)| {
            let snapshots = service.snapshots_of(&volume.id).await.unwrap();
            assert_eq!(snapshots.len(), 2);
            assert!(!has_capture(&service, &first).await, "the older one's");
            for snapshot in snapshots {
                assert_eq!(snapshot.state, SnapshotState::Created);
                assert!(service.verify(&snapshot.id).await.unwrap().is_whole());
            }
        },
    )
    .await;
    assert_eq!(crashes, 6);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_deleted_with_its_capture_whatever_step_is_crashed_at() {
    let crashes = crash_everywhere_on(
        sharing,
        EXPIRE,
        filled,
        async |service, (_, first)| drop(service.delete_snapshot(&first.id).await),
        async |_, service, (volume, first)| {
            assert_eq!(service.snapshots_of(&volume.id).await.unwrap().len(), 0);
            assert!(!has_capture(&service, &first).await);
        },
    )
    .await;
    assert!(crashes > 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_too_little_room_has_kept_captures_removed_first() {
    let mut rig = sharing();
    (rig.disk_bytes, rig.overcommit_ratio) = (Some(2 * GIB + (20 << 20)), 1.0);
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        write(&service, &volume, 0, &vec![7; 64 << 20]).await;
        // In this pool they share nothing after all, as when all was overwritten since.
        let (first, _) = taken(&service, &volume).await;
        assert!(has_capture(&service, &first).await);
        let mut never = request("never");
        never.size_gb = Some(9.into());
        assert_eq!(service.create(never).await.unwrap_err().status, 422);
        assert!(has_capture(&service, &first).await, "it would not have helped");
        service.create(request("more")).await.unwrap();
        assert!(!has_capture(&service, &first).await);
        // What does not fit without them is refused as ever.
        let refused = service.create(request("third")).await.unwrap_err();
        assert_eq!(refused.status, 422, "{}", json!({"said": refused.sentence}));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_fills_up_keeps_no_captures() {
    let mut rig = sharing();
    rig.disk_bytes = Some(200 << 20);
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        write(&service, &volume, 0, &vec![7; 64 << 20]).await;
        let (first, _) = taken(&service, &volume).await;
        assert!(has_capture(&service, &first).await);
        let pool = service.context().pools.get("default").unwrap();
        let look = async || pool.tend(tokio::time::Instant::now().into_std()).await;
        assert_eq!(look().await, []);
        // 124 of 136 MiB that are ours or free are taken then.
        write(&service, &volume, 64 << 20, &vec![7; 60 << 20]).await;
        assert_eq!(look().await, [crate::pool::Shed::Bases]);
        assert!(!pool.capabilities().deltas, "so none is kept for now");
    })
    .await;
}
