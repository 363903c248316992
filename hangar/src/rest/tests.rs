use super::*;

#[test]
fn anything_becomes_one_path_segment() {
    assert_eq!(escaped("ghcr.io/a/b:1 ä"), "ghcr.io%2Fa%2Fb%3A1%20%C3%A4");
}
