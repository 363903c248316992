//! Shapes of the ids that arrive in paths.
//!
//! An id that cannot exist is answered with 404 before any daemon is asked, so no text from outside ever
//! becomes part of an upstream path unless it has one of these shapes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Tells whether `id` can be a volume: `vol_` and 1 to 32 of `[0-9a-z]`.
pub fn is_volume(id: &str) -> bool {
    id.strip_prefix("vol_")
        .is_some_and(|rest| has_shape(rest, 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Tells whether `id` can be a snapshot: `vs_` and 1 to 40 letters and digits.
pub fn is_snapshot(id: &str) -> bool {
    id.strip_prefix("vs_")
        .is_some_and(|rest| has_shape(rest, 40, |b| b.is_ascii_alphanumeric()))
}

/// Tells whether `id` can be a machine: 1 to 32 of `[0-9a-z]` (14 hex digits when we made it).
pub fn is_machine(id: &str) -> bool {
    has_shape(id, 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn has_shape(text: &str, bytes_max: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(allowed)
}

/// What may stand in a path segment as it is; a dot only where the segment is neither `.` nor `..`.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');
const RESERVED_BUT_DOTS: AsciiSet = RESERVED.remove(b'.');

/// Writes `text` so that it is one path segment, whatever it holds.
pub fn path_segment(text: &str) -> String {
    let reserved = if text.len() > 2 {
        &RESERVED_BUT_DOTS
    } else {
        &RESERVED
    };
    utf8_percent_encode(text, reserved).to_string()
}

#[cfg(test)]
mod tests;
