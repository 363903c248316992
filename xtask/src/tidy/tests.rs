//! Each rule finds its breach, and a clean tree has none.

use super::rules::{File, check};

const PAGE: (&str, &str) = (
    "docs/guarantees.md",
    "| V-1 | a promise | its limits | `a_proof` |\n",
);

fn breaches(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> = files
        .iter()
        .map(|(path, text)| File {
            path: (*path).into(),
            bytes: text.as_bytes().to_vec(),
        })
        .collect();
    check(&files)
}

#[test]
fn a_clean_tree_has_no_breach() {
    assert_eq!(
        breaches(&[PAGE, ("a/src/x/tests.rs", "fn a_proof() {}\n")]),
        Vec::<String>::new()
    );
}

#[test]
fn a_promise_whose_test_does_not_exist_is_found() {
    let found = breaches(&[PAGE, ("a/src/x/tests.rs", "fn another() {}\n")]);
    assert_eq!(found, ["docs/guarantees.md:1: no test is called `a_proof`"]);
}

#[test]
fn a_promise_that_stands_twice_is_found() {
    let twice = PAGE.1.repeat(2);
    let found = breaches(&[(PAGE.0, &twice), ("a/src/x/tests.rs", "fn a_proof() {}\n")]);
    assert_eq!(found, ["docs/guarantees.md:2: V-1 is promised twice"]);
}

#[test]
fn a_promise_without_a_test_is_found() {
    let found = breaches(&[(
        "docs/guarantees.md",
        "| M-2 | a promise | its limits | by design |\n",
    )]);
    assert_eq!(
        found,
        ["docs/guarantees.md:1: a promise without the name of its test"]
    );
}

#[test]
fn a_clock_in_a_pure_file_is_found() {
    let text = "//! PURE: decides.\nlet now = Instant::now();\n";
    let found = breaches(&[PAGE, ("a/src/x.rs", text), ("a/tests.rs", "fn a_proof() {}")]);
    assert_eq!(
        found,
        ["a/src/x.rs:2: `Instant::now` in a PURE file; take it as an argument"]
    );
}

#[test]
fn a_long_file_a_dead_link_and_a_sleeping_test_are_found() {
    let long = "let a = 1;\n".repeat(501);
    let sleeping = concat!("fn a_proof() { std::thread::sl", "eep(d) }");
    let files = [
        PAGE,
        ("a/src/x.rs", long.as_str()),
        ("README.md", "[map](docs/none.md)"),
        ("a/tests.rs", sleeping),
    ];
    let found = breaches(&files);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().any(|breach| breach.starts_with("a/src/x.rs:501")));
    assert!(found.iter().any(|breach| breach.starts_with("README.md:1")));
    assert!(found.iter().any(|breach| breach.starts_with("a/tests.rs:1")));
}
