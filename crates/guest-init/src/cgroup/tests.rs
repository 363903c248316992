use super::*;

#[test]
fn a_count_is_read_by_its_whole_name() {
    let text = "low 0\noom 3\noom_kill 1\noom_group_kill 7\n";
    assert_eq!(read_count(text, "oom_kill"), 1);
    assert_eq!(read_count(text, "oom"), 3);
    assert_eq!(read_count(text, "populated"), 0);
}
