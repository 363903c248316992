use super::*;

#[test]
fn a_table_has_upper_case_headings_bars_and_a_blank_line_at_its_end() {
    let rows = vec![
        vec!["vol_1".to_owned(), "data".to_owned()],
        vec!["v".to_owned(), String::new()],
    ];
    assert_eq!(
        render(&["id", "name"], &rows),
        " ID    │ NAME\n vol_1 │ data\n v     │\n\n"
    );
}

#[test]
fn a_block_aligns_labels_to_twenty_characters() {
    let text = block(&[
        ("ID", "vol_1".to_owned()),
        ("Scheduled snapshots", "true".to_owned()),
    ]);
    assert_eq!(text, "                  ID: vol_1\n Scheduled snapshots: true\n");
}

#[test]
fn one_thing_is_not_several() {
    assert_eq!(counted(0, "machine"), "0 machines");
    assert_eq!(counted(1, "machine"), "1 machine");
    assert_eq!(counted(2, "machine"), "2 machines");
}
