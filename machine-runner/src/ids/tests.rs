use super::{MachineId, ulid};

#[test]
fn only_fourteen_lower_case_hex_digits_are_a_machine_id() {
    for (text, good) in [
        ("d4a192e0dbda1e", true),
        ("d4a192e0dbda1", false),
        ("d4a192e0dbda1ee", false),
        ("D4a192e0dbda1e", false),
        ("../../etc/pass", false),
        ("", false),
    ] {
        assert_eq!(MachineId::parse(text).is_some(), good, "{text}");
    }
}

#[test]
fn ulids_sort_by_time_and_have_26_characters() {
    let early = ulid(jiff::Timestamp::from_millisecond(1_000).unwrap(), [255; 10]);
    let late = ulid(jiff::Timestamp::from_millisecond(1_001).unwrap(), [0; 10]);
    assert_eq!(early.len(), 26);
    assert!(early < late);
}
