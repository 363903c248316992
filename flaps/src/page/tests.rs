use proptest::prelude::*;
use serde_json::json;

use super::*;

fn item(id: usize) -> Value {
    let day = id % 28 + 1;
    json!({"id": format!("m{id:04}"), "updated_at": format!("2026-01-{day:02}T00:00:00Z"), "region": "local", "state": "started"})
}

proptest! {
    #[test]
    fn following_the_cursors_gives_every_item_once_and_in_order(count in 0_usize..60, limit in 1_usize..20) {
        let all: Vec<Value> = (0..count).map(item).collect();
        let mut shuffled = all.clone();
        shuffled.reverse();
        let mut request = PageRequest { limit, ..PageRequest::default() };
        let mut seen = Vec::new();
        loop {
            let page = cut(shuffled.clone(), &request);
            seen.extend(page.items);
            match page.next_cursor {
                Some(cursor) => request.after_id = read_cursor(&cursor),
                None => break,
            }
        }
        prop_assert_eq!(seen, all);
    }
}

#[test]
fn filters_keep_what_was_asked_for() {
    let mut other = item(3);
    other["state"] = json!("stopped");
    let request = PageRequest {
        limit: 10,
        states: vec!["started".to_owned()],
        updated_after: Some("2026-01-02T00:00:00Z".parse().unwrap()),
        ..PageRequest::default()
    };
    let page = cut(vec![item(0), item(1), item(2), other], &request);
    assert_eq!(page.last_id.as_deref(), Some("m0002"));
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.last_updated_at.as_deref(), Some("2026-01-03T00:00:00Z"));
}

#[test]
fn a_foreign_cursor_is_not_read() {
    assert_eq!(read_cursor("%%%"), None);
}
