//! The room of a pool, checked inside the transaction that promises it.

use crate::catalog::{Tx, TxError};
use crate::error::Refusal;
use crate::volume::{GIB, Volume};

/// What a pool may promise, as measured just before the transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) promisable_bytes: u64,
    /// Whether captures take room of their own.
    pub(super) captures_count: bool,
}

impl Room {
    /// Refuses `wanted_bytes` more than is promised already when the pool has no room for it.
    pub(super) fn check(&self, tx: &Tx<'_>, pool: &str, wanted_bytes: u64) -> Result<(), TxError> {
        let volumes = tx.existing_volumes()?;
        let mut promised: u64 = volumes
            .iter()
            .filter(|v| v.pool == pool)
            .map(Volume::promised_bytes)
            .sum();
        if self.captures_count {
            let captures = tx.snapshots()?;
            promised += captures
                .iter()
                .filter(|s| s.pool.as_deref() == Some(pool))
                .map(|s| s.volume_bytes)
                .sum::<u64>();
        }
        if promised.saturating_add(wanted_bytes) <= self.promisable_bytes {
            return Ok(());
        }
        let free_gb = self.promisable_bytes.saturating_sub(promised) / GIB;
        Err(Refusal::capacity(format!(
            "insufficient capacity: pool {pool} can promise {free_gb} GB more, the request needs {} GB; delete volumes, add \
             space, or raise the pool's overcommit_ratio",
            wanted_bytes.div_ceil(GIB)
        ))
        .into())
    }
}
