//! PURE
//! What device-mapper says of a target, as `dmsetup status` prints it. Cheap: the volume group's lock is not needed.

#[cfg(test)]
mod tests;

/// Why a status line could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("status of {target}: {line:?}")]
pub struct StatusError {
    /// Which target was expected.
    pub target: &'static str,
    /// What stood there.
    pub line: String,
}

/// How far a thin pool takes changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it should be.
    ReadWrite,
    /// Its metadata is not changed any more.
    ReadOnly,
    /// No chunk is left: writes that need one wait, then get errors.
    OutOfData,
    /// Nothing works.
    Failed,
}

/// A thin pool's status. All zero but the mode when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// Transaction of its metadata.
    pub transaction_id: u64,
    /// Metadata blocks (4 KiB) in use.
    pub metadata_used: u64,
    /// Metadata blocks in all.
    pub metadata_total: u64,
    /// Chunks in use.
    pub data_used: u64,
    /// Chunks in all.
    pub data_total: u64,
    /// Whether a metadata snapshot is held.
    pub snapshot_held: bool,
    /// How far it takes changes.
    pub mode: Mode,
    /// Whether it must be checked off-line before anything else.
    pub needs_check: bool,
}

impl PoolStatus {
    /// Says whether LVM has written down a thin volume of which this pool has not heard.
    ///
    /// LVM commits its own metadata first, with its next transaction number, and tells the pool after. In between the two
    /// numbers differ by one, and what was made in the newer transaction is in LVM's list alone: it has no device, and a
    /// snapshot among it is not taken yet. LVM tells the pool with its next change of it, whenever that is.
    ///
    /// * `pool`: the pool's transaction in LVM's report, read before this status.
    /// * `made`: the thin volume's, which is that of the pool before it was made.
    pub fn has_not_heard_of(&self, pool: u64, made: u64) -> bool {
        pool == self.transaction_id + 1 && made >= self.transaction_id
    }
}

/// Bytes of a block of thin metadata.
pub const METADATA_BLOCK_BYTES: u64 = 4096;

/// Reads the status of a thin pool.
///
/// # Errors
/// [`StatusError`].
pub fn thin_pool(line: &str) -> Result<PoolStatus, StatusError> {
    let error = || StatusError {
        target: "thin-pool",
        line: line.trim().to_owned(),
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.get(2) != Some(&"thin-pool") {
        return Err(error());
    }
    if matches!(words.get(3), Some(&("Fail" | "Error"))) {
        return Ok(PoolStatus {
            transaction_id: 0,
            metadata_used: 0,
            metadata_total: 0,
            data_used: 0,
            data_total: 0,
            snapshot_held: false,
            mode: Mode::Failed,
            needs_check: words.contains(&"needs_check"),
        });
    }
    let number = |word: &str| word.parse::<u64>().map_err(|_| error());
    let ratio = |word: &str| {
        let (used, total) = word.split_once('/').ok_or_else(error)?;
        Ok((number(used)?, number(total)?))
    };
    let word = |index: usize| words.get(index).copied().ok_or_else(error);
    let (metadata_used, metadata_total) = ratio(word(4)?)?;
    let (data_used, data_total) = ratio(word(5)?)?;
    let mode = match word(7)? {
        "rw" => Mode::ReadWrite,
        "ro" => Mode::ReadOnly,
        "out_of_data_space" => Mode::OutOfData,
        _ => return Err(error()),
    };
    Ok(PoolStatus {
        transaction_id: number(word(3)?)?,
        metadata_used,
        metadata_total,
        data_used,
        data_total,
        snapshot_held: word(6)? != "-",
        mode,
        needs_check: words[8..].contains(&"needs_check"),
    })
}

/// The status of a copy-on-write snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// It holds, with this much of its room taken.
    Holds {
        /// Sectors taken.
        used: u64,
        /// Sectors in all.
        total: u64,
    },
    /// It ran out of room, or could not be kept: it reads as errors.
    Lost,
}

/// Reads the status of a copy-on-write snapshot.
///
/// # Errors
/// [`StatusError`].
pub fn snapshot(line: &str) -> Result<SnapshotStatus, StatusError> {
    let error = || StatusError {
        target: "snapshot",
        line: line.trim().to_owned(),
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.get(2) != Some(&"snapshot") {
        return Err(error());
    }
    let first = words.get(3).ok_or_else(error)?;
    let Some((used, total)) = first.split_once('/') else {
        // `Invalid`, `Overflow`, `Merge failed`, `Unknown`.
        return Ok(SnapshotStatus::Lost);
    };
    Ok(SnapshotStatus::Holds {
        used: used.parse().map_err(|_| error())?,
        total: total.parse().map_err(|_| error())?,
    })
}
