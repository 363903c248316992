use std::fmt;

use serde::{Deserialize, Serialize};

use crate::random::{self, Random};

/// Why a text is not an id.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $valid:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps an id.
            ///
            /// # Errors
            /// [`IdError`] when it does not have the form of one.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                match text.strip_prefix($prefix) {
                    Some(rest) if valid(rest) => Ok(Self(text.to_owned())),
                    Some(_) | None => Err(IdError { text: text.chars().take(64).collect(), expected: $expected }),
                }
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

fn base36(rest: &str) -> bool {
    rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

fn base62(rest: &str) -> bool {
    (17..=24).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
}

id!(
    /// Names a volume: `vol_` and 16 characters of `[0-9a-z]`.
    VolumeId, "vol_", base36, "a volume id (vol_ and 16 digits or lower-case letters)"
);
id!(
    /// Names a snapshot: `vs_` and 17 to 24 letters and digits.
    SnapshotId, "vs_", base62, "a snapshot id (vs_ and 17 to 24 letters or digits)"
);
id!(
    /// Names an operation: `op_` and 16 characters of `[0-9a-z]`.
    OperationKey, "op_", base36, "an operation id (op_ and 16 digits or lower-case letters)"
);

impl VolumeId {
    /// Makes a new id.
    pub fn generate(random: &dyn Random) -> Self {
        Self(format!("vol_{}", random::base36(random, 16)))
    }
}

impl SnapshotId {
    /// Makes a new id.
    pub fn generate(random: &dyn Random) -> Self {
        Self(format!("vs_{}", random::base62(random, 22)))
    }
}

impl OperationKey {
    /// Makes a new id.
    pub fn generate(random: &dyn Random) -> Self {
        Self(format!("op_{}", random::base36(random, 16)))
    }
}
