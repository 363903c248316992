//! Crashes at every step of every operation, in this process: the driver is dropped there, and a new volumed starts on
//! what it left.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use objstore::faults::{Call, Damage, Fault};
use objstore::{ObjectStore as _, Purpose};
use operation::{Moment, Probe, Verdict};

use super::*;
use crate::error::Refusal;
use crate::service::{CreateRequest, Service};
use crate::snapshot::SnapshotState;
use crate::testing::{Rig, assert_agreement, read, request, settled, write};
use crate::volume::{SizeGb, Volume, VolumeState};

/// Crashes at the n-th probe of one kind of operation.
#[derive(Debug)]
struct CrashAt {
    kind: &'static str,
    left: AtomicU32,
}

impl Probe for CrashAt {
    fn at(&self, kind: &str, _step: &str, _moment: Moment) -> Verdict {
        if kind == self.kind && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Verdict::Drop;
        }
        Verdict::Continue
    }
}

/// Runs `prepare` in peace, then `act` with a crash at every probe of `kind` in turn; after each a new volumed settles and
/// `check` looks. Returns how many crashes there were.
pub(super) async fn crash_everywhere<P: Clone>(
    kind: &'static str,
    prepare: impl AsyncFn(&Rig, Service) -> P,
    act: impl AsyncFn(Service, P),
    check: impl AsyncFn(&Rig, Service, P),
) -> u32 {
    crash_everywhere_on(Rig::new, kind, prepare, act, check).await
}

/// As [`crash_everywhere`], on what `rig` makes.
pub(super) async fn crash_everywhere_on<P: Clone>(
    rig: impl Fn() -> Rig,
    kind: &'static str,
    prepare: impl AsyncFn(&Rig, Service) -> P,
    act: impl AsyncFn(Service, P),
    check: impl AsyncFn(&Rig, Service, P),
) -> u32 {
    for point in 0.. {
        let rig = rig();
        let prepared = rig.run(async |service| prepare(&rig, service).await).await;
        let probe = CrashAt {
            kind,
            left: AtomicU32::new(point),
        };
        let acted = rig
            .run_with(Arc::new(probe), async |service| {
                act(service.clone(), prepared.clone()).await;
                settled(&service).await;
            })
            .await;
        rig.run(async |service| {
            settled(&service).await;
            assert_agreement(&service).await;
            check(&rig, service, prepared.clone()).await;
        })
        .await;
        if acted.is_ok() {
            return point;
        }
        assert!(point < 40, "{kind} never ends");
    }
    unreachable!("the loop returns");
}

async fn one(service: &Service) -> Volume {
    let volumes = service.volumes(None, false).await.unwrap();
    assert_eq!(volumes.len(), 1, "{volumes:?}");
    volumes[0].clone()
}

/// Makes a volume with something in it.
pub(super) async fn written(_rig: &Rig, service: Service) -> Volume {
    let volume = service.create(request("data")).await.unwrap();
    write(&service, &volume, 1 << 20, &[7; 4096]).await;
    volume
}

#[tokio::test(start_paused = true)]
async fn create_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        CREATE,
        async |_, _| (),
        async |service, ()| drop(service.create(request("data")).await),
        async |_, service, ()| assert_eq!(one(&service).await.state, VolumeState::Created),
    )
    .await;
    assert_eq!(crashes, 2);
}

#[tokio::test(start_paused = true)]
async fn extend_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        EXTEND,
        written,
        async |service, volume| drop(service.extend(&volume.id, Some(&3.into())).await),
        async |_, service, volume| {
            let now = service.volume(&volume.id).await.unwrap();
            assert_eq!(
                (now.state, now.size.get(), now.extending_to),
                (VolumeState::Created, 3, None)
            );
            assert_eq!(read(&service, &now, 1 << 20, 4096).await, vec![7; 4096]);
        },
    )
    .await;
    assert_eq!(crashes, 6);
}

#[tokio::test(start_paused = true)]
async fn snapshot_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        SNAPSHOT,
        written,
        async |service, volume| drop(service.take_snapshot(&volume.id).await),
        async |_, service, volume| {
            let snapshots = service.snapshots_of(&volume.id).await.unwrap();
            assert_eq!(snapshots.len(), 1);
            assert_eq!(snapshots[0].state, SnapshotState::Created);
            assert!(service.verify(&snapshots[0].id).await.unwrap().is_whole());
        },
    )
    .await;
    assert_eq!(crashes, 6);
}

