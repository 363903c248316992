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
    assert!(shown.contains("newest of 4 weeks"), "{shown}");
    let never = proof(&json!({"last_verified_restore": null, "snapshot_retention_hourly": 0}));
    assert!(never.contains("Last verified restore: never"), "{never}");
    assert!(!never.contains("Also kept"), "{never}");
}

#[test]
fn an_extend_speaks_of_a_running_machine_only_when_there_is_one() {
    let machine = |state: &str| Holder::Machine(state.to_owned());
    assert_eq!(
        grown(false, &machine("started")),
        "Your Machine got its volume size extended without needing a restart"
    );
    assert_eq!(
        grown(true, &machine("started")),
        "You will need to stop and start your Machine to increase the size of the file system"
    );
    for (holder, words) in [
        (machine("suspended"), "when it is resumed"),
        (
            machine("stopped"),
            "is stopped: its file system grows when it starts",
        ),
        (Holder::Nobody, "No Machine has the volume"),
        (Holder::Host, "on this host has grown"),
    ] {
        let sentence = grown(false, &holder);
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[test]
fn a_volume_that_is_not_ready_says_so_and_how_to_see_when_it_is() {
    let restoring = unfinished(&json!({"id": "vol_1", "state": "restoring"})).unwrap();
    assert!(restoring.contains("vol_1 is restoring"), "{restoring}");
    assert!(restoring.contains("hangar volumes show vol_1"), "{restoring}");
    assert_eq!(unfinished(&json!({"id": "vol_1", "state": "created"})), None);
}

#[test]
fn a_volume_shows_its_state_its_holder_and_when_it_will_be_gone() {
    let deleted = life(
        &json!({"type": "local", "state": "pending_destroy", "attached_machine_id": null,
        "deleted_at": "2026-01-31T12:34:56Z", "purge_after": "2026-02-01T12:34:56Z", "snapshot_blocked": null}),
    );
    let expected = "                Type: local
               State: pending_destroy
         Attached VM: nobody
          Deleted at: 31 Jan 26 12:34 UTC
       Removed after: 01 Feb 26 12:34 UTC
";
    assert_eq!(deleted, expected);
    let held = life(
        &json!({"state": "created", "attached_machine_id": "m1", "snapshot_blocked": "no room",
        "type": "bottomless", "needs_restart": true}),
    );
    assert!(held.contains("Type: bottomless"), "{held}");
    assert!(held.contains("File system: not grown yet"), "{held}");
    assert!(held.contains("Attached VM: m1"), "{held}");
    assert!(held.contains("Snapshots blocked: no room"), "{held}");
    let mounted = life(&json!({"state": "created", "attached_machine_id": "host", "host_path": "/srv/a"}));
    assert!(mounted.contains("this host, at /srv/a"), "{mounted}");
}
