//! Sizes on the command line and in tables.

/// Parses a volume size: `3`, `3gb`, `3 GiB`. Whole GiB only.
pub fn parse_gb(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = ["gib", "gb", "g"]
        .iter()
        .find_map(|unit| lower.strip_suffix(unit))
        .unwrap_or(&lower);
    whole(digits)
}

/// What an extend asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewSize {
    /// This many GiB.
    To(u64),
    /// This many GiB more.
    By(u64),
}

/// Parses the size of an extend: `5`, `5gb`, `+1`, `+1gb`.
pub fn parse_new(text: &str) -> Option<NewSize> {
    match text.trim().strip_prefix('+') {
        Some(more) => parse_gb(more).map(NewSize::By),
        None => parse_gb(text).map(NewSize::To),
    }
}

/// Parses memory in MiB: `512`, `512mb`, `1gb`.
pub fn parse_mb(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    if let Some(digits) = ["gib", "gb", "g"]
        .iter()
        .find_map(|unit| lower.strip_suffix(unit))
    {
        return whole(digits)?.checked_mul(1024);
    }
    let digits = ["mib", "mb", "m"]
        .iter()
        .find_map(|unit| lower.strip_suffix(unit))
        .unwrap_or(&lower);
    whole(digits)
}

/// Digits alone: the standard parser takes a sign as well.
fn whole(text: &str) -> Option<u64> {
    Some(text.trim())
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?
        .parse()
        .ok()
}

/// Writes bytes with a binary unit, like `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests;
