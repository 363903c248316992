//! Which cluster a node belongs to.

use std::{fmt, io, path::Path, str::FromStr};

use crashsafe::{Disk, OpenOptions};

const LABEL: &str = "clusterid";
const NAME: &str = "clusterid";
const PREFIX: &str = "LFSC";
const DIGITS: usize = 16;
const MODE: u32 = 0o666;

/// Which cluster a node belongs to: `LFSC` and 16 hexadecimal digits in upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterId(String);

impl ClusterId {
    /// Makes one of random bits.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self(format!("{PREFIX}{random:016X}"))
    }

    /// Reads the one that a node has; nothing when it belongs to none yet.
    ///
    /// # Errors
    /// As the disk; or the file holds something else.
    pub fn read(disk: &dyn Disk, root: &Path) -> Result<Option<Self>, ClusterIdError> {
        let path = root.join(NAME);
        let Some(stat) = disk.stat(&path)? else {
            return Ok(None);
        };
        let mut bytes = vec![0; usize::try_from(stat.len.min(64)).unwrap_or(64)];
        disk.open(LABEL, &path, OpenOptions::READ)?
            .read_exact_at(&mut bytes, 0)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| ClusterIdError::Invalid)?;
        text.trim().parse().map(Some)
    }

    /// Keeps it for good.
    ///
    /// # Errors
    /// As the disk.
    pub fn write(&self, disk: &dyn Disk, root: &Path) -> io::Result<()> {
        crashsafe::write_atomic(
            disk,
            LABEL,
            &root.join(NAME),
            format!("{self}\n").as_bytes(),
            MODE,
        )
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let digits = text.strip_prefix(PREFIX).ok_or(ClusterIdError::Invalid)?;
        if digits.len() != DIGITS || !digits.is_ascii() {
            return Err(ClusterIdError::Invalid);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Why the cluster's id could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClusterIdError {
    /// It is none.
    #[error("invalid cluster id")]
    Invalid,
    /// As the disk.
    #[error("read the cluster id")]
    Read(#[from] io::Error),
}
