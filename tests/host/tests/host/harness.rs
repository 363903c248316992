//! The harness itself: what fails must be seen to fail.

use host_tests::{Body, Case, End, Guest};

pub(crate) const CASES: [Case; 2] = [
    Case {
        name: "harness::a_failure_is_reported_with_its_commands",
        body: Body::Shared(a_failure_is_reported_with_its_commands),
        end: End::Fails(&[
            "`echo told; exit 3` ended with Some(3)",
            "$ echo before\nbefore\n→ 0",
            "--- kernel",
        ]),
    },
    Case {
        name: "harness::a_dead_guest_is_reported_with_its_console",
        body: Body::Alone(a_dead_guest_is_reported_with_its_console),
        end: End::Fails(&["the guest died while it ran the test", "Kernel panic"]),
    },
];

fn a_failure_is_reported_with_its_commands(guest: &Guest) {
    guest.must("echo before");
    guest.must("echo told; exit 3");
}

fn a_dead_guest_is_reported_with_its_console(guest: &Guest) {
    guest.must("echo c > /proc/sysrq-trigger");
}
