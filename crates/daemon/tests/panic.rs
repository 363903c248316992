//! A panic, seen from outside: the test runs itself as the process that has it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

const CHILD: &str = "DAEMON_TEST_PANICS";
const SIGABRT: i32 = 6;

#[test]
fn a_panic_on_any_thread_ends_the_process_and_is_reported() {
    if std::env::var_os(CHILD).is_some() {
        daemon::end_on_panic();
        let thread = std::thread::spawn(|| panic!("what was assumed does not hold"));
        let _never = thread.join();
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "a_panic_on_any_thread_ends_the_process_and_is_reported",
        "--nocapture",
    ]);
    let ended = child.env(CHILD, "1").output().unwrap();
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.contains("what was assumed does not hold"), "{told}");
}
