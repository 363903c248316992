//! Identifiers of machines, versions and events.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A machine's id: 14 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineId(String);

impl MachineId {
    /// Makes an id from seven random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 7]) -> Self {
        Self(hex::encode(bytes))
    }

    /// Accepts exactly the form that [`MachineId::from_random`] makes; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 14
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        well_formed.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a ULID (26 characters) from wall time in milliseconds and ten random bytes; used for versions and events.
#[must_use]
pub fn ulid(now: jiff::Timestamp, random: [u8; 10]) -> String {
    let mut wide = [0_u8; 16];
    wide[6..].copy_from_slice(&random);
    let millisecond = u64::try_from(now.as_millisecond()).unwrap_or(0);
    ulid::Ulid::from_parts(millisecond, u128::from_be_bytes(wide)).to_string()
}

/// A fresh version or event id at `now`.
#[must_use]
pub fn fresh_ulid(now: jiff::Timestamp) -> String {
    ulid(now, daemon::random::bytes::<10>())
}

#[cfg(test)]
mod tests;
