use super::*;

#[test]
fn json_is_indented_by_four_and_data_stays_apart_from_words() {
    let (mut data, mut words) = (Vec::new(), Vec::new());
    let mut output = Output::new(&mut data, &mut words, Terminal::default());
    output.json(&serde_json::json!({"a": [1]})).unwrap();
    output.say("word").unwrap();
    assert_eq!(
        String::from_utf8(data).unwrap(),
        "{\n    \"a\": [\n        1\n    ]\n}\n"
    );
    assert_eq!(String::from_utf8(words).unwrap(), "word\n");
}

#[test]
fn colour_is_for_terminals_that_did_not_decline_it() {
    let (mut data, mut words) = (Vec::new(), Vec::new());
    let terminal = Terminal {
        stdout: true,
        ..Terminal::default()
    };
    let mut output = Output::new(&mut data, &mut words, terminal);
    assert_eq!(output.bold("x"), "\u{1b}[1mx\u{1b}[0m");
    output.without_colour();
    assert_eq!(output.bold("x"), "x");
    assert_eq!(
        Output::new(&mut Vec::new(), &mut Vec::new(), Terminal::default()).bold("x"),
        "x"
    );
}

#[test]
fn a_question_nobody_can_answer_is_misuse_unless_answered_ahead() {
    let (mut data, mut words) = (Vec::new(), Vec::new());
    let mut output = Output::new(&mut data, &mut words, Terminal::default());
    output.confirm(true, "Destroy?").unwrap();
    let refused = output.confirm(false, "Destroy?").unwrap_err();
    assert!(
        refused.to_string().starts_with("yes flag must be specified"),
        "{refused}"
    );
}
