//! The pools over a volume group in memory: every command may be refused, or killed before or after its work.

mod fake;

use std::time::Duration;

use crashsafe::RealDisk;

use super::*;
use crate::lvm::group::{GroupSettings, Scope};
use crate::testing::CountingRandom;
use crate::volume::{SnapshotId, VolumeId};
use fake::{EXTENT, FakeLv, FakeLvm, Fault};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;

struct Rig {
    _dir: tempfile::TempDir,
    lvm: Arc<FakeLvm>,
    kind: LvmKind,
    random: CountingRandom,
}

fn thin() -> LvmKind {
    LvmKind::Thin {
        thin_pool: "pool".to_owned(),
        create: Some(NewThinPool {
            data_bytes: 512 * MIB,
            metadata_bytes: EXTENT,
            chunk_bytes: 64 << 10,
        }),
        policy: Policy {
            headroom_bytes: 64 * MIB,
            ..Policy::default()
        },
    }
}

fn linear() -> LvmKind {
    LvmKind::Linear { snapshot_percent: 20 }
}

impl Rig {
    fn new(kind: LvmKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lvm = Arc::new(FakeLvm::new(dir.path(), 4096 * MIB));
        let foreign = FakeLv {
            size: 8 * MIB,
            tags: vec!["mine".to_owned()],
            active: true,
            ..FakeLv::default()
        };
        std::fs::File::create(lvm.backing("home")).unwrap();
        lvm.state.lock().unwrap().lvs.insert("home".to_owned(), foreign);
        Self {
            _dir: dir,
            lvm,
            kind,
            random: CountingRandom::default(),
        }
    }

    /// A volumed that starts on what is there.
    async fn try_open(&self) -> Result<LvmPool, PoolError> {
        self.lvm.state.lock().unwrap().gone = false;
        let pool = self.closed();
        pool.try_open().await?;
        Ok(pool)
    }

    fn closed(&self) -> LvmPool {
        let settings = GroupSettings {
            vg: "vg0".to_owned(),
            scope: Scope::Devices(vec!["/dev/x".into()]),
            udev: false,
            mapper: self.lvm.mapper(),
        };
        let group = Arc::new(VolumeGroup::new(settings, Arc::clone(&self.lvm) as _));
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let images = Images::new(Arc::clone(&disk), None, Workers::inline());
        let config = LvmPoolConfig {
            name: "p".to_owned(),
            kind: self.kind.clone(),
            encryption: false,
            capacity: Capacity {
                reserve_bytes: 0,
                overcommit_ratio: 1.0,
            },
            pressure: PressureRules::default(),
        };
        LvmPool::closed(config, group, disk, images, Workers::inline())
    }

    async fn open(&self) -> LvmPool {
        self.try_open().await.unwrap()
    }

    fn volume(&self) -> Slice {
        slice(SliceId::Volume(VolumeId::generate(&self.random)))
    }

    fn capture(&self) -> Slice {
        slice(SliceId::Capture(SnapshotId::generate(&self.random)))
    }

    fn lv(&self, slice: &Slice) -> FakeLv {
        self.lvm.state.lock().unwrap().lvs[&slice.id.name()].clone()
    }
}

fn slice(id: SliceId) -> Slice {
    Slice {
        id,
        size_bytes: SIZE,
        layout: Layout::Raw,
    }
}

async fn write(pool: &LvmPool, slice: &Slice, offset: u64, byte: u8) {
    let sink = pool.open_sink(slice).await.unwrap();
    sink.write_at(offset, vec![byte; 4096].into()).await.unwrap();
    sink.sync().await.unwrap();
}

async fn read(pool: &LvmPool, slice: &Slice, offset: u64) -> u8 {
    let source = pool.open_source(slice).await.unwrap();
    let bytes = source.read_at(offset, 4096).await.unwrap();
    assert!(bytes.iter().all(|b| *b == bytes[0]));
    bytes[0]
}

#[tokio::test]
async fn a_new_slice_reads_zero_at_both_ends_whatever_was_there_and_is_made_once() {
    for kind in [thin(), linear()] {
        let rig = Rig::new(kind);
        let (pool, volume) = (rig.open().await, rig.volume());
        pool.create(&volume).await.unwrap();
        assert_eq!(read(&pool, &volume, 0).await, 0);
        assert_eq!(read(&pool, &volume, SIZE - 4096).await, 0);
        write(&pool, &volume, MIB, 7).await;
        pool.create(&volume).await.unwrap();
        assert_eq!(read(&pool, &volume, MIB).await, 7, "made once");
        let larger = Slice {
            size_bytes: 2 * SIZE,
            ..volume.clone()
        };
        assert!(matches!(
            pool.create(&larger).await,
            Err(PoolError::WrongSize { .. })
        ));
    }
}

