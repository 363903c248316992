use super::*;

#[test]
fn only_lower_case_letters_digits_and_inner_dashes_make_a_name() {
    for good in ["a", "0", "my-app-2", &"a".repeat(MAX_BYTES)] {
        assert!(is_valid(good), "{good:?}");
    }
    for bad in [
        "",
        "-a",
        "My-App",
        "a_b",
        "a b",
        "a.b",
        "ä",
        "a/b",
        "..",
        &"a".repeat(MAX_BYTES + 1),
    ] {
        assert!(!is_valid(bad), "{bad:?}");
    }
}
