//! volumed's pools of logical volumes on real LVM, device-mapper and dm-crypt.

use std::sync::Arc;
use std::time::Duration;

use crashsafe::{Disk, RealDisk};
use host_tests::Guest;
use volumed::bulk::{Images, Layout, Workers};
use volumed::command::{Commands, SystemCommands};
use volumed::lvm::group::{GroupSettings, Scope, VolumeGroup};
use volumed::lvm::thin_pool::Policy;
use volumed::pool::lvm::{LvmKind, LvmPool, LvmPoolConfig, NewThinPool};
use volumed::pool::{Capacity, Copied, Pool, PoolError, PressureRules, Slice, SliceId, ZeroEnd};
use volumed::random::OsRandom;
use volumed::volume::{SnapshotId, VolumeId};
use zeroize::Zeroizing;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const SIZE: u64 = 128 * MIB;

pub(super) fn thin(data_mib: u64) -> LvmKind {
    LvmKind::Thin {
        thin_pool: "pool".to_owned(),
        create: Some(NewThinPool {
            data_bytes: data_mib * MIB,
            metadata_bytes: 8 * MIB,
            chunk_bytes: 64 << 10,
        }),
        policy: Policy {
            headroom_bytes: 256 * MIB,
            ..Policy::default()
        },
    }
}

pub(super) fn linear() -> LvmKind {
    LvmKind::Linear { snapshot_percent: 20 }
}

/// Makes the volume group, as the operator does.
pub(super) fn prepare(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y -s 4m $vg $disk");
}

/// Opens a pool, as volumed does at each start.
pub(super) async fn open(guest: &Guest, kind: LvmKind) -> LvmPool {
    open_by(guest, kind, Arc::new(SystemCommands::find(false))).await
}

/// Opens a pool whose commands go through `commands`.
pub(super) async fn open_by(guest: &Guest, kind: LvmKind, commands: Arc<dyn Commands>) -> LvmPool {
    let settings = GroupSettings {
        vg: guest.vg(),
        scope: Scope::Devices(vec![guest.disk().to_owned()]),
        udev: false,
        mapper: "/dev/mapper".into(),
    };
    let group = Arc::new(VolumeGroup::new(settings, commands));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let images = Images::new(Arc::clone(&disk), None, Workers::inline());
    let config = LvmPoolConfig {
        name: "p".to_owned(),
        kind,
        encryption: true,
        capacity: Capacity {
            reserve_bytes: 0,
            overcommit_ratio: 2.0,
        },
        pressure: PressureRules::default(),
    };
    let opened = LvmPool::open(config, group, disk, images, Workers::inline()).await;
    opened.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}

/// Unwraps with the whole chain of causes.
pub(super) trait Must<T> {
    fn must(self) -> T;
}

impl<T> Must<T> for Result<T, PoolError> {
    #[track_caller]
    fn must(self) -> T {
        self.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }
}

pub(super) fn key(text: &str) -> Layout {
    Layout::Luks {
        passphrase: Zeroizing::new(text.repeat(64)),
    }
}

pub(super) fn volume(layout: &Layout) -> Slice {
    Slice {
        id: SliceId::Volume(VolumeId::generate(&OsRandom)),
        size_bytes: SIZE,
        layout: layout.clone(),
    }
}

pub(super) fn capture(layout: &Layout) -> Slice {
    Slice {
        id: SliceId::Capture(SnapshotId::generate(&OsRandom)),
        ..volume(layout)
    }
}

pub(super) async fn write(pool: &LvmPool, slice: &Slice, offset: u64, byte: u8, len: usize) {
    let sink = pool.open_sink(slice).await.must();
    sink.write_at(offset, vec![byte; len].into()).await.unwrap();
    sink.sync().await.unwrap();
}

pub(super) async fn read(pool: &LvmPool, slice: &Slice, offset: u64) -> u8 {
    let source = pool.open_source(slice).await.must();
    let bytes = source.read_at(offset, 4096).await.unwrap();
    assert!(bytes.iter().all(|b| *b == bytes[0]), "torn at {offset}");
    bytes[0]
}

