use serde_json::json;

use super::*;

#[test]
fn a_key_that_was_never_exported_is_nagged_about() {
    assert_eq!(
        key(Some(&json!({"key_exported": false}))).verdict,
        Verdict::Warning
    );
    assert_eq!(key(Some(&json!({"key_exported": true}))).verdict, Verdict::Ok);
    assert_eq!(key(None).verdict, Verdict::Note);
}

#[test]
fn several_zones_on_one_host_are_called_virtual() {
    let node: NodeConfig = toml::from_str("zones = [\"0a01\", \"0a02\"]").unwrap();
    assert!(zones(Some(&node)).found.contains("virtual"));
    let one: NodeConfig = toml::from_str("zones = [\"0a01\"]").unwrap();
    assert_eq!(zones(Some(&one)).verdict, Verdict::Ok);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_said_to_be_so() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    assert_eq!(probe(&layout, None).await.verdict, Verdict::Note);
    let text = "zones = []\n[s3]\nendpoint = \"http://127.0.0.1:1\"\nbucket = \"b\"\naccess_key_id = \"a\"\nsecret_access_key = \"s\"";
    let node: NodeConfig = toml::from_str(text).unwrap();
    assert_eq!(probe(&layout, Some(&node)).await.verdict, Verdict::Missing);
}

#[test]
fn a_bucket_of_another_cluster_key_is_named_with_what_to_do() {
    let health = json!({"key_exported": true, "other_keys": {"ck-1": 2, "ck-2": 1}});
    let finding = key(Some(&health));
    assert_eq!(finding.verdict, Verdict::Warning);
    assert!(
        finding
            .found
            .contains("3 snapshots sealed under another cluster key (ck-1, ck-2)"),
        "{finding:?}"
    );
    assert!(finding.remedy.contains("hangar key import"), "{finding:?}");
}