#[tokio::test]
async fn a_slice_grows_keeps_its_bytes_and_never_shrinks() {
    for kind in [thin(), linear()] {
        let rig = Rig::new(kind);
        let (pool, volume) = (rig.open().await, rig.volume());
        pool.create(&volume).await.unwrap();
        write(&pool, &volume, MIB, 7).await;
        let larger = Slice {
            size_bytes: 2 * SIZE,
            ..volume.clone()
        };
        for zero_end in [ZeroEnd::IfGrownNow, ZeroEnd::Always, ZeroEnd::Never] {
            pool.grow(&larger, SIZE, zero_end).await.unwrap();
        }
        assert_eq!(rig.lv(&volume).size, 2 * SIZE);
        assert_eq!(read(&pool, &larger, MIB).await, 7);
        assert_eq!(read(&pool, &larger, 2 * SIZE - 4096).await, 0);
        let back = pool.grow(&volume, SIZE, ZeroEnd::Never).await;
        assert!(matches!(back, Err(PoolError::WrongSize { .. })));
        let gone = pool.grow(&rig.volume(), SIZE, ZeroEnd::Never).await;
        assert!(matches!(gone, Err(PoolError::Missing { .. })));
    }
}

#[tokio::test]
async fn a_copy_is_of_its_moment_and_a_thin_capture_outlives_its_volume() {
    for kind in [thin(), linear()] {
        let rig = Rig::new(kind.clone());
        let (pool, volume, capture, fork) = (rig.open().await, rig.volume(), rig.capture(), rig.volume());
        pool.create(&volume).await.unwrap();
        write(&pool, &volume, MIB, 7).await;
        assert_eq!(pool.copy(&volume, &capture).await.unwrap(), Copied::Atomically);
        pool.copy(&volume, &fork).await.unwrap();
        write(&pool, &volume, MIB, 8).await;
        // Found, not taken anew.
        pool.copy(&volume, &capture).await.unwrap();
        assert_eq!(read(&pool, &capture, MIB).await, 7);
        assert_eq!(
            (read(&pool, &fork, MIB).await, read(&pool, &volume, MIB).await),
            (7, 8)
        );
        assert_eq!(pool.list().await.unwrap().len(), 3);
        if kind == linear() {
            // LVM would take the capture with its volume, and cannot grow a volume that has one.
            assert!(matches!(
                pool.delete(&volume.id).await,
                Err(PoolError::Busy { .. })
            ));
            let larger = Slice {
                size_bytes: 2 * SIZE,
                ..volume.clone()
            };
            let grown = pool.grow(&larger, SIZE, ZeroEnd::Never).await;
            assert!(matches!(grown, Err(PoolError::Busy { .. })));
            pool.delete(&capture.id).await.unwrap();
        }
        pool.delete(&volume.id).await.unwrap();
        pool.delete(&volume.id).await.unwrap();
        assert!(!pool.exists(&volume.id).await.unwrap());
        if kind != linear() {
            assert_eq!(read(&pool, &capture, MIB).await, 7);
        }
    }
}

#[tokio::test]
async fn an_overflow_fails_the_capture_and_not_the_volume() {
    let rig = Rig::new(linear());
    let (pool, volume, capture) = (rig.open().await, rig.volume(), rig.capture());
    pool.create(&volume).await.unwrap();
    pool.copy(&volume, &capture).await.unwrap();
    let overflow = |on: bool| {
        let mut state = rig.lvm.state.lock().unwrap();
        state.lvs.get_mut(&capture.id.name()).unwrap().overflowed = on;
    };
    overflow(true);
    let lost = pool.open_source(&capture).await;
    assert!(matches!(lost, Err(PoolError::Overflowed { .. })), "{lost:?}");
    write(&pool, &volume, MIB, 9).await;
    pool.delete(&capture.id).await.unwrap();
    assert_eq!(read(&pool, &volume, MIB).await, 9);
}

