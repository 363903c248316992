//! Times as people read them.

use jiff::Timestamp;

/// Writes how long ago `then` was, like `3 seconds ago`; `now` for less than a second and for the future.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second());
    let (count, unit) = match seconds {
        ..1 => return "now".to_owned(),
        1..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..2_592_000 => (seconds / 86_400, "day"),
        2_592_000..31_536_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// Writes a date like `02 Jan 06 15:04 UTC`.
pub fn date(at: Timestamp) -> String {
    at.strftime("%d %b %y %H:%M UTC").to_string()
}

/// [`ago`] of an RFC 3339 text; the text itself when it is none.
pub fn ago_text(then: &str, now: Timestamp) -> String {
    then.parse()
        .map_or_else(|_| then.to_owned(), |then| ago(then, now))
}

/// [`date`] of an RFC 3339 text; the text itself when it is none.
pub fn date_text(at: &str) -> String {
    at.parse().map_or_else(|_| at.to_owned(), date)
}

#[cfg(test)]
mod tests;
