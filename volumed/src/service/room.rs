//! The room of a pool, checked inside the transaction that promises it, and how full it is, checked before.

use std::sync::Arc;

use super::Service;
use crate::catalog::{NewEvent, Tx, TxError};
use crate::error::Refusal;
use crate::ops::chain;
use crate::pool::{Pool, Verdict, judge};
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

impl Service {
    /// Returns a configured pool.
    pub(super) fn pool(&self, name: &str) -> Result<&Arc<dyn Pool>, Refusal> {
        let found = self.ctx.pools.get(name);
        found.ok_or_else(|| Refusal::unavailable(format!("pool {name} is not configured on this node")))
    }

    /// Measures a pool that is to take new work.
    ///
    /// # Errors
    /// 422 when it is too full, or not well.
    pub(super) async fn room(&self, pool: &dyn Pool) -> Result<Room, Refusal> {
        let verdict = self.judge_pool(pool).await?;
        if let Some(reason) = verdict.reason.filter(|_| verdict.pressure.refuses()) {
            let name = pool.name();
            return Err(Refusal::capacity(format!(
                "insufficient capacity: pool {name} is {}: {reason}",
                verdict.state
            )));
        }
        let usage = pool.usage().await.map_err(|e| Refusal::unavailable(chain(&e)))?;
        Ok(Room {
            promisable_bytes: pool.capacity().promisable_bytes(&usage),
            captures_count: !pool.capabilities().reflink,
        })
    }

    /// Judges how full a pool is now, and whether it is well.
    ///
    /// # Errors
    /// 503 when it cannot be measured.
    pub async fn judge_pool(&self, pool: &dyn Pool) -> Result<Verdict, Refusal> {
        let reading = pool.reading().await;
        let reading = reading.map_err(|e| Refusal::unavailable(chain(&e)))?;
        let mut before = self.pressures();
        let level = before.entry(pool.name().to_owned()).or_default();
        let verdict = judge(&pool.pressure_rules(), *level, &reading);
        *level = verdict.pressure;
        Ok(verdict)
    }

    /// Tells of every pool whose state is not what was told last. Told once, whatever restarts in between.
    pub(crate) async fn watch_pools(&self) {
        for pool in self.ctx.pools.all() {
            let verdict = match self.judge_pool(&**pool).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    tracing::warn!(pool = pool.name(), error = %error, "pool not measured");
                    continue;
                }
            };
            let (pool, now) = (pool.name().to_owned(), self.ctx.clock.now());
            let told = self.ctx.catalog.transact(move |tx| {
                let setting = format!("pool_state:{pool}");
                let before = tx.setting(&setting)?.unwrap_or_else(|| "ok".to_owned());
                if before == verdict.state {
                    return Ok(());
                }
                let reason = verdict.reason.unwrap_or_else(|| "it has room again".to_owned());
                let message = format!("pool {pool} is {}: {reason}", verdict.state);
                tracing::warn!(
                    pool,
                    state = verdict.state,
                    before,
                    reason,
                    "pool changed its state"
                );
                tx.event(&NewEvent {
                    at: now,
                    subject: pool,
                    kind: "pool_state",
                    message,
                })?;
                Ok(tx.set_setting(&setting, verdict.state)?)
            });
            if let Err(error) = told.await {
                tracing::warn!(error = %error, "state of a pool not noted");
            }
        }
    }
}
