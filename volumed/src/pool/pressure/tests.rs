use proptest::prelude::*;

use super::*;

fn reading(percents: &[u64]) -> Reading {
    let gauge = |(what, percent): (&'static str, &u64)| Gauge {
        what,
        used_bytes: percent << 20,
        room_bytes: 100 << 20,
    };
    Reading {
        gauges: ["data", "metadata"]
            .into_iter()
            .zip(percents)
            .map(gauge)
            .collect(),
        fault: None,
    }
}

fn state(before: Pressure, percents: &[u64]) -> &'static str {
    judge(&PressureRules::default(), before, &reading(percents)).state
}

#[test]
fn a_pool_warns_then_refuses() {
    for (percent, expected) in [
        (0, "ok"),
        (79, "ok"),
        (80, "filling"),
        (89, "filling"),
        (90, "full"),
        (100, "full"),
    ] {
        assert_eq!(state(Pressure::Ok, &[percent]), expected, "{percent}");
    }
}

#[test]
fn the_fullest_part_counts_and_is_named() {
    let verdict = judge(&PressureRules::default(), Pressure::Ok, &reading(&[10, 95]));
    assert_eq!((verdict.pressure, verdict.state), (Pressure::Full, "full"));
    assert!(verdict.reason.unwrap().starts_with("its metadata is 95 % full"));
    assert!(verdict.pressure.refuses() && !Pressure::Filling.refuses());
}

#[test]
fn a_level_is_left_a_little_below_where_it_was_entered() {
    assert_eq!(state(Pressure::Full, &[88]), "full");
    assert_eq!(state(Pressure::Full, &[87]), "filling");
    assert_eq!(state(Pressure::Filling, &[78]), "filling");
    assert_eq!(state(Pressure::Filling, &[77]), "ok");
    assert_eq!(state(Pressure::Filling, &[89]), "filling");
    assert_eq!(state(Pressure::Faulty, &[78]), "ok");
}

#[test]
fn a_pool_without_any_room_is_full() {
    let none = Reading {
        gauges: vec![Gauge {
            what: "data",
            used_bytes: 0,
            room_bytes: 0,
        }],
        fault: None,
    };
    assert_eq!(
        judge(&PressureRules::default(), Pressure::Ok, &none).state,
        "full"
    );
}

#[test]
fn a_fault_refuses_whatever_room_there_is() {
    let fault = Fault {
        state: "needs_check",
        sentence: "run thin_check".to_owned(),
    };
    let faulty = Reading {
        fault: Some(fault),
        ..reading(&[1])
    };
    let verdict = judge(&PressureRules::default(), Pressure::Ok, &faulty);
    assert_eq!(
        (verdict.pressure, verdict.state),
        (Pressure::Faulty, "needs_check")
    );
    assert_eq!(verdict.reason.as_deref(), Some("run thin_check"));
}

#[test]
fn rules_leave_room_between_warning_and_refusal() {
    assert!(PressureRules::new(50, 51).is_some());
    for (warn, refuse) in [(0, 90), (90, 90), (91, 90), (90, 101)] {
        assert!(PressureRules::new(warn, refuse).is_none(), "{warn} {refuse}");
    }
}

proptest! {
    #[test]
    fn prop_fuller_is_never_judged_better(used in 0_u64..120, more in 0_u64..120, before in 0_usize..3) {
        let before = [Pressure::Ok, Pressure::Filling, Pressure::Full][before];
        let judge = |percent| judge(&PressureRules::default(), before, &reading(&[percent])).pressure;
        prop_assert!(judge(used) <= judge(used + more));
    }
}
