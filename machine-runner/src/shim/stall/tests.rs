use serde_json::json;

use super::*;

#[test]
fn only_a_stop_for_want_of_room_is_outlasted() {
    let event = |data| QmpEvent {
        event: "BLOCK_IO_ERROR".to_owned(),
        data,
    };
    let full = event(json!({"node-name": "overlay", "nospace": true, "action": "stop"}));
    assert_eq!(no_room(&full, &[]).as_deref(), Some("its overlay disk"));
    let broken = event(json!({"node-name": "overlay", "nospace": false, "action": "stop"}));
    assert_eq!(no_room(&broken, &[]), None);
    let told = event(json!({"node-name": "v0", "nospace": true, "action": "report"}));
    assert_eq!(no_room(&told, &[]), None);
    let other = QmpEvent {
        event: "STOP".to_owned(),
        ..full
    };
    assert_eq!(no_room(&other, &[]), None);
}