#[tokio::test]
async fn what_is_not_ours_is_neither_listed_nor_touched_even_under_our_name() {
    for kind in [thin(), linear()] {
        let rig = Rig::new(kind);
        let (pool, taken) = (rig.open().await, rig.volume());
        let foreign = FakeLv {
            size: SIZE,
            tags: vec!["theirs".to_owned()],
            active: true,
            ..FakeLv::default()
        };
        std::fs::File::create(rig.lvm.backing(&taken.id.name())).unwrap();
        rig.lvm
            .state
            .lock()
            .unwrap()
            .lvs
            .insert(taken.id.name(), foreign.clone());
        let larger = Slice {
            size_bytes: 2 * SIZE,
            ..taken.clone()
        };
        let foreign_error = |result: Result<(), PoolError>| matches!(result, Err(PoolError::Foreign { .. }));
        assert!(foreign_error(pool.create(&taken).await));
        assert!(foreign_error(pool.delete(&taken.id).await));
        assert!(foreign_error(pool.grow(&larger, SIZE, ZeroEnd::Never).await));
        assert!(foreign_error(pool.deactivate(&taken).await));
        assert!(foreign_error(pool.activate(&taken).await.map(drop)));
        assert!(foreign_error(pool.copy(&taken, &rig.capture()).await.map(drop)));
        assert_eq!(pool.list().await.unwrap(), []);
        rig.open().await;
        let state = rig.lvm.state.lock().unwrap();
        assert_eq!(state.lvs[&taken.id.name()], foreign);
        assert_eq!(state.lvs["home"].tags, ["mine"]);
        assert!(state.lvs["home"].active);
    }
}

/// Runs `act` with a fault at each of its changes in turn, then a new volumed that does it again, then `check`.
async fn fault_everywhere(
    kind: &LvmKind,
    prepare: impl AsyncFn(&Rig, &LvmPool) -> Vec<Slice>,
    act: impl AsyncFn(&LvmPool, &[Slice]) -> Result<(), PoolError>,
    check: impl AsyncFn(&Rig, &LvmPool, &[Slice]),
) {
    for fault in [
        Fault::Before,
        Fault::After,
        Fault::Refused,
        Fault::Halfway,
        Fault::HalfwayWithUs,
    ] {
        for at in 0..60 {
            let rig = Rig::new(kind.clone());
            let pool = rig.open().await;
            let slices = prepare(&rig, &pool).await;
            rig.lvm.state.lock().unwrap().fault = Some((at, fault));
            let first = act(&pool, &slices).await;
            let reached = rig.lvm.state.lock().unwrap().fault.take().is_none();
            if fault == Fault::After {
                // The work was done, and a fresh look found it.
                first.unwrap();
            }
            let pool = rig.open().await;
            act(&pool, &slices).await.unwrap();
            check(&rig, &pool, &slices).await;
            let state = rig.lvm.state.lock().unwrap();
            assert!(
                !state.lvs.keys().any(|name| name.starts_with("t-")),
                "{:?}",
                state.lvs
            );
            let unfinished = |lv: &FakeLv| {
                lv.tags
                    .iter()
                    .any(|t| t.contains("state=new") || t.contains("growing"))
            };
            assert!(!state.lvs.values().any(unfinished), "{:?}", state.lvs);
            drop(state);
            if !reached {
                break;
            }
            assert!(at < 50, "never ends");
        }
    }
}

#[tokio::test]
async fn create_and_delete_converge_after_a_fault_at_any_command() {
    for kind in [thin(), linear()] {
        fault_everywhere(
            &kind,
            async |rig, _| vec![rig.volume()],
            async |pool, slices| pool.create(&slices[0]).await,
            async |_, pool, slices| {
                assert_eq!(read(pool, &slices[0], 0).await, 0);
                assert_eq!(read(pool, &slices[0], SIZE - 4096).await, 0);
            },
        )
        .await;
        fault_everywhere(
            &kind,
            async |rig, pool| {
                let volume = rig.volume();
                pool.create(&volume).await.unwrap();
                pool.activate(&volume).await.unwrap();
                vec![volume]
            },
            async |pool, slices| pool.delete(&slices[0].id).await,
            async |_, pool, _| assert_eq!(pool.list().await.unwrap(), []),
        )
        .await;
    }
}

