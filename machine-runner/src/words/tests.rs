use proptest::prelude::*;

use super::{SplitError, split};

#[test]
fn words_are_those_of_a_shell() {
    for (line, words) in [
        ("", vec![]),
        ("  ls   -l ", vec!["ls", "-l"]),
        ("sh -c 'echo \"a b\"'", vec!["sh", "-c", "echo \"a b\""]),
        (r#"echo "a \"b\" \n""#, vec!["echo", r#"a "b" \n"#]),
        (r"a\ b c", vec!["a b", "c"]),
        ("'' \"\"", vec!["", ""]),
        ("a'b'c", vec!["abc"]),
    ] {
        assert_eq!(split(line).unwrap(), words, "{line}");
    }
}

#[test]
fn open_quotes_are_named() {
    assert_eq!(split("echo 'a"), Err(SplitError::Unclosed('\'')));
    assert_eq!(split("echo \"a\\\""), Err(SplitError::Unclosed('"')));
    assert_eq!(split("echo \\"), Err(SplitError::Dangling));
}

proptest! {
    #[test]
    fn prop_single_quoted_words_come_back(words in proptest::collection::vec("[^']{0,8}", 0..6)) {
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        prop_assert_eq!(split(&line).unwrap(), words);
    }
}
