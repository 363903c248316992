use super::*;

fn digest(lines: &[&str]) -> Digest {
    let trace = Trace::new();
    for line in lines {
        trace.event(format_args!("{line}"));
    }
    assert_eq!(trace.events(), lines.len() as u64);
    trace.digest()
}

#[test]
fn a_digest_tells_lines_their_order_and_their_borders_apart() {
    assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
    assert_ne!(digest(&["a", "b"]), digest(&["b", "a"]));
    assert_ne!(digest(&["ab"]), digest(&["a", "b"]));
}

#[test]
fn only_the_last_lines_are_kept() {
    let trace = Trace::new();
    for number in 0..100 {
        trace.event(format_args!("{number}"));
    }
    let tail = trace.tail();
    assert_eq!(
        (tail.len(), tail[0].as_str(), tail[59].as_str()),
        (60, "40", "99")
    );
}
