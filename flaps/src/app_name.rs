//! The rule for app names (and for the names that share it: organizations, custom networks).

/// Longest name, so that it fits a DNS label.
pub const MAX_BYTES: usize = 63;

/// Tells whether `name` matches `^[a-z0-9][a-z0-9-]*$` and has at most [`MAX_BYTES`] bytes.
pub fn is_valid(name: &str) -> bool {
    let Some(first) = name.bytes().next() else {
        return false;
    };
    (first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.len() <= MAX_BYTES
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests;
