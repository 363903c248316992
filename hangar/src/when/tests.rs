use super::*;

#[test]
fn times_are_told_in_the_largest_whole_unit() {
    let now = Timestamp::from_second(1_000_000_000).unwrap();
    for (seconds, text) in [
        (0, "now"),
        (-5, "now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (86_400, "1 day ago"),
        (5_184_000, "2 months ago"),
        (63_072_000, "2 years ago"),
    ] {
        let then = Timestamp::from_second(1_000_000_000 - seconds).unwrap();
        assert_eq!(ago(then, now), text);
    }
}

#[test]
fn dates_are_those_of_fly_and_odd_texts_stay() {
    assert_eq!(date_text("2026-01-31T12:34:56Z"), "31 Jan 26 12:34 UTC");
    assert_eq!(date_text("soon"), "soon");
    assert_eq!(ago_text("", Timestamp::UNIX_EPOCH), "");
}
