use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const EXTENT: u64 = 4 * MIB;
const CHUNK: u64 = 64 << 10;

fn policy() -> Policy {
    Policy {
        headroom_bytes: 256 * MIB,
        ..Policy::default()
    }
}

fn view(used_mib: u64, total_mib: u64, vg_free_mib: u64) -> View {
    View {
        status: Some(PoolStatus {
            transaction_id: 1,
            metadata_used: 10,
            metadata_total: 1024,
            data_used: used_mib * MIB / CHUNK,
            data_total: total_mib * MIB / CHUNK,
            snapshot_held: false,
            mode: Mode::ReadWrite,
            needs_check: false,
        }),
        chunk_bytes: CHUNK,
        vg_free_bytes: vg_free_mib * MIB,
        extent_bytes: EXTENT,
        missing_pvs: 0,
        reserve_bytes: 0,
    }
}

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn actions(planner: &mut Planner, now: Instant, view: &View) -> Vec<Action> {
    let mut out = Vec::new();
    planner.handle(now, view, &mut out);
    out
}

#[test]
fn data_grows_at_its_threshold_and_not_before() {
    let mut planner = Planner::new(policy());
    let now = start();
    assert_eq!(actions(&mut planner, now, &view(690, 1000, 8000)), []);
    let grown = actions(&mut planner, now, &view(700, 1000, 8000));
    assert_eq!(grown, [Action::ExtendData { to_bytes: 1256 * MIB }]);
}

#[test]
fn data_grows_when_little_is_free_or_soon_nothing() {
    let mut planner = Planner::new(policy());
    let now = start();
    // Half empty, but less than the headroom is free.
    let grown = actions(&mut planner, now, &view(250, 500, 8000));
    assert_eq!(grown, [Action::ExtendData { to_bytes: 756 * MIB }]);
    let mut planner = Planner::new(policy());
    assert_eq!(actions(&mut planner, now, &view(1_000, 100_000, 900_000)), []);
    // Ten seconds say nothing of the hours to come.
    let soon = now + Duration::from_secs(10);
    assert_eq!(actions(&mut planner, soon, &view(2_000, 100_000, 900_000)), []);
    // 1 GB in a minute: full in less than two hours.
    let later = now + Duration::from_secs(60);
    let grown = actions(&mut planner, later, &view(2_000, 100_000, 900_000));
    assert_eq!(
        grown,
        [Action::ExtendData {
            to_bytes: 125_000 * MIB
        }]
    );
}

#[test]
fn metadata_grows_before_data_and_leaves_room_for_its_spare() {
    let mut low = view(700, 1000, 100);
    low.status.as_mut().unwrap().metadata_used = 700;
    let grown = actions(&mut Planner::new(policy()), start(), &low);
    assert_eq!(grown[0], Action::ExtendMetadata { by_bytes: EXTENT });
    assert!(matches!(grown[1], Action::ExtendData { .. }));
    let mut tight = low;
    tight.vg_free_bytes = EXTENT;
    let grown = actions(&mut Planner::new(policy()), start(), &tight);
    assert_eq!(grown, [], "one extent is not enough for both");
}

#[test]
fn a_damaged_pool_is_never_grown_and_says_what_is_wrong() {
    type Change = fn(&mut View);
    for (change, state) in [
        (
            (|v| v.status.as_mut().unwrap().needs_check = true) as Change,
            "needs_check",
        ),
        (|v| v.status.as_mut().unwrap().mode = Mode::ReadOnly, "read_only"),
        (|v| v.status.as_mut().unwrap().mode = Mode::Failed, "needs_check"),
        (|v| v.missing_pvs = 1, "missing_pv"),
        (|v| v.status = None, "inactive"),
    ] {
        let mut broken = view(900, 1000, 8000);
        change(&mut broken);
        assert_eq!(
            actions(&mut Planner::new(policy()), start(), &broken),
            [],
            "{state}"
        );
        let fault = broken.reading(&policy()).fault.expect("a fault");
        assert_eq!(fault.state, state);
    }
    // A pool out of data is wrong too, and growing is what cures it.
    let mut full = view(1000, 1000, 8000);
    full.status.as_mut().unwrap().mode = Mode::OutOfData;
    assert_eq!(full.reading(&policy()).fault.unwrap().state, "out_of_data");
    assert!(matches!(
        actions(&mut Planner::new(policy()), start(), &full)[0],
        Action::ExtendData { .. }
    ));
}

#[test]
fn what_a_pool_could_grow_to_is_its_room() {
    let reading = view(500, 1000, 800).reading(&policy());
    let [data, metadata] = &reading.gauges[..] else {
        panic!("two gauges: {reading:?}")
    };
    // Twice the metadata's 4 MiB stay free for it and its spare.
    assert_eq!((data.used_bytes, data.room_bytes), (500 * MIB, 1792 * MIB));
    assert_eq!((metadata.used_bytes, metadata.room_bytes), (40 << 10, 404 * MIB));
    assert_eq!(reading.fault, None);
}

#[test]
fn captures_go_before_volumes_want_for_room() {
    let mut planner = Planner::new(policy());
    let now = start();
    assert_eq!(actions(&mut planner, now, &view(790, 1000, 0)), []);
    assert_eq!(
        actions(&mut planner, now, &view(800, 1000, 0)),
        [Action::ShedBases]
    );
    let both = [Action::ShedBases, Action::ShedCaptures];
    assert_eq!(actions(&mut planner, now, &view(950, 1000, 0)), both);
    // A disk was added: the pool grows instead.
    let grown = actions(&mut planner, now, &view(950, 1000, 10_000));
    assert!(matches!(&grown[..], [Action::ExtendData { .. }]), "{grown:?}");
}

