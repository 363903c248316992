use std::sync::atomic::Ordering;

use super::*;
use crate::snapshot::SnapshotState;
use crate::testing::{Rig, assert_agreement, read, request, settled, write};
use crate::volume::GIB;
use crate::volume::VolumeState;

mod auto_extend;
mod backups;
mod full_pool;

fn report(machine: &str, generation: u64) -> UsageReport {
    UsageReport {
        machine_id: machine.into(),
        generation,
        formatted: Some(true),
        ..UsageReport::default()
    }
}

#[tokio::test(start_paused = true)]
async fn every_bad_field_of_a_create_is_refused_and_makes_nothing() {
    type Edit = fn(&mut CreateRequest);
    let bad: [(Edit, u16, &str); 22] = [
        (|r| r.app = None, 422, "app is required"),
        (|r| r.app = Some("a b".into()), 422, "app is required"),
        (|r| r.name = None, 422, "name is required"),
        (|r| r.name = Some("Data".into()), 422, "a-z, 0-9 and _"),
        (|r| r.name = Some("a-b".into()), 422, "a-z, 0-9 and _"),
        (|r| r.name = Some("x".repeat(31)), 422, "1 to 30"),
        (
            |r| r.region = Some("mars".into()),
            422,
            "region \"mars\" is unknown",
        ),
        (|r| r.zone = Some("ffff".into()), 422, "zone \"ffff\" is unknown"),
        (|r| r.size_gb = Some(0.into()), 422, "from 1 to 500; got 0"),
        (|r| r.size_gb = Some((-1).into()), 422, "got -1"),
        (|r| r.size_gb = Some(501.into()), 422, "got 501"),
        (
            |r| r.size_gb = serde_json::Number::from_f64(1.5),
            422,
            "whole number",
        ),
        (|r| r.snapshot_retention = Some(0.into()), 422, "from 1 to 60"),
        (|r| r.snapshot_retention = Some(61.into()), 422, "from 1 to 60"),
        (|r| r.fstype = Some("zfs".into()), 422, "ext4, xfs or raw"),
        (|r| r.r#type = Some("bottomless".into()), 422, "not offered"),
        (|r| r.r#type = Some("cloud".into()), 422, "use local"),
        (|r| r.pool = Some("gold".into()), 422, "pool \"gold\" is unknown"),
        (|r| r.snapshot_id = Some("vs_nothing".into()), 404, "not found"),
        (
            |r| r.snapshot_id = Some("last".into()),
            404,
            "no finished snapshot",
        ),
        (
            |r| r.source_volume_id = Some("vol_nothing".into()),
            404,
            "not found",
        ),
        (
            |r| r.idempotency_key = Some("k".repeat(201)),
            422,
            "idempotency_key",
        ),
    ];
    Rig::new()
        .run(async |service| {
            for (edit, status, words) in bad {
                let mut bad = request("data");
                edit(&mut bad);
                let refusal = service.create(bad.clone()).await.expect_err(words);
                assert_eq!(refusal.status, status, "{refusal}");
                assert!(refusal.sentence.contains(words), "{refusal}");
            }
            assert!(service.volumes(None, true).await.unwrap().is_empty());
            assert_agreement(&service).await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_refuses_before_anything_is_made() {
    let mut rig = Rig::new();
    (rig.disk_bytes, rig.overcommit_ratio) = (Some(8 * GIB), 1.0);
    rig.run(async |service| {
        let mut big = request("big");
        big.size_gb = Some(500.into());
        let refusal = service.create(big).await.unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code),
            (422, Some("insufficient_capacity")),
            "{refusal}"
        );
        let small = service.create(request("small")).await.unwrap();
        let refusal = service.extend(&small.id, Some(&500.into())).await.unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code),
            (422, Some("insufficient_capacity")),
            "{refusal}"
        );
        assert_eq!(service.volume(&small.id).await.unwrap(), small);
        assert_agreement(&service).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_create_with_its_key_is_the_same_volume() {
    Rig::new()
        .run(async |service| {
            let keyed = CreateRequest {
                idempotency_key: Some("k1".into()),
                ..request("data")
            };
            let first = service.create(keyed.clone()).await.unwrap();
            assert_eq!(service.create(keyed.clone()).await.unwrap().id, first.id);
            let other = CreateRequest {
                size_gb: Some(2.into()),
                ..keyed.clone()
            };
            assert_eq!(service.create(other).await.unwrap_err().status, 422);
            let elsewhere = CreateRequest {
                app: Some("other".into()),
                ..keyed
            };
            assert_ne!(service.create(elsewhere).await.unwrap().id, first.id);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_volume_is_encrypted_and_a_restore_of_it_reads_the_same() {
    let rig = Rig::new();
    rig.run(async |service| {
        let secret = CreateRequest {
            encrypted: None,
            ..request("secret")
        };
        let volume = service.create(secret).await.unwrap();
        assert!(volume.encrypted);
        write(&service, &volume, 8192, &[42; 4096]).await;
        let path = service.context().device(&volume).await.unwrap().path;
        let mut raw = vec![0; 8 << 20];
        use crashsafe::Disk as _;
        let file = crashsafe::RealDisk
            .open("test", &path, crashsafe::OpenOptions::READ)
            .unwrap();
        file.read_exact_at(&mut raw, 0).unwrap();
        assert!(!raw.windows(64).any(|w| w == [42; 64]), "plaintext in the file");
        let snapshot = service.take_snapshot(&volume.id).await.unwrap();
        settled(&service).await;
        let back = CreateRequest {
            encrypted: None,
            size_gb: None,
            ..request("back")
        };
        let back = service
            .create(CreateRequest {
                snapshot_id: Some(snapshot.id.to_string()),
                ..back
            })
            .await;
        settled(&service).await;
        let back = service.volume(&back.unwrap().id).await.unwrap();
        assert!(back.encrypted);
        assert_eq!(read(&service, &back, 8192, 4096).await, vec![42; 4096]);
        let fork = CreateRequest {
            encrypted: None,
            size_gb: None,
            ..request("fork")
        };
        let fork = CreateRequest {
            source_volume_id: Some(volume.id.to_string()),
            ..fork
        };
        let fork = service.create(fork).await.unwrap();
        assert_eq!(read(&service, &fork, 8192, 4096).await, vec![42; 4096]);
        assert_ne!(fork.wrapped_key, volume.wrapped_key);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_in_use_is_captured_by_its_machine() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        write(&service, &volume, 0, &[1; 512]).await;
        service.attach(&volume.id, "m1").await.unwrap();
        let snapshot = service.take_snapshot(&volume.id).await.unwrap();
        // Its point in time is taken when the request is answered: what comes later is not in it.
        assert_ne!(snapshot.state, SnapshotState::Waiting);
        write(&service, &volume, 0, &[2; 512]).await;
        settled(&service).await;
        let back = CreateRequest {
            snapshot_id: Some(snapshot.id.to_string()),
            ..request("back")
        };
        let back = service.create(back).await.unwrap();
        settled(&service).await;
        assert_eq!(read(&service, &back, 0, 512).await, vec![1; 512]);
        let atomic = service
            .context()
            .pools
            .get("default")
            .unwrap()
            .capabilities()
            .atomic_snapshot;
        let copied = rig
            .runner
            .calls
            .lock()
            .unwrap()
            .iter()
            .any(|c| c.starts_with("copy"));
        assert_eq!(copied, !atomic, "the machine copies only where the pool cannot");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_extend_without_machine_runner_ends_and_asks_for_a_restart() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        let (attached, _) = service.attach(&volume.id, "m1").await.unwrap();
        service
            .report(&volume.id, report("m1", attached.generation))
            .await
            .unwrap();
        rig.runner.down.store(true, Ordering::SeqCst);
        let answered = service.extend(&volume.id, Some(&2.into())).await.unwrap();
        assert_eq!(answered.size.get(), 2);
        settled(&service).await;
        let now = service.volume(&volume.id).await.unwrap();
        assert_eq!((now.state, now.needs_restart), (VolumeState::Created, true));
        // The next report of a grown file system clears it.
        let grown = UsageReport {
            bytes_total: Some(now.size.bytes() / 100 * 95),
            ..report("m1", now.generation)
        };
        assert!(!service.report(&volume.id, grown).await.unwrap().needs_restart);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn generations_only_grow_and_stale_ones_are_refused() {
    Rig::new()
        .run(async |service| {
            let volume = service.create(request("data")).await.unwrap();
            let (first, _) = service.attach(&volume.id, "m1").await.unwrap();
            assert_eq!(service.attach(&volume.id, "m2").await.unwrap_err().status, 412);
            assert_eq!(
                service.attach(&volume.id, "m1").await.unwrap().0.generation,
                first.generation
            );
            service.detach(&volume.id, "m1", first.generation).await.unwrap();
            let (second, _) = service.attach(&volume.id, "m2").await.unwrap();
            assert_eq!(second.generation, first.generation + 1);
            assert_eq!(
                service
                    .detach(&volume.id, "m1", first.generation)
                    .await
                    .unwrap_err()
                    .status,
                409
            );
            assert_eq!(
                service
                    .report(&volume.id, report("m1", first.generation))
                    .await
                    .unwrap_err()
                    .status,
                409
            );
            assert_eq!(service.destroy(&volume.id).await.unwrap_err().status, 412);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_once_formatted_is_never_formatted_again() {
    Rig::new()
        .run(async |service| {
            let volume = service.create(request("data")).await.unwrap();
            let (attached, _) = service.attach(&volume.id, "m1").await.unwrap();
            service
                .report(&volume.id, report("m1", attached.generation))
                .await
                .unwrap();
            let lie = UsageReport {
                formatted: Some(false),
                ..report("m1", attached.generation)
            };
            assert!(service.report(&volume.id, lie).await.unwrap().formatted);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn another_host_with_the_bucket_and_the_key_restores_everything() {
    let rig = Rig::new();
    let (snapshot, text) = rig
        .run(async |service| {
            let volume = service.create(request("data")).await.unwrap();
            write(&service, &volume, 5 << 20, &[9; 4096]).await;
            let snapshot = service.take_snapshot(&volume.id).await.unwrap();
            settled(&service).await;
            (snapshot, service.export_key(Some("pass phrase")).await.unwrap())
        })
        .await;
    let rig = rig.after_host_loss();
    rig.run(async |service| {
        let wrong = service.import_key(&text, Some("guess")).await.unwrap_err();
        assert_eq!(wrong.status, 422);
        service.import_key(&text, Some("pass phrase")).await.unwrap();
        let found = service.snapshots(None).await.unwrap();
        let found: Vec<&str> = found.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(found, [snapshot.id.as_str()]);
        let back = CreateRequest {
            snapshot_id: Some(snapshot.id.to_string()),
            ..request("back")
        };
        let back = service.create(back).await.unwrap();
        settled(&service).await;
        assert_eq!(read(&service, &back, 5 << 20, 4096).await, vec![9; 4096]);
        // Now the key has sealed something here and stays.
        let other = crate::keys::ClusterKey::from_bytes([3; 32]).export_text(None, &crate::random::OsRandom);
        assert_eq!(service.import_key(&other, None).await.unwrap_err().status, 412);
    })
    .await;
    // And it is the key of the next start.
    rig.run(async |service| assert_agreement(&service).await).await;
}

#[tokio::test(start_paused = true)]
async fn the_schedule_takes_keeps_and_expires_snapshots() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        let sweep = async |hours| {
            rig.advance(hours);
            service.sweep_once().await;
            settled(&service).await;
            service.snapshots_of(&volume.id).await.unwrap().len()
        };
        assert_eq!(sweep(23).await, 0);
        assert_eq!(sweep(1).await, 1);
        assert_eq!(sweep(1).await, 1);
        // Three days missed: made up once.
        assert_eq!(sweep(72).await, 2);
        // The first one's five days are over.
        assert_eq!(sweep(24).await, 3);
        assert_eq!(sweep(24).await, 3);
        let off = UpdateRequest {
            auto_backup_enabled: Some(false),
            ..UpdateRequest::default()
        };
        service.update(&volume.id, off).await.unwrap();
        assert_eq!(sweep(24 * 10).await, 0);
        assert_agreement(&service).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_given_up_leaves_nothing() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        service.attach(&volume.id, "m1").await.unwrap();
        if service
            .context()
            .pools
            .get("default")
            .unwrap()
            .capabilities()
            .atomic_snapshot
        {
            return;
        }
        rig.runner.down.store(true, Ordering::SeqCst);
        let waiting = service.take_snapshot(&volume.id).await.unwrap();
        assert_eq!(waiting.state, SnapshotState::Waiting);
        // A stuck snapshot is in nobody's way.
        service.extend(&volume.id, Some(&2.into())).await.unwrap();
        let gone = service.delete_snapshot(&waiting.id).await.unwrap();
        assert_eq!(gone.state, SnapshotState::Deleted);
        settled(&service).await;
        assert!(service.snapshots_of(&volume.id).await.unwrap().is_empty());
        assert_agreement(&service).await;
    })
    .await;
}