#[tokio::test(start_paused = true)]
async fn fork_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        FORK,
        written,
        async |service, volume| {
            let mut fork = request("copy");
            (fork.size_gb, fork.encrypted) = (Some(2.into()), None);
            fork.source_volume_id = Some(volume.id.to_string());
            drop(service.create(fork).await);
        },
        async |_, service, volume| {
            let all = service.volumes(None, false).await.unwrap();
            let fork = all.iter().find(|v| v.id != volume.id).expect("the fork");
            assert_eq!((fork.state, fork.size.get()), (VolumeState::Created, 2));
            assert_eq!(read(&service, fork, 1 << 20, 4096).await, vec![7; 4096]);
        },
    )
    .await;
    assert_eq!(crashes, 6);
}

async fn snapshotted(rig: &Rig, service: Service) -> (Volume, crate::snapshot::Snapshot) {
    let volume = written(rig, service.clone()).await;
    let snapshot = service.take_snapshot(&volume.id).await.unwrap();
    settled(&service).await;
    (volume, snapshot)
}

#[tokio::test(start_paused = true)]
async fn restore_converges_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        RESTORE,
        snapshotted,
        async |service, (_, snapshot)| {
            let mut restore = request("back");
            (restore.size_gb, restore.snapshot_id) = (None, Some(snapshot.id.to_string()));
            drop(service.create(restore).await);
        },
        async |_, service, (volume, _)| {
            let all = service.volumes(None, false).await.unwrap();
            let back = all
                .iter()
                .find(|v| v.id != volume.id)
                .expect("the restored volume");
            assert_eq!(
                (back.state, back.size),
                (VolumeState::Created, SizeGb::new(1).unwrap())
            );
            assert_eq!(read(&service, back, 1 << 20, 4096).await, vec![7; 4096]);
            assert!(back.generation > volume.generation);
        },
    )
    .await;
    assert_eq!(crashes, 4);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_cannot_be_is_undone_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        RESTORE,
        async |rig, service| {
            let (volume, snapshot) = snapshotted(rig, service.clone()).await;
            // Somebody damaged the bucket: a block is gone.
            let page = rig.store.list("", None, 1000, Purpose("test")).await.unwrap();
            let block = page
                .entries
                .iter()
                .map(|e| &e.key)
                .find(|k| k.as_str().contains("/b/") || k.as_str().contains("block"));
            let block = block.expect("a stored block").clone();
            rig.store.delete(&block, Purpose("test")).await.unwrap();
            (volume, snapshot)
        },
        async |service, (_, snapshot)| {
            let mut restore = request("back");
            (restore.size_gb, restore.snapshot_id) = (None, Some(snapshot.id.to_string()));
            drop(service.create(restore).await);
        },
        async |_, service, (volume, _)| assert_eq!(one(&service).await.id, volume.id),
    )
    .await;
    assert!(crashes >= 6, "run and undo were tried: {crashes}");
}

