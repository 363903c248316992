use super::*;

fn guest(wish: &Wish<'_>) -> Value {
    let mut guest = Map::new();
    wish.apply(&mut guest).unwrap();
    Value::Object(guest)
}

#[test]
fn a_preset_sets_all_and_single_options_win_over_it() {
    let wish = Wish {
        size: Some("shared-cpu-2x"),
        ..Wish::default()
    };
    assert_eq!(
        guest(&wish),
        json!({"cpu_kind": "shared", "cpus": 2, "memory_mb": 512})
    );
    let wish = Wish {
        size: Some("performance-2x"),
        memory: Some("8gb"),
        cpus: Some(4),
        ..Wish::default()
    };
    assert_eq!(
        guest(&wish),
        json!({"cpu_kind": "performance", "cpus": 4, "memory_mb": 8192})
    );
    assert_eq!(guest(&Wish::default()), json!({}));
}

#[test]
fn sizes_that_do_not_exist_are_refused() {
    for name in ["shared-cpu-3x", "performance-0x", "shared-cpu-x", "big"] {
        let wish = Wish {
            size: Some(name),
            ..Wish::default()
        };
        assert!(wish.apply(&mut Map::new()).is_err(), "{name}");
    }
}

#[test]
fn a_guest_is_described_as_fly_does() {
    assert_eq!(
        describe(&json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": 256})),
        "shared-cpu-1x:256MB"
    );
    assert_eq!(
        describe(&json!({"cpu_kind": "performance", "cpus": 2, "memory_mb": 4096})),
        "performance-2x:4096MB"
    );
}
