//! Backups kept by counts.

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
