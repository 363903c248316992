//! A pool that fills up.

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
