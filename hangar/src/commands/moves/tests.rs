use serde_json::json;

use super::*;

#[test]
fn a_drain_that_is_over_says_how_to_have_the_volume_back() {
    let said = drained("vol_1", &json!({"volume": {}, "waits_for": null}));
    assert!(
        said.contains("is drained") && said.contains("claim vol_1"),
        "{said}"
    );
}

#[test]
fn a_drain_that_waits_says_for_what_and_how_to_stop_it() {
    let said = drained(
        "vol_1",
        &json!({"volume": {}, "waits_for": "object store: no answer"}),
    );
    assert!(
        said.contains("object store: no answer") && said.contains("--give-up vol_1"),
        "{said}"
    );
}
