use super::{OpenQuote, split};

#[test]
fn a_line_is_split_as_a_shell_splits_it() {
    for (line, expected) in [
        ("", &[] as &[&str]),
        ("  app  -x 1 ", &["app", "-x", "1"]),
        ("sh -c 'a b \"c\"'", &["sh", "-c", "a b \"c\""]),
        (r#"a"b c"d e\ f "\"" """#, &["ab cd", "e f", "\"", ""]),
    ] {
        assert_eq!(split(line).expect("words"), expected, "{line}");
    }
    for line in ["a 'b", "a \"b", "a\\"] {
        assert_eq!(split(line), Err(OpenQuote), "{line}");
    }
}
