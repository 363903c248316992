//! The end of the machine.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::system::{RebootCommand, reboot};

/// Where a bug is reported: the agent port, once it is open.
static LAST_WORDS: OnceLock<OwnedFd> = OnceLock::new();

/// Powers the machine off. Does not return; should the kernel refuse, this process ends, which makes the
/// kernel panic and the machine end all the same.
pub(crate) fn off() {
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        crate::console::say(&format!("power off: {error}"));
    }
}

/// Keeps a descriptor of the agent port for the report of a bug.
pub(crate) fn keep_for_last_words(port: OwnedFd) {
    // A second port would be a bug, and of no use here.
    let _ = LAST_WORDS.set(port);
}

/// Makes a bug of PID 1 end the machine at once, with a report of its own kind.
pub(crate) fn report_bugs() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        crate::console::say(&text);
        if let Some(port) = LAST_WORDS.get() {
            let report = guest_init::proto::session::panic_report(&text);
            let mut rest = &report[..];
            while let Ok(count @ 1..) = rustix::io::write(port, rest) {
                rest = &rest[count..];
            }
        }
        rustix::fs::sync();
        off();
    }));
}
