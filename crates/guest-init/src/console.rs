//! Words for the machine's console, for the operator who looks there.

/// Prints one line.
pub(crate) fn say(line: &str) {
    eprintln!("guest-init: {line}");
}

/// Returns an error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
