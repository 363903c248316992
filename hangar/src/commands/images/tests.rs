use super::*;

#[test]
fn lines_come_whole_however_they_were_cut() {
    let mut pending = Vec::new();
    let mut seen = Vec::new();
    for (piece, ended) in [
        ("{\"a\":", false),
        ("1}\n{\"b\"", false),
        (":2}", false),
        ("", true),
    ] {
        pending.extend_from_slice(piece.as_bytes());
        while let Some(line) = next_line(&mut pending, ended) {
            seen.push(serde_json::from_slice::<Value>(&line).unwrap());
        }
    }
    assert_eq!(seen, [json!({"a": 1}), json!({"b": 2})]);
}

#[test]
fn an_image_is_one_row() {
    let image = json!({"names": ["demo:latest"], "digest": format!("sha256:{}", "a".repeat(64)), "size_bytes": 1_048_576, "created": "1970-01-01T00:00:00Z"});
    let now = jiff::Timestamp::from_second(60).unwrap();
    assert_eq!(
        row(&image, now),
        ["demo:latest", "sha256:aaaaaaaaaaaa", "1.00 MiB", "1 minute ago"]
    );
}

#[test]
fn a_path_that_is_not_there_is_not_taken_for_a_reference() {
    for path in [
        "./nope",
        "../nope",
        "/nope",
        "~/nope",
        "nope.tar",
        "nope.tar.gz",
        "nope.tgz",
    ] {
        assert!(looks_like_path(path), "{path}");
    }
    for reference in ["web:1", "docker.io/library/nginx", "localhost:5000/a/b@sha256:00"] {
        assert!(!looks_like_path(reference), "{reference}");
    }
}