#[test]
fn metadata_that_cannot_grow_any_more_is_a_fault_from_80_percent_on() {
    let mut low = view(100, 1000, 0);
    low.status.as_mut().unwrap().metadata_used = 810;
    assert_eq!(low.reading(&policy()).fault, None);
    low.status.as_mut().unwrap().metadata_used = 830;
    assert_eq!(low.reading(&policy()).fault.unwrap().state, "metadata_low");
    // It will have grown before that matters.
    low.vg_free_bytes = 100 * MIB;
    assert_eq!(low.reading(&policy()).fault, None);
}

/// A pool that does what the planner says, and guests that write as fast as the headroom allows between two looks.
struct Model {
    view: View,
    now: Instant,
    /// Metadata blocks that a written chunk takes, in thousandths.
    metadata_per_chunk: u64,
    metadata_milli: u64,
}

impl Model {
    fn status(&mut self) -> &mut PoolStatus {
        self.view.status.as_mut().expect("active")
    }

    fn apply(&mut self, action: &Action) {
        let extent = self.view.extent_bytes;
        match action {
            Action::ExtendData { to_bytes } => {
                let has = self.status().data_total * CHUNK;
                assert!(*to_bytes > has, "never smaller");
                let by = to_bytes - has;
                assert!(by.is_multiple_of(extent) && by <= self.view.vg_free_bytes);
                self.view.vg_free_bytes -= by;
                self.status().data_total = to_bytes / CHUNK;
            }
            Action::ExtendMetadata { by_bytes } => {
                assert!(by_bytes.is_multiple_of(extent) && 2 * by_bytes <= self.view.vg_free_bytes);
                self.view.vg_free_bytes -= 2 * by_bytes;
                self.status().metadata_total += by_bytes / METADATA_BLOCK_BYTES;
                assert!(self.status().metadata_total * METADATA_BLOCK_BYTES <= METADATA_BYTES_MAX);
            }
            Action::ShedBases | Action::ShedCaptures => {}
        }
    }
}

proptest! {
    #[test]
    fn a_pool_never_fills_up_while_extents_are_free(
        total_extents in 100_u64..500,
        vg_extents in 0_u64..3000,
        writes_mib in prop::collection::vec(0_u64..256, 1..120),
        metadata_per_chunk in 0_u64..20,
    ) {
        let mut planner = Planner::new(policy());
        let mut model = Model {
            view: view(0, total_extents * 4, vg_extents * 4),
            now: start(),
            metadata_per_chunk,
            metadata_milli: 0,
        };
        let mut out = Vec::new();
        planner.handle(model.now, &model.view, &mut out);
        out.drain(..).for_each(|action| model.apply(&action));
        for mib in writes_mib {
            let (chunks, per_chunk) = (mib * MIB / CHUNK, model.metadata_per_chunk);
            let spare = model.view.spare_bytes(&model.view.status.unwrap());
            let status = *model.status();
            let fits = status.data_used + chunks < status.data_total;
            prop_assert!(fits || spare == 0, "full with {spare} bytes of free extents: {status:?}");
            if !fits {
                break; // nothing is left that could have been given to it
            }
            model.metadata_milli += chunks * per_chunk;
            let used = (10 + model.metadata_milli / 1000).min(status.metadata_total);
            model.status().data_used += chunks;
            model.status().metadata_used = used;
            model.now += Duration::from_secs(1);
            planner.handle(model.now, &model.view, &mut out);
            out.drain(..).for_each(|action| model.apply(&action));
            let status = *model.status();
            let full = percent(status.metadata_used, status.metadata_total) >= 80;
            let grows = model.view.metadata_room(&status) > status.metadata_total * METADATA_BLOCK_BYTES;
            let told = model.view.reading(planner.policy()).fault.is_some();
            prop_assert!(!full || grows || told, "metadata full and nobody told: {status:?}");
        }
    }

    #[test]
    fn whatever_is_seen_nothing_is_asked_that_cannot_be(
        used in 0_u64..2000, total in 1_u64..2000, free in 0_u64..4000, meta in 0_u64..1024,
        mode in prop::sample::select(vec![Mode::ReadWrite, Mode::ReadOnly, Mode::OutOfData, Mode::Failed]),
        needs_check: bool, missing in 0_u64..2,
    ) {
        let mut seen = view(used.min(total), total, free);
        let status = seen.status.as_mut().unwrap();
        (status.mode, status.needs_check, status.metadata_used) = (mode, needs_check, meta);
        seen.missing_pvs = missing;
        let mut planner = Planner::new(policy());
        for action in actions(&mut planner, start(), &seen) {
            match action {
                Action::ExtendData { to_bytes } => {
                    prop_assert!(to_bytes > total * MIB && to_bytes - total * MIB <= free * MIB);
                    prop_assert!(missing == 0 && !needs_check && grows(mode));
                }
                Action::ExtendMetadata { by_bytes } => prop_assert!(by_bytes > 0 && 2 * by_bytes <= free * MIB),
                Action::ShedBases | Action::ShedCaptures => {}
            }
        }
    }
}
