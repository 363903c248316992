use super::*;

#[test]
fn only_ids_of_the_right_shape_reach_an_upstream_path() {
    assert!(is_volume("vol_9vw681egy1jj5xm4"));
    assert!(is_machine("d4a192e0dbda1e"));
    assert!(is_snapshot("vs_4LNvXLLK0P6tk6KgqoexaBw"));
    for bad in [
        "",
        "..",
        "vol_",
        "vol_../x",
        "vol_A",
        "vs_",
        "vs_a/b",
        "a/b",
        "a?b",
        "ab\u{e4}",
        &"a".repeat(64),
    ] {
        assert!(
            !is_volume(bad) && !is_snapshot(bad) && !is_machine(bad),
            "{bad:?}"
        );
    }
}

#[test]
fn a_path_segment_never_escapes_its_place() {
    assert_eq!(path_segment("a/b?c#d%"), "a%2Fb%3Fc%23d%25");
    assert_eq!(path_segment(".."), "%2E%2E");
    assert_eq!(path_segment("nginx:1.27"), "nginx%3A1.27");
}
