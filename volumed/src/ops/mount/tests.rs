use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::host::HOLDER;
use crate::ops::tests::{crash_everywhere, written};
use crate::ops::{MOUNT, REMOUNT, UNMOUNT};
use crate::testing::{Rig, assert_agreement, request, settled, write};
use crate::volume::{FsType, Volume};

const PLACE: &str = "/srv/data";

fn place() -> &'static Path {
    Path::new(PLACE)
}

fn mounted(rig: &Rig) -> Vec<PathBuf> {
    rig.host.mounts.lock().unwrap().keys().cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn mounting_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        MOUNT,
        async |_, service| service.create(request("data")).await.unwrap(),
        async |service, volume| drop(service.mount(&volume.id, place()).await),
        async |rig, service, volume| {
            let now = service.volume(&volume.id).await.unwrap();
            assert_eq!(now.attached_machine_id.as_deref(), Some(HOLDER));
            assert_eq!((now.host_path.as_deref(), now.generation), (Some(place()), 1));
            assert!(now.formatted);
            assert_eq!(mounted(rig), [PathBuf::from(PLACE)]);
        },
    )
    .await;
    assert_eq!(crashes, 6);
}

#[tokio::test(start_paused = true)]
async fn unmounting_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        UNMOUNT,
        async |_, service| {
            let volume = service.create(request("data")).await.unwrap();
            service.mount(&volume.id, place()).await.unwrap()
        },
        async |service, volume| drop(service.unmount(&volume.id).await),
        async |rig, service, volume| {
            let now = service.volume(&volume.id).await.unwrap();
            assert_eq!((now.attached_machine_id, now.host_path), (None, None));
            assert!(mounted(rig).is_empty());
            assert!(rig.host.mapped.lock().unwrap().is_empty());
        },
    )
    .await;
    assert_eq!(crashes, 4);
}

