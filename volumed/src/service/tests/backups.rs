//! Backups kept by counts, and read back.

use daemon::wall_clock::WallClock as _;
use objstore::faults::{Call, Damage, Fault};
use objstore::{ObjectStore as _, Purpose};

use super::*;

#[tokio::test(start_paused = true)]
async fn hourly_snapshots_are_taken_and_thinned_and_what_newer_ones_need_stays() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        write(&service, &volume, 5 << 20, &[7; 4096]).await;
        let hourly = UpdateRequest {
            snapshot_retention_hourly: Some(3.into()),
            ..UpdateRequest::default()
        };
        let volume = service.update(&volume.id, hourly).await.unwrap();
        for hour in 0..30_u8 {
            // One block changes, the other is shared by all of them.
            write(&service, &volume, 0, &[hour; 4096]).await;
            rig.advance(1);
            service.sweep_once().await;
            settled(&service).await;
            service.collect_garbage().await;
        }
        service.sweep_once().await;
        settled(&service).await;
        let kept = service.snapshots_of(&volume.id).await.unwrap();
        // Three hours, and the newest of the first day.
        assert_eq!(kept.len(), 4, "{kept:?}");
        for snapshot in &kept {
            assert!(service.verify(&snapshot.id).await.unwrap().is_whole());
        }
        let too_many = UpdateRequest {
            snapshot_retention_weekly: Some(521.into()),
            ..UpdateRequest::default()
        };
        assert_eq!(
            service.update(&volume.id, too_many).await.unwrap_err().status,
            422
        );
        assert_agreement(&service).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_scrubber_proves_backups_and_tells_of_damage_once() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        write(&service, &volume, 5 << 20, &[7; 4096]).await;
        let first = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        service.scrub_once().await;
        assert_eq!(
            service.snapshot(&first.id).await.unwrap().last_scrubbed,
            None,
            "not due"
        );
        rig.advance(24);
        service.scrub_once().await;
        let sampled = service.snapshot(&first.id).await.unwrap();
        assert!(sampled.last_scrubbed.is_some() && sampled.last_verified.is_none());
        rig.advance(24 * 6);
        service.scrub_once().await;
        let proved = service.volume(&volume.id).await.unwrap().last_verified_restore;
        assert_eq!(proved, Some(rig.clock.now()));

        // Somebody loses a block.
        let page = rig.store.list("", None, 1000, Purpose("test")).await.unwrap();
        let mut keys = page.entries.iter().map(|e| &e.key);
        let block = keys.find(|k| k.as_str().contains("/b/")).unwrap().clone();
        rig.store.delete(&block, Purpose("test")).await.unwrap();
        for _ in 0..2 {
            let found = service.scrub(&ScrubRequest::default()).await.unwrap();
            assert!(found.scrubbed[0].damages[0].contains(block.as_str()), "{found:?}");
        }
        let events = service.events(0).await.unwrap();
        assert_eq!(events.iter().filter(|e| e.kind == "backup_damaged").count(), 1);
        // The next backup does not build on the damaged one.
        let second = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        let restore = ScrubRequest {
            restore: true,
            ..ScrubRequest::default()
        };
        let found = service.scrub(&restore).await.unwrap();
        assert_eq!((found.scrubbed.len(), found.errors.len()), (1, 0));
        assert_eq!(found.scrubbed[0].snapshot_id, second.id.to_string());
        assert_eq!(found.scrubbed[0].damages, Vec::<String>::new());
        assert!(service.snapshot(&first.id).await.unwrap().damage.is_some());
        let nobody = ScrubRequest {
            volume_id: Some("vol_nobody".into()),
            ..ScrubRequest::default()
        };
        assert_eq!(service.scrub(&nobody).await.unwrap_err().status, 404);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_finished_is_refused_for_the_moment_and_a_deleted_one_for_good() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        let snapshot = service.take_snapshot(&volume.id).await.unwrap();
        for (state, status) in [
            (SnapshotState::Waiting, 409),
            (SnapshotState::Running, 409),
            (SnapshotState::Deleting, 412),
        ] {
            let mut unfit = snapshot.clone();
            unfit.state = state;
            let refused = commands::unfinished(&unfit, "restore").unwrap_err();
            assert_eq!(refused.status, status, "{refused}");
        }
        settled(&service).await;
        let finished = service.snapshot(&snapshot.id).await.unwrap();
        assert_eq!(commands::unfinished(&finished, "restore"), Ok(()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_backup_builds_on_one_that_may_share_a_damaged_block() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        write(&service, &volume, 5 << 20, &[7; 4096]).await;
        let first = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        rig.advance(1);
        // It names the first one's block.
        let second = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        let page = rig.store.list("", None, 1000, Purpose("test")).await.unwrap();
        let mut keys = page.entries.iter().map(|e| &e.key);
        let block = keys.find(|k| k.as_str().contains("/b/")).unwrap().clone();
        rig.store.delete(&block, Purpose("test")).await.unwrap();
        rig.advance(1);
        assert!(!service.verify(&first.id).await.unwrap().is_whole());
        assert_eq!(service.snapshot(&second.id).await.unwrap().damage, None);
        rig.advance(1);
        let third = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        assert!(service.verify(&third.id).await.unwrap().is_whole());
        // What was uploaded after the finding is a base again, also when the damage is seen once more.
        service.verify(&first.id).await.unwrap();
        rig.advance(1);
        let blocks = async || {
            let page = rig.store.list("", None, 1000, Purpose("test")).await.unwrap();
            page.entries
                .iter()
                .filter(|e| e.key.as_str().contains("/b/"))
                .count()
        };
        let before = blocks().await;
        let fourth = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        assert!(service.verify(&fourth.id).await.unwrap().is_whole());
        assert_eq!(blocks().await, before);

        // And nobody waits for a restore that cannot end.
        let restore = CreateRequest {
            snapshot_id: Some(first.id.to_string()),
            ..request("back")
        };
        let refused = service.create(restore).await.unwrap_err();
        assert_eq!(refused.status, 422);
        assert!(refused.sentence.contains(block.as_str()), "{refused}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_host_without_its_bucket_does_not_say_that_a_snapshot_is_not_there() {
    let rig = Rig::new();
    let id = rig
        .run(async |service| {
            let volume = service.create(request("data")).await.unwrap();
            let snapshot = service.take_snapshot(&volume.id).await.unwrap();
            settled(&service).await;
            snapshot.id
        })
        .await;
    let rig = rig.after_host_loss();
    for call in [Call::List, Call::Get] {
        rig.wire.inject(Fault::always(call, Damage::FailBefore));
    }
    rig.run(async |service| {
        let refused = service.verify(&id).await.unwrap_err();
        assert_eq!(refused.status, 503, "{refused}");
        let restore = CreateRequest {
            snapshot_id: Some(id.to_string()),
            ..request("back")
        };
        assert_eq!(service.create(restore).await.unwrap_err().status, 503);
    })
    .await;
}
