use super::*;

#[test]
fn a_volume_is_shown_as_fly_shows_it() {
    let volume = json!({"id": "vol_1", "name": "data", "region": "local", "zone": "0a01", "size_gb": 3, "encrypted": true,
        "created_at": "2026-01-31T12:34:56Z", "snapshot_retention": 5, "auto_backup_enabled": true});
    let expected = "                  ID: vol_1
                Name: data
                 App: a1
              Region: local
                Zone: 0a01
             Size GB: 3
           Encrypted: true
          Created at: 31 Jan 26 12:34 UTC
  Snapshot retention: 5
 Scheduled snapshots: true
";
    assert_eq!(block("a1", &volume), expected);
}

#[test]
fn a_volume_shows_when_a_backup_of_it_was_proved() {
    let shown =
        proof(&json!({"last_verified_restore": "2026-01-31T12:34:56Z", "snapshot_retention_weekly": 4}));
    assert!(
        shown.contains("Last verified restore: 31 Jan 26 12:34 UTC"),
        "{shown}"
    );
    assert!(shown.contains("0 hours, 0 days, 4 weeks"), "{shown}");
    assert!(proof(&json!({"last_verified_restore": null})).contains("Last verified restore: never"));
}
