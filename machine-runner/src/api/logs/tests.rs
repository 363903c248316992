use super::tail_of;
use crate::shim::logs::{LogLine, Writer};

fn line(message: &str) -> LogLine {
    LogLine {
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        stream: "stdout".to_owned(),
        message: message.to_owned(),
    }
}

#[test]
fn the_tail_is_cut_and_followed_without_gap_across_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path()).unwrap();
    for n in 0..5 {
        writer.append(&line(&n.to_string())).unwrap();
    }
    let (text, mut follower) = tail_of(dir.path(), 2).unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("\"3\"") && text.contains("\"4\""));
    assert!(follower.look().unwrap().is_empty());
    let big = "x".repeat(16 << 10);
    let mut seen = 0;
    for n in 0..1200 {
        writer.append(&line(&big)).unwrap();
        if n % 300 == 0 {
            seen += follower
                .look()
                .unwrap()
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
        }
    }
    seen += follower
        .look()
        .unwrap()
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    assert_eq!(seen, 1200);
}

#[test]
fn a_machine_without_logs_has_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    assert!(tail_of(&dir.path().join("none"), 5).unwrap().0.is_empty());
}
