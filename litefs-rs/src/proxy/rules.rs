//! PURE. Which way a request goes.

use http::Method;

/// Where health is asked for.
pub(super) const HEALTH: &str = "/litefs/health";

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It goes to the application as it is.
    PassThrough,
    /// The node itself answers how it is.
    Health,
    /// It goes to the application here, once that can read what its client has written.
    Read,
    /// It goes to the application of the primary.
    Write,
}

/// Paths with a way of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Patterns of those that are passed through.
    pub passthrough: Vec<String>,
    /// Patterns of those that are writes, whatever their method.
    pub always_forward: Vec<String>,
}

impl Rules {
    /// Returns the way of a request, as LiteFS has it.
    #[must_use]
    pub fn way(&self, method: &Method, path: &str) -> Way {
        let among = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
        if among(&self.passthrough) {
            Way::PassThrough
        } else if method == Method::GET && path == HEALTH {
            Way::Health
        } else if is_read(method) && !among(&self.always_forward) {
            Way::Read
        } else {
            Way::Write
        }
    }
}

/// Tells whether requests of a method read only, as far as the method tells.
pub(super) fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Tells whether the whole of `path` is as a pattern says: `*` stands for any run of characters, slashes too, and nothing else is
/// special.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = path.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests;
