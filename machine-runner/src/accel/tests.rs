use super::{judge, measure_tsc_khz, plausible};
use crate::config::AccelPolicy;
use crate::kvm_probe::Outcome;
use crate::vmm::spec::{Accel, Board};

#[test]
fn verdicts_follow_the_evidence_and_the_policy() {
    let fast = Outcome::Ran { micros: 60 };
    let slow = Outcome::Ran { micros: 85_000 };
    let dead = Outcome::Failed {
        reason: "x".to_owned(),
    };
    for (policy, outcome, accelerator, kvm, advised) in [
        (AccelPolicy::Auto, &fast, Accel::Kvm, "kvm-native", false),
        (AccelPolicy::Auto, &slow, Accel::Tcg, "kvm-emulated", true),
        (AccelPolicy::Auto, &dead, Accel::Tcg, "none", true),
        (
            AccelPolicy::Auto,
            &Outcome::TooSlow,
            Accel::Tcg,
            "kvm-emulated",
            true,
        ),
        (AccelPolicy::Tcg, &fast, Accel::Tcg, "kvm-native", true),
        (AccelPolicy::Kvm, &slow, Accel::Kvm, "kvm-emulated", true),
    ] {
        let verdict = judge(policy, outcome, Some(2_000_000), true);
        assert_eq!(
            (verdict.accelerator, verdict.kvm.as_str()),
            (accelerator, kvm),
            "{policy:?} {outcome:?}"
        );
        assert_eq!(verdict.advice.is_some(), advised);
    }
}

#[test]
fn without_the_counters_rate_emulated_guests_get_the_bigger_board() {
    let dead = Outcome::Failed {
        reason: "x".to_owned(),
    };
    assert_eq!(judge(AccelPolicy::Auto, &dead, None, true).board, Board::Q35);
    assert_eq!(
        judge(AccelPolicy::Auto, &dead, Some(2_000_000), true).board,
        Board::Microvm
    );
}

#[tokio::test]
async fn the_measured_rate_is_one_that_hardware_has() {
    let khz = measure_tsc_khz().await.unwrap();
    assert_eq!(plausible(khz), Some(khz));
    assert_eq!(plausible(5), None);
}