/// Every call of the trait, each twice where that must be the same.
async fn every_call(guest: &Guest, kind: LvmKind, layout: &Layout) {
    let pool = open(guest, kind.clone()).await;
    let v = volume(layout);
    for _ in 0..2 {
        pool.create(&v).await.must();
    }
    assert!(pool.exists(&v.id).await.must());
    for offset in [0, MIB - 4096, SIZE - MIB, SIZE - 4096] {
        assert_eq!(read(&pool, &v, offset).await, 0, "byte {offset}");
    }
    write(&pool, &v, 2 * MIB, 7, 4096).await;
    // Grown while in use, and again.
    let larger = Slice {
        size_bytes: 2 * SIZE,
        ..v.clone()
    };
    let device = pool.activate(&v).await.must();
    for zero_end in [ZeroEnd::IfGrownNow, ZeroEnd::Always] {
        pool.grow(&larger, SIZE, zero_end).await.must();
    }
    let blockdev = guest.must(&format!("blockdev --getsize64 {}", device.path.display()));
    assert_eq!(blockdev.trim(), (2 * SIZE).to_string());
    assert_eq!(read(&pool, &larger, 2 * SIZE - 4096).await, 0);
    assert!(matches!(
        pool.grow(&v, SIZE, ZeroEnd::Never).await,
        Err(PoolError::WrongSize { .. })
    ));
    // A capture and a fork are of this moment.
    let snapshot = Slice {
        size_bytes: 2 * SIZE,
        ..capture(layout)
    };
    let other_key = match layout {
        Layout::Raw => Layout::Raw,
        Layout::Luks { .. } => key("b"),
    };
    let fork = Slice {
        size_bytes: 2 * SIZE,
        ..volume(&other_key)
    };
    for _ in 0..2 {
        assert_eq!(pool.copy(&larger, &snapshot).await.must(), Copied::Atomically);
        pool.copy(&larger, &fork).await.must();
    }
    write(&pool, &larger, 2 * MIB, 8, 4096).await;
    assert_eq!(read(&pool, &snapshot, 2 * MIB).await, 7);
    assert_eq!(read(&pool, &fork, 2 * MIB).await, 7);
    assert_eq!(read(&pool, &larger, 2 * MIB).await, 8);
    assert_eq!(pool.list().await.must().len(), 3);
    let usage = pool.usage().await.must();
    assert!(
        usage.allocated_bytes > 0 && usage.free_bytes < usage.total_bytes,
        "{usage:?}"
    );
    assert_eq!(pool.reading().await.must().fault, None);
    // A volumed that starts anew takes down what nobody uses, and all of it is still there.
    drop(pool);
    let pool = open(guest, kind).await;
    let mapped = guest.must("dmsetup ls --target crypt");
    for slice in [&snapshot, &fork, &larger] {
        assert!(!mapped.contains(&slice.id.name()), "{mapped}");
    }
    assert_eq!(read(&pool, &fork, 2 * MIB).await, 7);
    for slice in [&snapshot, &fork, &larger] {
        for _ in 0..2 {
            pool.delete(&slice.id).await.must();
        }
    }
    assert!(pool.list().await.must().is_empty());
}

/// Thin.
pub(crate) fn every_call_on_thin_slices_does_what_it_says_twice(guest: &Guest) {
    prepare(guest);
    guest.block_on(every_call(guest, thin(1024), &Layout::Raw));
}

/// Thin, by dm-crypt.
pub(crate) fn every_call_on_encrypted_thin_slices_does_what_it_says_twice(guest: &Guest) {
    prepare(guest);
    guest.block_on(every_call(guest, thin(1024), &key("a")));
}

/// Linear.
pub(crate) fn every_call_on_linear_slices_does_what_it_says_twice(guest: &Guest) {
    prepare(guest);
    guest.block_on(every_call(guest, linear(), &Layout::Raw));
}

/// Linear, by dm-crypt.
pub(crate) fn every_call_on_encrypted_linear_slices_does_what_it_says_twice(guest: &Guest) {
    prepare(guest);
    guest.block_on(every_call(guest, linear(), &key("a")));
}

/// Logical volumes of somebody else, one even under a name of ours.
pub(crate) fn foreign_logical_volumes_stay_as_they_are_byte_for_byte(guest: &Guest) {
    prepare(guest);
    let taken = volume(&Layout::Raw);
    let name = taken.id.name();
    guest.must(&format!(
        "for lv in home {name}; do lvcreate -y -L 32M -n $lv $vg && dd if=/dev/urandom of=/dev/$vg/$lv bs=1M count=32; done"
    ));
    let sums = format!(
        "sha256sum /dev/$vg/home /dev/$vg/{name}; lvs --noheadings -o lv_uuid,lv_tags,lv_size,lv_active $vg/home $vg/{name}"
    );
    let before = guest.must(&sums);
    guest.block_on(async {
        for kind in [thin(512), linear()] {
            let pool = open(guest, kind).await;
            assert!(matches!(
                pool.create(&taken).await,
                Err(PoolError::Foreign { .. })
            ));
            assert!(matches!(
                pool.delete(&taken.id).await,
                Err(PoolError::Foreign { .. })
            ));
            let ours = volume(&Layout::Raw);
            pool.create(&ours).await.must();
            pool.copy(&ours, &capture(&Layout::Raw)).await.must();
            assert_eq!(pool.list().await.must().len(), 2);
            for found in pool.list().await.must().iter().rev() {
                pool.delete(&found.id).await.must();
            }
        }
    });
    assert_eq!(guest.must(&sums), before);
}

