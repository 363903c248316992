use std::collections::BTreeMap;

use serde_json::json;

#[test]
fn null_and_empty_remove_a_key_and_others_stay() {
    let present = json!({"a": "1", "b": "2", "c": "3"}).as_object().unwrap().clone();
    let changes = BTreeMap::from([
        ("a".to_owned(), None),
        ("b".to_owned(), Some(String::new())),
        ("d".to_owned(), Some("4".to_owned())),
    ]);
    assert_eq!(
        json!(super::merge(present, changes).unwrap()),
        json!({"c": "3", "d": "4"})
    );
}
