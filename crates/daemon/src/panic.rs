//! What a panic does to a process.

/// Makes a panic on any thread end the process by SIGABRT, after it was reported as before.
///
/// For a daemon whose state in memory must never be used again once an assertion about it has failed: its next start reads what
/// is durable, and that is the path that is tested.
pub fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
