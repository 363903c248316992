use super::*;

#[test]
fn only_a_started_command_goes_on_after_its_reply() {
    assert!(!Reply::ExecStarted { pid: 9 }.is_final());
    assert!(Reply::Done.is_final());
    assert!(
        Reply::ExecExit(ExecExit {
            code: Some(0),
            signal: None,
            timed_out: false
        })
        .is_final()
    );
}

#[test]
fn messages_read_as_documented() {
    let usage: Request = serde_json::from_str(r#""usage""#).unwrap();
    assert_eq!(usage, Request::Usage);
    let exec: Request = serde_json::from_str(r#"{"exec":{"command":["true"],"later":1}}"#).unwrap();
    assert_eq!(
        exec,
        Request::Exec(Exec {
            command: vec!["true".to_owned()],
            ..Exec::default()
        })
    );
}
