//! A pool that fills up.

use std::sync::Mutex;

use super::*;
use crate::pool::PressureRules;

#[tokio::test(start_paused = true)]
async fn a_pool_warns_then_refuses_new_work_and_what_exists_goes_on() {
    let mut rig = Rig::new();
    rig.disk_bytes = Some(64 << 20);
    rig.pressure = PressureRules::new(50, 75).unwrap();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        let state = async || {
            service.sweep_once().await;
            let pool = service.context().pools.get("default").unwrap();
            service.judge_pool(&**pool).await.unwrap().state
        };
        assert_eq!(state().await, "ok");
        let fill = async |mib: u64| {
            for at in 0..mib {
                write(&service, &volume, at << 20, &[9; 1 << 20]).await;
            }
        };
        fill(40).await;
        assert_eq!(state().await, "filling");
        let second = service.create(request("more")).await.unwrap();
        fill(60).await;
        assert_eq!(state().await, "full");
        let fork = CreateRequest {
            source_volume_id: Some(volume.id.to_string()),
            size_gb: None,
            encrypted: None,
            ..request("fork")
        };
        for refused in [
            service.create(request("third")).await.map(drop),
            service.create(fork).await.map(drop),
            service.extend(&volume.id, Some(&2.into())).await.map(drop),
            service.take_snapshot(&volume.id).await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(
                (refused.status, refused.code),
                (422, Some("insufficient_capacity"))
            );
            assert!(refused.sentence.contains("takes no new work"), "{refused}");
        }
        // What exists goes on: it is written, attached, and given back.
        write(&service, &second, 0, &[1; 4096]).await;
        service.attach(&second.id, "m1").await.unwrap();
        assert_eq!(state().await, "full");
        let told: Vec<String> = service
            .events(0)
            .await
            .unwrap()
            .into_iter()
            .filter(|e| e.kind == "pool_state")
            .map(|e| e.message)
            .collect();
        assert_eq!(told.len(), 2, "each change once: {told:?}");
        assert!(
            told[0].contains("is filling") && told[1].contains("is full"),
            "{told:?}"
        );
    })
    .await;
    // A restart tells nothing again.
    rig.run(async |service| {
        service.sweep_once().await;
        let told = service
            .events(0)
            .await
            .unwrap()
            .iter()
            .filter(|e| e.kind == "pool_state")
            .count();
        assert_eq!(told, 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pressure_that_only_a_request_met_is_told_too() {
    let mut rig = Rig::new();
    rig.disk_bytes = Some(64 << 20);
    rig.pressure = PressureRules::new(50, 75).unwrap();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        for at in 0..60 {
            write(&service, &volume, at << 20, &[9; 1 << 20]).await;
        }
        for _ in 0..2 {
            let refused = service.create(request("more")).await.unwrap_err();
            assert_eq!(refused.status, 422);
        }
        service.destroy(&volume.id).await.unwrap();
        service.purge(&volume.id).await.unwrap();
        settled(&service).await;
        service.create(request("more")).await.unwrap();
        let events = service.events(0).await.unwrap();
        let told = events.iter().filter(|e| e.kind == "pool_state");
        let told: Vec<&str> = told.map(|e| e.message.as_str()).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("is full") && told[1].contains("has room again"),
            "{told:?}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_snapshot_that_has_no_room_is_told_once_and_taken_when_there_is() {
    let mut rig = Rig::new();
    rig.disk_bytes = Some(64 << 20);
    rig.pressure = PressureRules::new(50, 75).unwrap();
    let told = async |service: &Service| {
        let events = service.events(0).await.unwrap();
        let told = events.into_iter().filter(|e| e.kind == "snapshot_blocked");
        told.map(|e| e.message).collect::<Vec<_>>()
    };
    let id = Mutex::new(None);
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        *id.lock().unwrap() = Some(volume.id.clone());
        for at in 0..60 {
            write(&service, &volume, at << 20, &[9; 1 << 20]).await;
        }
        rig.advance(25);
        service.sweep_once().await;
        service.sweep_once().await;
        let told = told(&service).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("scheduled snapshots are not taken: insufficient capacity"),
            "{told:?}"
        );
        let blocked = service.volume(&volume.id).await.unwrap().snapshot_blocked;
        assert!(blocked.unwrap().contains("insufficient capacity"));
        assert!(service.snapshots_of(&volume.id).await.unwrap().is_empty());
    })
    .await;
    rig.disk_bytes = Some(1 << 30);
    rig.run(async |service| {
        service.sweep_once().await;
        let id = id.lock().unwrap().clone().unwrap();
        assert_eq!(service.volume(&id).await.unwrap().snapshot_blocked, None);
        assert_eq!(service.snapshots_of(&id).await.unwrap().len(), 1);
        assert_eq!(told(&service).await.len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_purged_volume_gives_its_room_back_at_once_and_cannot_be_recovered() {
    Rig::new()
        .run(async |service| {
            let (kept, gone) = (
                service.create(request("kept")).await.unwrap(),
                service.create(request("gone")).await.unwrap(),
            );
            service.destroy(&gone.id).await.unwrap();
            let held = service.promised("default").await.unwrap();
            assert_eq!(held.deleted_bytes, gone.size.bytes());
            let purged = service.purge(&gone.id).await.unwrap();
            assert_eq!(purged.state, VolumeState::Destroyed);
            let left = service.promised("default").await.unwrap();
            assert_eq!((left.deleted_bytes, left.volumes_bytes), (0, kept.size.bytes()));
            assert_eq!(service.recover(&gone.id).await.unwrap_err().status, 404);
            assert_eq!(service.purge(&gone.id).await.unwrap_err().status, 404);
            // One that was not deleted before goes in one call.
            assert_eq!(
                service.purge(&kept.id).await.unwrap().state,
                VolumeState::Destroyed
            );
            assert_agreement(&service).await;
        })
        .await;
}