/// As fast as the disk takes it, while extents are free; `tend` is called as serve does.
pub(crate) fn a_thin_pool_filled_at_full_speed_grows_and_never_runs_out_while_extents_are_free(
    guest: &Guest,
) {
    prepare(guest);
    guest.block_on(async {
        let pool = open(guest, thin(256)).await;
        let v = Slice {
            size_bytes: 2048 * MIB,
            ..volume(&Layout::Raw)
        };
        pool.create(&v).await.must();
        let device = pool.activate(&v).await.must().path;
        let mut dd = guest
            .command("dd")
            .args([
                "if=/dev/zero",
                &format!("of={}", device.display()),
                "bs=1M",
                "count=1500",
                "oflag=direct",
            ])
            .spawn()
            .expect("dd starts");
        let begun = tokio::time::Instant::now();
        // As often as the daemon looks after its pools, and once more for the slow guest.
        let mut looks = tokio::time::interval(Duration::from_millis(500));
        let mut shed = Vec::new();
        let code = loop {
            if let Some(code) = dd.try_wait().expect("dd can be asked") {
                break code;
            }
            shed.extend(pool.tend(tokio::time::Instant::now().into_std()).await);
            let status = guest.must("dmsetup status $vg-pool-tpool");
            assert!(!status.contains("out_of_data_space"), "{status}");
            assert!(begun.elapsed() < Duration::from_secs(300), "dd never ends");
            looks.tick().await;
        };
        assert!(code.success());
        let reading = pool.reading().await.must();
        let data = &reading.gauges[0];
        assert!(data.used_bytes >= 1500 * MIB, "{reading:?}");
        // Less than half of the disk: nothing is let go.
        assert_eq!((shed, reading.fault), (vec![], None));
    });
}

/// What a backup is told changed, and when it is told nothing.
pub(crate) fn changes_between_captures_are_told_to_the_chunk_and_not_across_a_lost_base(guest: &Guest) {
    prepare(guest);
    guest.block_on(async {
        let pool = open(guest, thin(1024)).await;
        for layout in [Layout::Raw, key("a")] {
            let v = volume(&layout);
            pool.create(&v).await.must();
            write(&pool, &v, 0, 1, 32 << 20).await;
            let (base, next) = (capture(&layout), capture(&layout));
            pool.copy(&v, &base).await.must();
            // 1 % of it, on chunk boundaries.
            write(&pool, &v, 8 * MIB, 2, 1 << 20).await;
            write(&pool, &v, 40 * MIB, 3, 256 << 10).await;
            pool.copy(&v, &next).await.must();
            let changed = pool.changed(&base, &next).await;
            assert_eq!(
                changed,
                Some(vec![8 * MIB..9 * MIB, 40 * MIB..40 * MIB + (256 << 10)]),
                "{layout:?}"
            );
            let status = guest.must("dmsetup status $vg-pool-tpool");
            assert!(
                status.contains(" - rw "),
                "the metadata snapshot is held: {status}"
            );
            guest.must(&format!("lvremove -y -f $vg/{}", base.id.name()));
            assert_eq!(pool.changed(&base, &next).await, None);
            for id in [&next.id, &v.id] {
                pool.delete(id).await.must();
            }
        }
    });
}

/// Repaired behind volumed's back: lvconvert puts the metadata elsewhere.
pub(crate) fn changes_are_not_told_across_a_repair_of_the_pool(guest: &Guest) {
    prepare(guest);
    guest.block_on(async {
        let layout = Layout::Raw;
        let pool = open(guest, thin(512)).await;
        let v = volume(&layout);
        pool.create(&v).await.must();
        let (base, next) = (capture(&layout), capture(&layout));
        pool.copy(&v, &base).await.must();
        write(&pool, &v, 0, 1, 1 << 20).await;
        pool.copy(&v, &next).await.must();
        assert!(pool.changed(&base, &next).await.is_some());
        pool.deactivate(&v).await.must();
        drop(pool);
        guest.must("lvchange -an $vg && lvconvert -y --config global/thin_repair_executable=/sbin/thin_repair --repair $vg/pool");
        let pool = open(guest, thin(512)).await;
        assert_eq!(pool.changed(&base, &next).await, None);
        assert_eq!(read(&pool, &v, 0).await, 1);
        let after = capture(&layout);
        pool.copy(&v, &after).await.must();
        assert_eq!(
            pool.changed(&next, &after).await,
            None,
            "only one of them is of the new history"
        );
    });
}

/// More is written than a temporary snapshot has room for.
pub(crate) fn an_overflow_fails_the_capture_and_the_volume_goes_on(guest: &Guest) {
    prepare(guest);
    guest.block_on(async {
        let pool = open(guest, linear()).await;
        let v = volume(&Layout::Raw);
        pool.create(&v).await.must();
        let snapshot = capture(&Layout::Raw);
        pool.copy(&v, &snapshot).await.must();
        write(&pool, &v, 0, 9, 64 << 20).await;
        let lost = pool.open_source(&snapshot).await;
        assert!(matches!(lost, Err(PoolError::Overflowed { .. })), "{lost:?}");
        assert_eq!(read(&pool, &v, 0).await, 9);
        pool.delete(&snapshot.id).await.must();
        let larger = Slice {
            size_bytes: 2 * SIZE,
            ..v.clone()
        };
        pool.grow(&larger, SIZE, ZeroEnd::Never).await.must();
    });
}
