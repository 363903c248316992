//! What is remembered of the store's probe: a disk that starts again within a day does not ask 170 questions first.

use std::path::Path;

use crashsafe::RealDisk;
use jiff::{Timestamp, ToSpan as _};
use objstore::S3Config;
use serde::{Deserialize, Serialize};

/// Which bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    endpoint: Option<String>,
    region: String,
    bucket: String,
    prefix: String,
}

impl Wanted {
    pub(super) fn of(config: &S3Config) -> Self {
        Self {
            endpoint: config.endpoint.clone(),
            region: config.region.clone(),
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
        }
    }
}

/// `probed.json`: a store that kept its promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Probed {
    store: Wanted,
    at: Timestamp,
}

impl Probed {
    pub(super) fn new(store: Wanted, at: Timestamp) -> Self {
        Self { store, at }
    }

    /// Reads it; `None` when it is missing or not what it should be: then the store is asked.
    pub(super) fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn save(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self)?;
        crashsafe::write_atomic(&RealDisk, "disk:probed", path, &text, 0o600)
    }

    /// Says whether it is of this store, and of the last day. A clock that was set back makes it be asked again.
    pub(super) fn holds(&self, wanted: &Wanted, now: Timestamp) -> bool {
        let day = self.at.checked_add(24.hours());
        self.store == *wanted && self.at <= now && day.is_ok_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests;
