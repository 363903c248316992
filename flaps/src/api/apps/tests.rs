use super::*;
use crate::store::Organization;

fn status_of(states: &[&str], deleting: bool) -> String {
    let row = AppRow {
        id: 1,
        name: "a1".to_owned(),
        organization: Organization {
            id: 1,
            slug: "personal".to_owned(),
            name: "personal".to_owned(),
        },
        network: network::DEFAULT.to_owned(),
        app_role: String::new(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting,
        secrets_version: 0,
    };
    let machine_states = Some(states.iter().map(|&state| state.to_owned()).collect());
    app_json(
        &row,
        Counts {
            machine_states,
            volumes: None,
        },
    )["status"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn an_app_is_what_its_machines_are() {
    assert_eq!(status_of(&[], false), "pending");
    assert_eq!(status_of(&["stopped", "started"], false), "deployed");
    assert_eq!(status_of(&["stopped", "suspended"], false), "suspended");
    assert_eq!(status_of(&["started"], true), "pending");
}
