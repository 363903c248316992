//! Checks single fields of requests. Pure.

use serde_json::Number;

use crate::error::Refusal;
use crate::retention::Counts;
use crate::volume::SizeGb;

const RETENTION_DAYS_MAX: i64 = 60;
/// A week of hours, a year of days, ten years of weeks.
const COUNTS_MAX: [u32; 3] = [168, 366, 520];
const COUNT_FIELDS: [&str; 3] = [
    "snapshot_retention_hourly",
    "snapshot_retention_daily",
    "snapshot_retention_weekly",
];

pub(super) const NAME_RULE: &str = "1 to 30 characters of a-z, 0-9 and _";

/// Checks a volume's name.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=30).contains(&name.len()) && name.bytes().all(valid) {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(Refusal::invalid(format!(
        "name {shown:?} is not valid; use {NAME_RULE}"
    )))
}

/// Checks an app's name.
pub(super) fn check_app(app: &str) -> Result<(), Refusal> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if (1..=63).contains(&app.len()) && app.bytes().all(valid) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "app is required: 1 to 63 characters of a-z, 0-9, - and _",
    ))
}

/// Checks a size field.
pub(super) fn check_size(number: &Number, max: SizeGb) -> Result<SizeGb, Refusal> {
    let gb = number
        .as_u64()
        .and_then(|gb| u32::try_from(gb).ok())
        .and_then(SizeGb::new);
    gb.filter(|gb| *gb <= max).ok_or_else(|| {
        Refusal::invalid(format!(
            "size_gb must be a whole number from 1 to {}; got {number}",
            max.get()
        ))
    })
}

/// Checks a retention field.
pub(super) fn check_retention(number: Option<&Number>) -> Result<Option<u32>, Refusal> {
    let Some(number) = number else { return Ok(None) };
    let days = number
        .as_i64()
        .filter(|days| (1..=RETENTION_DAYS_MAX).contains(days));
    days.and_then(|days| u32::try_from(days).ok()).map(Some).ok_or_else(|| {
        Refusal::invalid(format!(
            "snapshot_retention must be a whole number of days from 1 to {RETENTION_DAYS_MAX}; got {number}"
        ))
    })
}

/// Checks the counts of snapshots kept by the hour, the day and the week; absent ones stay as they are.
pub(super) fn check_counts(now: Counts, given: [Option<&Number>; 3]) -> Result<Counts, Refusal> {
    let mut counts = [now.hourly, now.daily, now.weekly];
    for (index, number) in given.into_iter().enumerate() {
        let Some(number) = number else { continue };
        let (field, max) = (COUNT_FIELDS[index], COUNTS_MAX[index]);
        let count = number.as_u64().and_then(|count| u32::try_from(count).ok());
        counts[index] = count.filter(|count| *count <= max).ok_or_else(|| {
            Refusal::invalid(format!(
                "{field} must be a whole number from 0 (none) to {max}; got {number}"
            ))
        })?;
    }
    let [hourly, daily, weekly] = counts;
    Ok(Counts {
        hourly,
        daily,
        weekly,
    })
}
