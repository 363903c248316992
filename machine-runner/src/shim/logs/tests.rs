use proptest::prelude::*;

use super::{FILE_BYTES_MAX, FILES_MAX, Lines, LogLine, MESSAGE_BYTES_MAX, Writer, file};

#[test]
fn lines_are_cut_at_line_ends_wherever_the_pieces_end() {
    let mut lines = Lines::default();
    assert!(lines.push(b"he").is_empty());
    assert_eq!(lines.push(b"llo\r\n\nwor"), ["hello", ""]);
    assert_eq!(lines.finish(), ["wor"]);
    assert!(lines.finish().is_empty());
}

#[test]
fn a_line_without_end_is_cut_at_the_limit() {
    let mut lines = Lines::default();
    let out = lines.push(&vec![b'a'; MESSAGE_BYTES_MAX * 2 + 5]);
    assert_eq!(
        out.iter().map(String::len).collect::<Vec<_>>(),
        [MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, 5]
    );
}

#[test]
fn full_files_are_put_away_and_the_oldest_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path()).unwrap();
    let message = "x".repeat(MESSAGE_BYTES_MAX);
    let line = LogLine {
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        stream: "stdout".to_owned(),
        message,
    };
    let lines = usize::try_from(FILE_BYTES_MAX).unwrap() / MESSAGE_BYTES_MAX * 6;
    for _ in 0..lines {
        writer.append(&line).unwrap();
    }
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, FILES_MAX as usize);
    for age in 0..FILES_MAX {
        assert!(std::fs::metadata(file(dir.path(), age)).unwrap().len() <= FILE_BYTES_MAX);
    }
}

proptest! {
    #[test]
    fn prop_how_the_bytes_arrive_does_not_change_the_lines(text in "[a\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..6)) {
        let mut whole = Lines::default();
        let mut expected = whole.push(text.as_bytes());
        expected.extend(whole.finish());
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let mut pieces = Lines::default();
        let (mut found, mut from) = (Vec::new(), 0);
        for cut in cuts {
            found.extend(pieces.push(&text.as_bytes()[from..cut]));
            from = cut;
        }
        found.extend(pieces.finish());
        prop_assert_eq!(found, expected);
    }
}