#[tokio::test]
async fn a_grow_takes_six_commands_of_lvm_and_no_more() {
    for kind in [thin(), linear()] {
        let rig = Rig::new(kind);
        let pool = rig.open().await;
        let volume = rig.volume();
        pool.create(&volume).await.unwrap();
        pool.activate(&volume).await.unwrap();
        rig.lvm.state.lock().unwrap().lines.clear();
        let larger = Slice {
            size_bytes: 2 * SIZE,
            ..volume
        };
        pool.grow(&larger, SIZE, ZeroEnd::Never).await.unwrap();
        let lines = rig.lvm.state.lock().unwrap().lines.clone();
        let of_lvm: Vec<&str> = lines
            .iter()
            .filter_map(|line| {
                line.split_whitespace()
                    .find(|word| word.starts_with("lv") && *word != "lvm")
            })
            .collect();
        assert_eq!(
            of_lvm,
            ["lvs", "lvchange", "lvextend", "lvs", "lvchange", "lvs"],
            "{lines:#?}"
        );
    }
}

#[tokio::test]
async fn a_grow_converges_after_a_fault_at_any_command() {
    for kind in [thin(), linear()] {
        for in_use in [false, true] {
            let larger = |slice: &Slice| Slice {
                size_bytes: 2 * SIZE,
                ..slice.clone()
            };
            fault_everywhere(
                &kind,
                async |rig, pool| {
                    let volume = rig.volume();
                    pool.create(&volume).await.unwrap();
                    write(pool, &volume, SIZE - 4096, 7).await;
                    if !in_use {
                        pool.deactivate(&volume).await.unwrap();
                    }
                    vec![volume]
                },
                async |pool, slices| pool.grow(&larger(&slices[0]), SIZE, ZeroEnd::IfGrownNow).await,
                async |rig, pool, slices| {
                    let grown = larger(&slices[0]);
                    assert_eq!(rig.lv(&grown).size, 2 * SIZE);
                    assert_eq!(read(pool, &grown, SIZE - 4096).await, 7);
                    assert_eq!(read(pool, &grown, SIZE).await, 0);
                    assert_eq!(read(pool, &grown, 2 * SIZE - 4096).await, 0);
                },
            )
            .await;
        }
    }
}

