use serde_json::json;

use super::*;

#[test]
fn a_pool_without_reflink_that_cannot_promise_a_copy_of_its_largest_volume_is_warned_about() {
    let pool = |reflink: bool, promisable_gb: u64| {
        json!({"name": "default", "reflink": reflink, "promisable_bytes": promisable_gb << 30,
            "promised_bytes": 8_u64 << 30, "largest_volume_bytes": 3_u64 << 30})
    };
    let short = snapshot_room(Some(&[pool(false, 10)]));
    assert_eq!(short.verdict, Verdict::Warning);
    assert!(short.found.contains("pool default"), "{short:?}");
    assert!(short.follows.contains("scheduled ones too"), "{short:?}");
    assert!(short.remedy.contains("--purge"), "{short:?}");
    assert_eq!(snapshot_room(Some(&[pool(false, 11)])).verdict, Verdict::Ok);
    assert_eq!(snapshot_room(Some(&[pool(true, 8)])).verdict, Verdict::Ok);
    assert_eq!(snapshot_room(None).verdict, Verdict::Note);
}

#[test]
fn a_pool_that_refuses_work_is_named_with_its_reason() {
    let pool = |state: &str| json!({"name": "fast", "state": state, "reason": "its data is 91 % full", "unknown_slices": []});
    assert_eq!(states(Some(&[pool("ok")])).verdict, Verdict::Ok);
    let full = states(Some(&[pool("ok"), pool("full")]));
    assert_eq!(full.verdict, Verdict::Warning);
    assert!(
        full.found.contains("fast is full: its data is 91 % full"),
        "{full:?}"
    );
    assert_eq!(states(None).verdict, Verdict::Note);
}

#[test]
fn slices_that_nobody_knows_are_listed_with_why() {
    let pool = |slices: Value| json!({"name": "fast", "state": "ok", "unknown_slices": slices});
    assert_eq!(unknown_slices(Some(&[pool(json!([]))])).verdict, Verdict::Ok);
    let slice = json!({"slice": "v-vol_1", "reason": "no snapshot says whose it is"});
    let found = unknown_slices(Some(&[pool(json!([])), pool(json!([slice]))]));
    assert_eq!(found.verdict, Verdict::Warning);
    assert!(
        found.found.contains("1 slice of no known") && found.found.contains("fast/v-vol_1: no snapshot says"),
        "{found:?}"
    );
    assert_eq!(unknown_slices(None).verdict, Verdict::Note);
}

#[test]
fn what_an_inspection_found_is_told_volume_by_volume_and_snapshot_by_snapshot() {
    let clean = json!({"without_slice": [], "without_pool": [], "damaged_snapshots": [], "not_mounted": [], "foreign_files": []});
    let ill = json!({
        "without_slice": [{"volume_id": "vol_1", "pool": "fast"}],
        "without_pool": [{"volume_id": "vol_2", "pool": "gone"}],
        "damaged_snapshots": [{"snapshot_id": "vs_1", "volume_id": "vol_1", "damage": "object backup/x: missing"}],
        "not_mounted": [{"volume_id": "vol_3", "host_path": "/srv/x", "why": "nothing is mounted there"}],
        "foreign_files": [{"pool": "fast", "name": "notes.txt"}],
    });
    type Check = fn(Option<&Value>) -> Finding;
    let checks: [(Check, Verdict, &[&str]); 4] = [
        (
            mounts,
            Verdict::Warning,
            &["vol_3 is not on /srv/x: nothing is mounted there"],
        ),
        (
            |found| volumes(found, None),
            Verdict::Warning,
            &[
                "vol_1 has no slice in pool fast",
                "vol_2 is of pool gone, which is not configured",
            ],
        ),
        (
            snapshots,
            Verdict::Warning,
            &["1 snapshot damaged: vs_1 of vol_1: object backup/x: missing"],
        ),
        (
            |found| foreign_files(found, None),
            Verdict::Note,
            &["fast/notes.txt"],
        ),
    ];
    for (check, verdict, said) in checks {
        assert_eq!(check(None).found, UNKNOWN);
        assert_eq!(check(Some(&clean)).verdict, Verdict::Ok);
        let finding = check(Some(&ill));
        assert_eq!(finding.verdict, verdict);
        for words in said {
            assert!(finding.found.contains(words), "{finding:?}");
        }
    }
}

#[test]
fn nothing_is_said_to_be_in_order_in_a_pool_that_is_missing() {
    let clean = json!({"without_slice": [], "foreign_files": []});
    let pools = ["ok", "missing"].map(|state| json!({"name": state, "state": state, "unknown_slices": []}));
    let judged = |pools: &[Value]| {
        [
            volumes(Some(&clean), Some(pools)),
            foreign_files(Some(&clean), Some(pools)),
            unknown_slices(Some(pools)),
        ]
    };
    for finding in judged(&pools) {
        assert_eq!(finding.verdict, Verdict::Note);
        assert!(finding.found.ends_with(": pool missing"), "{finding:?}");
    }
    for finding in judged(&pools[..1]) {
        assert_eq!(finding.verdict, Verdict::Ok);
    }
}
