use serde_json::json;

use super::*;

fn read(text: &str) -> Result<Value, String> {
    serde_json::from_str::<Unambiguous>(text)
        .map(|Unambiguous(value)| value)
        .map_err(|error| error.to_string())
}

#[test]
fn a_field_that_is_given_twice_is_refused_at_any_depth() {
    for text in [
        r#"{"size_gb": 1, "size_gb": 2}"#,
        r#"{"config": {"mounts": [{"path": "/a", "path": "/b"}]}}"#,
        r#"[{"a": null, "\u0061": 1}]"#,
    ] {
        assert!(read(text).unwrap_err().contains("is given twice"), "{text}");
    }
}

#[test]
fn any_other_json_is_read_as_it_is() {
    let value =
        json!({"a": [null, true, -1, 18_446_744_073_709_551_615_u64, 1.5, "x\n"], "b": {"a": {}, "c": []}});
    assert_eq!(read(&value.to_string()).unwrap(), value);
    assert!(read("{\"a\": 1} x").is_err());
    assert!(read("{\"a\"").is_err());
}
