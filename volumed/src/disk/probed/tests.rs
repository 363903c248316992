#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_finding_holds_for_a_day_and_for_its_store() {
    let store = |bucket: &str| Wanted::of(&S3Config::new("http://127.0.0.1:1", bucket, "a", "b"));
    let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("probed.json");
    Probed::new(store("one"), at).save(&file).unwrap();
    let probed = Probed::load(&file).unwrap();
    assert!(probed.holds(&store("one"), "2026-01-01T23:59:59Z".parse().unwrap()));
    assert!(!probed.holds(&store("two"), at));
    assert!(!probed.holds(&store("one"), "2026-01-02T00:00:00Z".parse().unwrap()));
    assert!(!probed.holds(&store("one"), "2025-12-31T23:59:59Z".parse().unwrap()));
    std::fs::File::create(&file).unwrap();
    assert_eq!(Probed::load(&file), None);
}
