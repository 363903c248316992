//! Durations as the clients write them: `90`, `"90"`, `"1m30s"`, `"24h0m0s"`.

use std::time::Duration;

/// Parses a number of seconds or Go's duration text (`h`, `m`, `s`, `ms`, parts in any order). None when it is neither.
///
/// Values above 100 years count as unreadable.
pub fn parse(text: &str) -> Option<Duration> {
    const MAX_S: f64 = 100.0 * 366.0 * 86_400.0;
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds)).filter(|d| d.as_secs_f64() <= MAX_S);
    }
    let mut rest = text;
    let mut total_s = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total_s += value
            * match &rest[..unit_len] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[unit_len..];
    }
    (!text.is_empty() && total_s <= MAX_S).then(|| Duration::from_secs_f64(total_s))
}

#[cfg(test)]
mod tests;