/// Makes a volume and deletes it as soon as it is seen half-made; returns the answer to the deletion.
async fn delete_while_filling(service: &Service, make: CreateRequest) -> Result<Volume, Refusal> {
    let filling = [
        VolumeState::Creating,
        VolumeState::Restoring,
        VolumeState::Hydrating,
    ];
    let deleting = async {
        loop {
            let all = service.volumes(None, false).await.unwrap();
            if let Some(found) = all.iter().find(|v| filling.contains(&v.state)) {
                return service.destroy(&found.id).await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(service.create(make), deleting).1
}

/// Asserts that of the volumes only `source` is left, unless the deletion was never acknowledged.
async fn assert_gone(service: &Service, source: &Volume, acknowledged: bool) {
    let left = service.volumes(None, false).await.unwrap();
    if acknowledged {
        assert_eq!(left.len(), 1, "{left:?}");
    }
    assert!(left.iter().any(|v| v.id == source.id));
    assert!(left.iter().all(|v| v.state == VolumeState::Created), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_during_a_restore_is_kept_after_a_crash_at_any_step() {
    let acknowledged = Cell::new(0);
    let crashes = crash_everywhere(
        RESTORE,
        async |rig, service| {
            let prepared = snapshotted(rig, service).await;
            // A store so slow that the restore would still be running tomorrow.
            let slow = Damage::Delay(Duration::from_secs(24 * 3600));
            rig.wire.inject(Fault {
                times: 1,
                ..Fault::always(Call::Get, slow)
            });
            acknowledged.set(0);
            prepared
        },
        async |service, (_, snapshot)| {
            let mut restore = request("back");
            (restore.size_gb, restore.snapshot_id) = (None, Some(snapshot.id.to_string()));
            let began = tokio::time::Instant::now();
            let deleted = delete_while_filling(&service, restore).await.unwrap();
            assert_eq!(deleted.state, VolumeState::Destroying);
            assert!(began.elapsed() < Duration::from_secs(60), "acknowledged at once");
            acknowledged.set(1);
            settled(&service).await;
            assert!(began.elapsed() < Duration::from_secs(60), "and undone at once");
        },
        async |_, service, (volume, _)| assert_gone(&service, &volume, acknowledged.get() == 1).await,
    )
    .await;
    assert!(crashes >= 6, "run and undo were tried: {crashes}");
    assert_eq!(acknowledged.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_during_a_fork_is_kept_after_a_crash_at_any_step() {
    let acknowledged = Cell::new(0);
    let crashes = crash_everywhere(
        FORK,
        written,
        async |service, volume| {
            let mut fork = request("copy");
            (fork.size_gb, fork.encrypted) = (None, None);
            fork.source_volume_id = Some(volume.id.to_string());
            acknowledged.set(0);
            // The copy waits for whoever works on the source.
            let _busy = service.context().locks.lock(&volume.id).await;
            let deleted = delete_while_filling(&service, fork).await.unwrap();
            assert_eq!(deleted.state, VolumeState::Destroying);
            acknowledged.set(1);
            settled(&service).await;
        },
        async |_, service, volume| assert_gone(&service, &volume, acknowledged.get() == 1).await,
    )
    .await;
    assert!(crashes >= 6, "run and undo were tried: {crashes}");
    assert_eq!(acknowledged.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_of_a_running_snapshot_is_kept_after_a_crash_at_any_step() {
    let acknowledged = Cell::new(0);
    crash_everywhere(
        SNAPSHOT,
        async |rig, service| {
            let volume = written(rig, service).await;
            let slow = Damage::Delay(Duration::from_secs(24 * 3600));
            rig.wire.inject(Fault {
                times: 1,
                ..Fault::always(Call::Put, slow)
            });
            acknowledged.set(0);
            volume
        },
        async |service, volume| {
            let snapshot = service.take_snapshot(&volume.id).await.unwrap();
            let began = tokio::time::Instant::now();
            service.delete_snapshot(&snapshot.id).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(60), "given up at once");
            acknowledged.set(1);
        },
        async |_, service, volume| {
            let left = service.snapshots_of(&volume.id).await.unwrap();
            assert!(left.is_empty() || acknowledged.get() == 0, "{left:?}");
        },
    )
    .await;
    assert_eq!(acknowledged.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn destroy_and_recover_converge_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        DESTROY,
        written,
        async |service, volume| drop(service.destroy(&volume.id).await),
        async |_, service, volume| {
            let now = service.volume(&volume.id).await.unwrap();
            assert_eq!(now.state, VolumeState::PendingDestroy);
        },
    )
    .await;
    assert_eq!(crashes, 2);
    let crashes = crash_everywhere(
        RECOVER,
        async |rig, service| {
            let volume = written(rig, service.clone()).await;
            service.destroy(&volume.id).await.unwrap()
        },
        async |service, volume| drop(service.recover(&volume.id).await),
        async |_, service, volume| {
            let now = service.volume(&volume.id).await.unwrap();
            assert_eq!((now.state, now.deleted_at), (VolumeState::Created, None));
            assert_eq!(read(&service, &now, 1 << 20, 4096).await, vec![7; 4096]);
        },
    )
    .await;
    assert_eq!(crashes, 2);
}

#[tokio::test(start_paused = true)]
async fn purge_and_expire_converge_after_a_crash_at_any_step() {
    let crashes = crash_everywhere(
        PURGE,
        async |rig, service| {
            let (volume, snapshot) = snapshotted(rig, service.clone()).await;
            service.destroy(&volume.id).await.unwrap();
            rig.advance(25);
            (volume, snapshot)
        },
        async |service, _| service.sweep_once().await,
        async |_, service, (volume, snapshot)| {
            assert_eq!(service.volume(&volume.id).await.unwrap_err().status, 404);
            // Its snapshots outlive it.
            assert_eq!(service.snapshots_of(&volume.id).await.unwrap()[0].id, snapshot.id);
        },
    )
    .await;
    assert_eq!(crashes, 4);
    let crashes = crash_everywhere(
        EXPIRE,
        snapshotted,
        async |service, (_, snapshot)| drop(service.delete_snapshot(&snapshot.id).await),
        async |_, service, (volume, _)| assert!(service.snapshots_of(&volume.id).await.unwrap().is_empty()),
    )
    .await;
    assert_eq!(crashes, 2);
}

#[test]
fn every_step_of_every_kind_has_a_unique_name() {
    for (kind, steps) in KINDS {
        let mut names: Vec<&str> = steps.iter().map(|s| s.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), steps.len(), "{kind}");
        assert!(!steps.is_empty(), "{kind}");
    }
}
