use serde_json::json;

use super::Body;

#[test]
fn bodies_are_read_as_documented() {
    for (body, expected) in [
        (json!({"cmd": "sh -c 'ls /'"}), Ok(vec!["sh", "-c", "ls /"])),
        (json!({"command": ["ls"]}), Ok(vec!["ls"])),
        (json!({}), Err(400)),
        (json!({"cmd": " "}), Err(400)),
        (json!({"cmd": "a", "command": ["b"]}), Err(400)),
        (json!({"cmd": "a 'b"}), Err(400)),
        (json!({"cmd": "a", "timeout": -1.0}), Err(400)),
        (json!({"cmd": "a", "timeout": 1e9}), Err(400)),
        (json!({"cmd": "a", "container": "web"}), Err(422)),
    ] {
        let body: Body = serde_json::from_value(body.clone()).unwrap();
        let read = body
            .read()
            .map(|request| request.command)
            .map_err(|error| error.status.as_u16());
        assert_eq!(
            read,
            expected.map(|words| words.into_iter().map(str::to_owned).collect())
        );
    }
}
