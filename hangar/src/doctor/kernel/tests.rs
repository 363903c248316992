use super::*;

#[test]
fn the_kernel_is_asked_and_answers() {
    // Whatever it says, the verdict must not be one that stops a node: all of these have a substitute.
    for finding in [device_mapper(), lvm(), fuse(), io_uring()] {
        assert_ne!(finding.verdict, Verdict::Missing, "{finding:?}");
        assert!(!finding.found.is_empty());
    }
}