#[tokio::test]
async fn captures_and_forks_converge_after_a_fault_at_any_command() {
    for kind in [thin(), linear()] {
        for fork in [false, true] {
            fault_everywhere(
                &kind,
                async |rig, pool| {
                    let volume = rig.volume();
                    pool.create(&volume).await.unwrap();
                    write(pool, &volume, MIB, 7).await;
                    let target = if fork { rig.volume() } else { rig.capture() };
                    vec![volume, target]
                },
                async |pool, slices| pool.copy(&slices[0], &slices[1]).await.map(drop),
                async |_, pool, slices| {
                    assert_eq!(read(pool, &slices[1], MIB).await, 7);
                    assert_eq!(read(pool, &slices[1], 2 * MIB).await, 0);
                    write(pool, &slices[0], MIB, 8).await;
                    assert_eq!(read(pool, &slices[1], MIB).await, 7);
                },
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_capture_of_which_the_pool_has_not_heard_is_not_believed() {
    let rig = Rig::new(thin());
    let (pool, volume, capture) = (rig.open().await, rig.volume(), rig.capture());
    pool.create(&volume).await.unwrap();
    write(&pool, &volume, MIB, 7).await;
    rig.lvm.state.lock().unwrap().fault = Some((0, Fault::HalfwayWithUs));
    pool.copy(&volume, &capture).await.unwrap_err();
    let pool = rig.open().await;
    let listed = pool.list().await.unwrap();
    let complete = |slice: &Slice| {
        listed
            .iter()
            .find(|found| found.id == slice.id)
            .map(|f| f.complete)
    };
    assert_eq!((complete(&volume), complete(&capture)), (Some(true), Some(false)));
    // Acknowledged from here on; what is written after it is not in it, whatever else LVM is asked for.
    pool.copy(&volume, &capture).await.unwrap();
    write(&pool, &volume, MIB, 8).await;
    pool.create(&rig.volume()).await.unwrap();
    assert_eq!(read(&pool, &capture, MIB).await, 7);
    // One that is there is not taken again because of a removal of which the pool has not heard.
    let gone = rig.volume();
    pool.create(&gone).await.unwrap();
    rig.lvm.state.lock().unwrap().fault = Some((0, Fault::HalfwayWithUs));
    pool.delete(&gone.id).await.unwrap_err();
    let pool = rig.open().await;
    pool.copy(&volume, &capture).await.unwrap();
    assert_eq!(read(&pool, &capture, MIB).await, 7);
}

fn delta(left: u64, right: u64) -> String {
    format!(
        "<superblock uuid=\"\" time=\"2\" transaction=\"3\" data_block_size=\"128\" nr_data_blocks=\"9\">\n\
         <diff left=\"{left}\" right=\"{right}\">\n<different begin=\"16\" length=\"2\"/>\n</diff>\n</superblock>\n"
    )
}

/// Two captures of one volume and what thin_delta will say of them.
async fn captured_twice(rig: &Rig) -> (LvmPool, Slice, Slice) {
    let (pool, volume) = (rig.open().await, rig.volume());
    let (base, next) = (rig.capture(), rig.capture());
    pool.create(&volume).await.unwrap();
    pool.copy(&volume, &base).await.unwrap();
    pool.copy(&volume, &next).await.unwrap();
    let text = delta(rig.lv(&base).thin_id.unwrap(), rig.lv(&next).thin_id.unwrap());
    rig.lvm.state.lock().unwrap().delta = text;
    (pool, base, next)
}

#[tokio::test]
async fn changes_between_two_captures_are_told_and_the_metadata_snapshot_is_let_go() {
    let rig = Rig::new(thin());
    let (pool, base, next) = captured_twice(&rig).await;
    for _ in 0..2 {
        let changed = pool.changed(&base, &next).await.expect("they are known");
        assert_eq!((changed.len(), &changed[0]), (1, &(MIB..MIB + (128 << 10))));
        assert!(!rig.lvm.state.lock().unwrap().held);
    }
    // Held by a volumed that died: the next one lets it go, at its start and before it compares.
    rig.lvm.state.lock().unwrap().held = true;
    assert!(pool.changed(&base, &next).await.is_some());
    rig.lvm.state.lock().unwrap().held = true;
    rig.open().await;
    assert!(!rig.lvm.state.lock().unwrap().held);
    let linear = Rig::new(linear());
    let (pool, volume) = (linear.open().await, linear.volume());
    pool.create(&volume).await.unwrap();
    assert_eq!(pool.changed(&volume, &volume).await, None);
}

#[tokio::test]
async fn changes_are_not_told_across_a_lost_base_a_repair_a_damage_or_a_cut_answer() {
    type Harm = fn(&mut fake::State, &Slice);
    let harms: [(&str, Harm); 6] = [
        ("base gone", |s, base| drop(s.lvs.remove(&base.id.name()))),
        ("repaired", |s, _| s.place = "/dev/x:77-77".to_owned()),
        ("needs check", |s, _| s.needs_check = true),
        ("read-only", |s, _| s.mode = "ro"),
        ("answer cut", |s, _| s.delta.truncate(100)),
        ("other pair", |s, _| s.delta = delta(901, 902)),
    ];
    for (what, harm) in harms {
        let rig = Rig::new(thin());
        let (pool, base, next) = captured_twice(&rig).await;
        assert!(pool.changed(&base, &next).await.is_some(), "{what}");
        harm(&mut rig.lvm.state.lock().unwrap(), &base);
        assert_eq!(pool.changed(&base, &next).await, None, "{what}");
        assert!(!rig.lvm.state.lock().unwrap().held, "{what}");
    }
    // Found damaged and put right again: what was captured before counts no more, also after a restart.
    let rig = Rig::new(thin());
    let (pool, base, next) = captured_twice(&rig).await;
    rig.lvm.state.lock().unwrap().needs_check = true;
    pool.tend(tokio::time::Instant::now().into_std()).await;
    rig.lvm.state.lock().unwrap().needs_check = false;
    assert_eq!(pool.changed(&base, &next).await, None);
    assert_eq!(rig.open().await.changed(&base, &next).await, None);
}

#[tokio::test]
async fn a_thin_pool_is_made_when_told_to_and_grows_when_it_is_time() {
    let rig = Rig::new(thin());
    let pool = rig.open().await;
    let now = tokio::time::Instant::now().into_std();
    let size = || rig.lvm.state.lock().unwrap().lvs["pool"].size;
    assert_eq!((size(), pool.tend(now).await), (512 * MIB, vec![]));
    rig.lvm.state.lock().unwrap().data_used = 400 * MIB / (64 << 10);
    pool.tend(now).await;
    assert_eq!(size(), 640 * MIB);
    // No extent is left: what only saves reading goes first.
    rig.lvm.state.lock().unwrap().size = 640 * MIB + 16 * MIB;
    rig.lvm.state.lock().unwrap().data_used = 620 * MIB / (64 << 10);
    let later = now + Duration::from_secs(60);
    assert_eq!(pool.tend(later).await, [Shed::Bases, Shed::Captures]);
    let missing = LvmKind::Thin {
        thin_pool: "other".to_owned(),
        create: None,
        policy: Policy::default(),
    };
    let error = Rig::new(missing).try_open().await.unwrap_err();
    assert!(
        error.to_string().contains("there is no thin pool vg0/other"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pool_without_its_volume_group_says_so_and_opens_when_the_group_is_there() {
    for kind in [thin(), linear()] {
        let rig = Rig::new(kind);
        rig.lvm.state.lock().unwrap().absent = true;
        let pool = rig.closed();
        pool.try_open().await.unwrap_err();
        let fault = pool.reading().await.unwrap().fault.unwrap();
        assert_eq!(fault.state, "missing");
        assert!(fault.sentence.contains("volume group vg0"), "{}", fault.sentence);
        // What LVM said, and not how it was called.
        assert!(!fault.sentence.contains("--config"), "{}", fault.sentence);
        let volume = rig.volume();
        let refused = pool.create(&volume).await;
        assert!(matches!(refused, Err(PoolError::Closed { .. })), "{refused:?}");
        let now = tokio::time::Instant::now().into_std();
        pool.tend(now).await;
        assert!(!pool.is_open());
        rig.lvm.state.lock().unwrap().absent = false;
        // Not before its time.
        pool.tend(now + Duration::from_secs(1)).await;
        assert!(!pool.is_open());
        pool.tend(now + crate::pool::door::OPEN_EVERY).await;
        assert!(pool.is_open());
        pool.create(&volume).await.unwrap();
        assert_eq!(pool.reading().await.unwrap().fault, None);
        // Gone while it runs.
        rig.lvm.state.lock().unwrap().absent = true;
        let fault = pool.reading().await.unwrap().fault.unwrap();
        assert_eq!(fault.state, "missing");
        rig.lvm.state.lock().unwrap().absent = false;
        assert_eq!(pool.reading().await.unwrap().fault, None);
        // A power cut took a part of what LVM was writing.
        rig.lvm.state.lock().unwrap().torn = true;
        let fault = pool.reading().await.unwrap().fault.unwrap();
        assert_eq!(fault.state, "damaged");
        assert!(fault.sentence.contains("LVM's backup"), "{}", fault.sentence);
    }
    let missing = LvmKind::Thin {
        thin_pool: "other".to_owned(),
        create: None,
        policy: Policy::default(),
    };
    let pool = Rig::new(missing).closed();
    pool.try_open().await.unwrap_err();
    assert_eq!(pool.reading().await.unwrap().fault.unwrap().state, "unfit");
}

#[tokio::test]
async fn a_pool_that_is_not_well_says_what_is_wrong_with_it_in_one_word() {
    type Harm = fn(&mut fake::State);
    let harms: [(&str, Harm, bool); 6] = [
        ("missing_pv", |s| s.missing_pvs = 1, true),
        ("read_only", |s| s.read_only = true, true),
        ("read_only", |s| s.mode = "ro", false),
        ("needs_check", |s| s.needs_check = true, false),
        ("out_of_data", |s| s.mode = "out_of_data_space", false),
        (
            "inactive",
            |s| s.lvs.get_mut("pool").unwrap().active = false,
            false,
        ),
    ];
    for (state, harm, linear_too) in harms {
        for kind in [thin(), linear()] {
            if kind == linear() && !linear_too {
                continue;
            }
            let rig = Rig::new(kind);
            let pool = rig.open().await;
            assert_eq!(pool.reading().await.unwrap().fault, None);
            harm(&mut rig.lvm.state.lock().unwrap());
            let fault = pool.reading().await.unwrap().fault.unwrap();
            assert_eq!(fault.state, state);
            assert!(fault.sentence.contains(':'), "what to do: {}", fault.sentence);
        }
    }
}

#[tokio::test]
async fn no_room_is_told_before_anything_is_made() {
    let rig = Rig::new(linear());
    let (pool, volume) = (rig.open().await, rig.volume());
    pool.create(&volume).await.unwrap();
    let huge = Slice {
        size_bytes: 8192 * MIB,
        ..rig.volume()
    };
    assert!(matches!(pool.create(&huge).await, Err(PoolError::NoSpace { .. })));
    let grown = Slice {
        size_bytes: 8192 * MIB,
        ..volume.clone()
    };
    let error = pool.grow(&grown, SIZE, ZeroEnd::Never).await;
    assert!(matches!(error, Err(PoolError::NoSpace { .. })));
    assert_eq!(
        (rig.lv(&volume).size, pool.list().await.unwrap().len()),
        (SIZE, 1)
    );
}
