use super::*;

#[test]
fn durations_are_read_with_and_without_units() {
    for (text, seconds) in [("20s", 20), ("5m", 300), ("1h", 3600), ("90", 90)] {
        assert_eq!(duration(text).unwrap().as_secs(), seconds);
    }
    for text in ["", "s", "-1s", "1d", "99999999999h", "1.5s"] {
        assert!(duration(text).is_err(), "{text:?}");
    }
}
