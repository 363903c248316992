use super::*;

#[test]
fn a_pattern_is_of_the_whole_path_and_only_stars_are_special() {
    for (pattern, path, expected) in [
        ("/build/*", "/build/", true),
        ("/build/*", "/build/a/b.js", true),
        ("/build/*", "/build", false),
        ("*.png", "/a/b.png", true),
        ("*.png", "/a/bpng", false),
        ("*.png", "/a.png.html", false),
        ("/a*b*c", "/abc", true),
        ("/a*b*c", "/a-b-b-c", true),
        ("/a*b*c", "/a-c-b", false),
        ("/a*a", "/a", false),
        ("*", "/anything", true),
        ("**", "", true),
        ("/exact", "/exact", true),
        ("/exact", "/exact/", false),
        ("", "/", false),
    ] {
        assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn requests_go_the_ways_that_litefs_sends_them() {
    let rules = Rules {
        passthrough: vec!["*.png".to_owned()],
        always_forward: vec!["/admin/*".to_owned()],
    };
    for (method, path, expected) in [
        (Method::GET, "/a", Way::Read),
        (Method::HEAD, "/a", Way::Read),
        (Method::OPTIONS, "/a", Way::Write),
        (Method::POST, "/a", Way::Write),
        (Method::POST, "/a.png", Way::PassThrough),
        (Method::GET, "/admin/x", Way::Write),
        (Method::GET, HEALTH, Way::Health),
        (Method::POST, HEALTH, Way::Write),
    ] {
        assert_eq!(rules.way(&method, path), expected, "{method} {path}");
    }
}
