//! Volumes that grow by themselves, with a guest that is played.

use super::*;
use crate::auto_extend::AutoExtend;
use crate::volume::GIB;

const WISH: AutoExtend = AutoExtend {
    threshold_percent: 80,
    add_size_gb: 2,
    size_gb_limit: Some(6),
};

/// What the guest of machine m1 says: its file system has `total` bytes, `percent` of them used.
fn says(volume: &Volume, total: u64, percent: u64) -> UsageReport {
    let (block_size, blocks) = (4096, total / 4096);
    let used = blocks * percent / 100;
    UsageReport {
        block_size: Some(block_size),
        blocks: Some(blocks),
        blocks_free: Some(blocks - used),
        blocks_avail: Some(blocks - used),
        bytes_total: Some(blocks * block_size),
        bytes_used: Some(used * block_size),
        auto_extend: Some(WISH),
        ..report("m1", volume.generation)
    }
}

async fn attached(service: &Service) -> Volume {
    let volume = service.create(request("data")).await.unwrap();
    service.attach(&volume.id, "m1").await.unwrap().0
}

async fn kinds(service: &Service, wanted: &str) -> usize {
    let events = service.events(0).await.unwrap();
    events.iter().filter(|e| e.kind == wanted).count()
}

#[tokio::test(start_paused = true)]
async fn a_filling_volume_grows_step_by_step_to_its_limit_and_says_so_once() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = attached(&service).await;
        let tell = async |total_gb: u64, percent| {
            // A file system keeps some of its device for itself.
            let said = says(&volume, total_gb * GIB / 100 * 96, percent);
            service.report(&volume.id, said).await.unwrap();
            settled(&service).await;
            service.volume(&volume.id).await.unwrap().size.get()
        };
        assert_eq!(tell(1, 79).await, 1);
        assert_eq!(tell(1, 80).await, 3);
        // Before the guest shows the first extend there is no second.
        assert_eq!(tell(1, 99).await, 3);
        assert_eq!(tell(3, 50).await, 3);
        assert_eq!(tell(3, 95).await, 5);
        assert_eq!(tell(5, 95).await, 6);
        assert_eq!(tell(6, 95).await, 6);
        assert_eq!(tell(6, 96).await, 6);
        let blocked = service.volume(&volume.id).await.unwrap().auto_extend_blocked;
        assert!(blocked.unwrap().contains("limit of 6 GB"));
        assert_eq!(
            (
                kinds(&service, "auto_extend").await,
                kinds(&service, "auto_extend_blocked").await
            ),
            (3, 1)
        );
        // Room again: the owner made some.
        assert_eq!(tell(6, 40).await, 6);
        assert_eq!(
            service.volume(&volume.id).await.unwrap().auto_extend_blocked,
            None
        );
        let grows = rig
            .runner
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|c| c.starts_with("grow"))
            .count();
        assert_eq!(grows, 3, "each was a normal extend, told to the guest");
        assert_agreement(&service).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_never_grows_by_itself_above_what_the_pool_can_promise() {
    let mut rig = Rig::new();
    (rig.disk_bytes, rig.overcommit_ratio) = (Some(GIB + GIB / 2), 1.0);
    rig.run(async |service| {
        let volume = attached(&service).await;
        for percent in [90, 95] {
            service
                .report(&volume.id, says(&volume, GIB / 100 * 96, percent))
                .await
                .unwrap();
            settled(&service).await;
        }
        let now = service.volume(&volume.id).await.unwrap();
        assert_eq!(now.size.get(), 1);
        assert!(now.auto_extend_blocked.unwrap().contains("insufficient capacity"));
        assert_eq!(kinds(&service, "auto_extend_blocked").await, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_did_not_grow_gets_no_more() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = attached(&service).await;
        rig.runner.down.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            service
                .report(&volume.id, says(&volume, GIB / 100 * 96, 99))
                .await
                .unwrap();
            settled(&service).await;
        }
        assert_eq!(service.volume(&volume.id).await.unwrap().size.get(), 3);
        let bad = UsageReport {
            auto_extend: Some(AutoExtend {
                threshold_percent: 200,
                ..WISH
            }),
            ..says(&volume, GIB, 99)
        };
        assert_eq!(service.report(&volume.id, bad).await.unwrap_err().status, 422);
    })
    .await;
}