#[tokio::test(start_paused = true)]
async fn after_a_boot_what_was_mounted_is_mounted_again_and_not_formatted() {
    let crashes = crash_everywhere(
        REMOUNT,
        async |rig, service| {
            let volume = service.create(request("data")).await.unwrap();
            let volume = service.mount(&volume.id, place()).await.unwrap();
            rig.host.boot();
            volume
        },
        async |service, _| service.remount().await,
        async |rig, service, volume| {
            let now = service.volume(&volume.id).await.unwrap();
            assert_eq!(
                (now.host_path.as_deref(), now.generation),
                (Some(place()), volume.generation)
            );
            assert_eq!(mounted(rig), [PathBuf::from(PLACE)]);
            let formats = rig.host.formatted.lock().unwrap().len();
            assert_eq!(formats, 1, "formatted once in its life");
        },
    )
    .await;
    assert_eq!(crashes, 6);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_something_else_wrote_is_never_formatted() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        let node = PathBuf::from(format!("/dev/{}", volume.id));
        rig.host.formatted.lock().unwrap().push(node);
        let refused = service.mount(&volume.id, place()).await.unwrap_err();
        assert_eq!(refused.status, 422, "{refused}");
        assert!(refused.sentence.contains("not empty"), "{refused}");
        settled(&service).await;
        let now = service.volume(&volume.id).await.unwrap();
        assert_eq!(
            (now.attached_machine_id, now.host_path, now.formatted),
            (None, None, false)
        );
        assert!(rig.host.calls.lock().unwrap().is_empty());
        assert_agreement(&service).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_host_cannot_do_gives_the_volume_back() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        rig.host.unable.store(true, Ordering::SeqCst);
        let failed = service.mount(&volume.id, place()).await.unwrap_err();
        assert_eq!(failed.status, 500, "{failed}");
        settled(&service).await;
        assert_eq!(service.volume(&volume.id).await.unwrap().host_path, None);
        // A machine may have it now.
        service.attach(&volume.id, "m1").await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_has_one_holder_be_it_the_host_or_a_machine() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        let other = service.create(request("other")).await.unwrap();
        service.mount(&volume.id, place()).await.unwrap();
        let status = async |volume: &Volume, path: &str| {
            let refused = service.mount(&volume.id, Path::new(path)).await.unwrap_err();
            refused.status
        };
        assert_eq!(status(&volume, "/srv/elsewhere").await, 412);
        assert_eq!(status(&other, PLACE).await, 412);
        assert_eq!(service.attach(&volume.id, "m1").await.unwrap_err().status, 412);
        assert_eq!(service.attach(&other.id, HOLDER).await.unwrap_err().status, 422);
        let destroyed = service.destroy(&volume.id).await.unwrap_err();
        assert_eq!(destroyed.status, 412);
        assert!(destroyed.sentence.contains(PLACE), "{destroyed}");
        // Again is no error.
        service.mount(&volume.id, place()).await.unwrap();
        service.attach(&other.id, "m1").await.unwrap();
        assert_eq!(status(&other, "/srv/elsewhere").await, 412);
        assert_eq!(service.unmount(&other.id).await.unwrap_err().status, 412);
        service.unmount(&volume.id).await.unwrap();
        service.unmount(&volume.id).await.unwrap();
        service.attach(&volume.id, "m2").await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_in_use_stays_mounted() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        service.mount(&volume.id, place()).await.unwrap();
        rig.host.busy.lock().unwrap().push(place().to_owned());
        let refused = service.unmount(&volume.id).await.unwrap_err();
        assert_eq!(refused.status, 422, "{refused}");
        assert!(refused.sentence.contains("in use"), "{refused}");
        settled(&service).await;
        assert_eq!(
            service.volume(&volume.id).await.unwrap().host_path.as_deref(),
            Some(place())
        );
        assert_eq!(mounted(&rig), [PathBuf::from(PLACE)]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn directories_that_cannot_be_a_mount_point_are_refused() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        for path in [
            "",
            "/",
            "data",
            "/srv/../etc",
            "/srv/./data",
            "/srv//data",
            "/srv/data/",
        ] {
            let refused = service.mount(&volume.id, Path::new(path)).await.unwrap_err();
            assert_eq!(refused.status, 422, "{path:?}: {refused}");
        }
        let mut raw = request("bare");
        raw.fstype = Some(FsType::Raw.name().to_owned());
        let raw = service.create(raw).await.unwrap();
        assert_eq!(service.mount(&raw.id, place()).await.unwrap_err().status, 422);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_mounted_volume_grows_with_its_file_system() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = service.create(request("data")).await.unwrap();
        service.mount(&volume.id, place()).await.unwrap();
        rig.host.calls.lock().unwrap().clear();
        let grown = service.extend(&volume.id, Some(&2.into())).await.unwrap();
        assert_eq!((grown.size.get(), grown.needs_restart), (2, false));
        assert_eq!(*rig.host.calls.lock().unwrap(), [format!("grow {}", volume.id)]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_a_mounted_volume_is_one_point_in_time_or_refused() {
    let rig = Rig::new();
    rig.run(async |service| {
        let volume = written(&rig, service.clone()).await;
        rig.host.calls.lock().unwrap().clear();
        // What it holds was written through the API's own back door.
        let id = volume.id.clone();
        let formatted = service.context().catalog.transact(move |tx| {
            tx.edit_volume(&id, |v| v.formatted = true)?;
            Ok(())
        });
        formatted.await.unwrap();
        service.mount(&volume.id, place()).await.unwrap();
        write(&service, &volume, 0, &[1; 4096]).await;
        let atomic = service
            .context()
            .pools
            .get("default")
            .unwrap()
            .capabilities()
            .atomic_snapshot;
        let taken = service.take_snapshot(&volume.id).await;
        let synced = rig.host.calls.lock().unwrap().contains(&format!("sync {PLACE}"));
        // One that is refused is refused before anything is done.
        assert_eq!(synced, atomic);
        match taken {
            Ok(_) => assert!(atomic),
            Err(refused) => {
                assert!(!atomic);
                assert_eq!(refused.status, 422, "{refused}");
            }
        }
        settled(&service).await;
        assert_agreement(&service).await;
    })
    .await;
}
