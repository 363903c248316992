use super::*;

#[test]
fn sizes_are_read_with_and_without_units() {
    for text in ["3", "3gb", "3GB", "3 GiB", " 3g "] {
        assert_eq!(parse_gb(text), Some(3), "{text:?}");
    }
    for text in ["", "gb", "3mb", "-3", "1.5", "+3"] {
        assert_eq!(parse_gb(text), None, "{text:?}");
    }
    assert_eq!(parse_new("+1gb"), Some(NewSize::By(1)));
    assert_eq!(parse_new("8gb"), Some(NewSize::To(8)));
    assert_eq!(parse_new("++1"), None);
    assert_eq!(
        (parse_mb("512"), parse_mb("512mb"), parse_mb("2gb"), parse_mb("x")),
        (Some(512), Some(512), Some(2048), None)
    );
}
