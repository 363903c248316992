//! What an attempt's result means to the caller.

use std::ops::Range;

use crate::store::{GetError, Key, PutError, Refusal};
use crate::wire::{Condition, Flaw, Listed, WireError};

/// Names a result for the metrics.
pub(crate) fn outcome<T>(result: &Result<T, WireError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(WireError::Precondition) => "precondition",
        Err(WireError::Conflict) => "conflict",
        Err(WireError::NotFound) => "not_found",
        Err(WireError::OutOfRange { .. }) => "out_of_range",
        Err(WireError::Damaged(_)) => "damaged",
        Err(WireError::Outage(_)) => "outage",
        Err(WireError::Refused(_)) => "refused",
    }
}

/// The error of a put whose condition does not hold.
pub(crate) fn overtaken(key: &Key, condition: &Condition, maybe_applied: bool) -> PutError {
    let key = key.clone();
    match condition {
        Condition::Absent => PutError::Exists { key, maybe_applied },
        Condition::Matches(_) => PutError::Stale { key, maybe_applied },
    }
}

/// The put was denied, and what stands there could not be read: nobody knows whose it is.
pub(crate) fn unanswered_put(key: &Key, attempts: u32, error: WireError) -> PutError {
    let key = key.clone();
    match error {
        WireError::Outage(source) => PutError::Unavailable {
            key,
            attempts,
            source,
        },
        other => PutError::Refused {
            key,
            source: refusal(other),
        },
    }
}

/// The error of a get that is given up.
pub(crate) fn get_error(key: &Key, range: Option<Range<u64>>, attempts: u32, error: WireError) -> GetError {
    let key = key.clone();
    match error {
        WireError::NotFound => GetError::NotFound { key },
        WireError::OutOfRange { total_bytes } => {
            let Range { start, end } = range.unwrap_or_default();
            GetError::OutOfRange {
                key,
                start,
                end,
                total_bytes,
            }
        }
        WireError::Damaged(Flaw::Short {
            expected_bytes,
            got_bytes,
        }) => GetError::Short {
            key,
            expected_bytes,
            got_bytes,
        },
        WireError::Damaged(Flaw::Corrupt { expected, found }) => GetError::Corrupt { key, expected, found },
        WireError::Outage(source) => GetError::Unavailable {
            key,
            attempts,
            source,
        },
        other @ (WireError::Precondition | WireError::Conflict | WireError::Refused(_)) => {
            GetError::Refused {
                key,
                source: refusal(other),
            }
        }
    }
}

/// Turns an answer that makes no sense for the request into the refusal it amounts to.
pub(crate) fn refusal(error: WireError) -> Refusal {
    let odd = |status, message: &str| Refusal {
        status,
        code: String::new(),
        message: message.to_owned(),
    };
    match error {
        WireError::Refused(refusal) => refusal,
        WireError::Precondition => odd(412, "an unconditional request was told that its condition fails"),
        WireError::Conflict => odd(409, "conflicting requests do not end"),
        WireError::NotFound => odd(404, "not found"),
        WireError::OutOfRange { .. } => {
            odd(416, "a request without a range was told that it is out of range")
        }
        WireError::Damaged(flaw) => odd(0, &format!("{flaw:?}")),
        WireError::Outage(outage) => odd(0, &outage.to_string()),
    }
}

/// Finds what is wrong with a page: keys out of order, outside the prefix, or none to go on from.
pub(crate) fn check_listing(listed: &Listed, prefix: &str, after: Option<&str>) -> Result<(), &'static str> {
    let mut last = after;
    for row in &listed.rows {
        if !row.key.starts_with(prefix) {
            return Err("a key outside the prefix");
        }
        if last.is_some_and(|last| row.key.as_str() <= last) {
            return Err("keys out of order");
        }
        last = Some(&row.key);
    }
    if listed.more && listed.rows.is_empty() {
        Err("more to come, and nothing to go on from")
    } else {
        Ok(())
    }
}
