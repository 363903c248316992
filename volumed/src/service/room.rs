//! The room of a pool, checked inside the transaction that promises it, and how full it is, checked before.

use std::sync::Arc;

use super::Service;
use crate::catalog::{NewEvent, Tx, TxError};
use crate::error::Refusal;
use crate::ops::{chain, shed};
use crate::pool::{Pool, SliceId, Verdict, judge};
use crate::snapshot::Snapshot;
use crate::volume::{GIB, Volume};

/// What a pool has promised, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promised {
    /// To volumes, deleted ones until their grace is over.
    pub volumes_bytes: u64,
    /// To those of them that are deleted.
    pub deleted_bytes: u64,
    /// To the captures of running snapshots.
    pub captures_bytes: u64,
    /// To the largest volume that is not deleted: what its next snapshot takes where captures are copies.
    pub largest_bytes: u64,
}

impl Promised {
    /// Sums up what stands in the catalog.
    pub fn of(pool: &str, volumes: &[Volume], snapshots: &[Snapshot]) -> Self {
        let mut sum = Self::default();
        for volume in volumes.iter().filter(|v| v.pool == pool && v.exists()) {
            let bytes = volume.promised_bytes();
            sum.volumes_bytes += bytes;
            if volume.deleted_at.is_some() {
                sum.deleted_bytes += bytes;
            } else {
                sum.largest_bytes = sum.largest_bytes.max(bytes);
            }
        }
        let captures = snapshots.iter().filter(|s| s.pool.as_deref() == Some(pool));
        sum.captures_bytes = captures.map(|s| s.volume_bytes).sum();
        sum
    }

    /// Returns the promise in all; captures that share their volume's blocks take none.
    pub fn bytes(&self, captures_count: bool) -> u64 {
        let captures = if captures_count { self.captures_bytes } else { 0 };
        self.volumes_bytes.saturating_add(captures)
    }
}

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
        let promised = Promised::of(pool, &tx.existing_volumes()?, &tx.snapshots()?);
        self.judge(pool, &promised, wanted_bytes)
            .map_err(|sentence| Refusal::capacity(sentence).into())
    }

    /// As [`Room::check`], pure; the error is what to tell.
    fn judge(&self, pool: &str, promised: &Promised, wanted_bytes: u64) -> Result<(), String> {
        let taken = promised.bytes(self.captures_count);
        if taken.saturating_add(wanted_bytes) <= self.promisable_bytes {
            return Ok(());
        }
        let free_gb = self.promisable_bytes.saturating_sub(taken) / GIB;
        let held = match promised.deleted_bytes {
            0 => String::new(),
            bytes => format!(
                " (deleted ones hold {} GB until their grace is over)",
                bytes.div_ceil(GIB)
            ),
        };
        Err(format!(
            "insufficient capacity: pool {pool} can promise {free_gb} GB more, the request needs {} GB; add space, raise the \
             pool's overcommit_ratio, or remove volumes at once with `hangar volumes destroy --purge`{held}",
            wanted_bytes.div_ceil(GIB)
        ))
    }
}

impl Service {
    /// Returns a configured pool.
    pub(super) fn pool(&self, name: &str) -> Result<&Arc<dyn Pool>, Refusal> {
        let found = self.ctx.pools.get(name);
        found.ok_or_else(|| Refusal::unavailable(format!("pool {name} is not configured on this node")))
    }

    /// Returns what a pool has promised.
    ///
    /// # Errors
    /// 500 when the catalog cannot be read.
    pub async fn promised(&self, pool: &str) -> Result<Promised, Refusal> {
        let pool = pool.to_owned();
        let summed = self
            .ctx
            .catalog
            .transact(move |tx| Ok(Promised::of(&pool, &tx.existing_volumes()?, &tx.snapshots()?)));
        summed.await.map_err(super::refusal)
    }

    /// Measures a pool that is to take new work of `wanted_bytes`. Captures that only speed up backups are in nobody's way.
    ///
    /// # Errors
    /// 422 when it is too full, or not well.
    pub(super) async fn room(&self, pool: &dyn Pool, wanted_bytes: u64) -> Result<Room, Refusal> {
        let room = self.measure(pool).await;
        if !pool.bases_take_room() {
            return room;
        }
        let promised = self.promised(pool.name()).await?;
        let fits = |room: &Room| room.judge(pool.name(), &promised, wanted_bytes).is_ok();
        if room.as_ref().is_ok_and(fits) {
            return room;
        }
        // A pool that cannot be measured says why in the first answer.
        match self.without_captures(pool).await {
            Ok(most) if fits(&most) => {}
            Ok(_) | Err(_) => return room,
        }
        shed(&self.ctx, pool.name(), false).await;
        self.measure(pool).await
    }

    /// Returns the most room that there could be if there were no captures.
    async fn without_captures(&self, pool: &dyn Pool) -> Result<Room, Refusal> {
        let unmeasured = |error| Refusal::unavailable(chain(&error));
        let slices = pool.list().await.map_err(unmeasured)?;
        let captures = slices
            .iter()
            .filter(|found| matches!(found.id, SliceId::Capture(_)));
        let mut usage = pool.usage().await.map_err(unmeasured)?;
        // What they share with volumes is counted, too: it is a bound.
        usage.free_bytes += captures.map(|found| found.allocated_bytes).sum::<u64>();
        usage.free_bytes = usage.free_bytes.min(usage.total_bytes);
        Ok(Room {
            promisable_bytes: pool.capacity().promisable_bytes(&usage),
            captures_count: !pool.capabilities().reflink,
        })
    }

    async fn measure(&self, pool: &dyn Pool) -> Result<Room, Refusal> {
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
            promisable_bytes: if pool.is_bottomless() {
                u64::MAX
            } else {
                pool.capacity().promisable_bytes(&usage)
            },
            captures_count: !pool.capabilities().reflink,
        })
    }

    /// Judges how full a pool is now, and whether it is well. What was not told yet is told.
    ///
    /// # Errors
    /// 503 when it cannot be measured.
    pub async fn judge_pool(&self, pool: &dyn Pool) -> Result<Verdict, Refusal> {
        let reading = pool.reading().await;
        let reading = reading.map_err(|e| Refusal::unavailable(chain(&e)))?;
        let (verdict, told) = {
            let mut judged = self.pressures();
            let before = judged.entry(pool.name().to_owned()).or_default();
            let verdict = judge(&pool.pressure_rules(), before.pressure, &reading);
            before.pressure = verdict.pressure;
            let told = before.told.replace(verdict.state);
            (verdict, told)
        };
        if told != Some(verdict.state) {
            self.tell_of_pool(pool.name(), &verdict).await;
        }
        Ok(verdict)
    }

    /// Judges every pool.
    pub(crate) async fn watch_pools(&self) {
        for pool in self.ctx.pools.all() {
            if let Err(error) = self.judge_pool(&**pool).await {
                tracing::warn!(pool = pool.name(), error = %error, "pool not measured");
            }
        }
    }

    /// Tells of a pool whose state is not what was told last. Told once, whatever restarts in between.
    async fn tell_of_pool(&self, pool: &str, verdict: &Verdict) {
        let (name, now, state) = (pool.to_owned(), self.ctx.clock.now(), verdict.state);
        let reason = verdict.reason.clone();
        let told = self.ctx.catalog.transact(move |tx| {
            let setting = format!("pool_state:{name}");
            let before = tx.setting(&setting)?.unwrap_or_else(|| "ok".to_owned());
            if before == state {
                return Ok(());
            }
            let reason = reason.unwrap_or_else(|| "it has room again".to_owned());
            let message = format!("pool {name} is {state}: {reason}");
            tracing::warn!(pool = name, state, before, reason, "pool changed its state");
            tx.event(&NewEvent {
                at: now,
                subject: name,
                kind: "pool_state",
                message,
            })?;
            Ok(tx.set_setting(&setting, state)?)
        });
        if let Err(error) = told.await {
            tracing::warn!(error = %error, "state of a pool not noted");
            // Whoever looks next tells it.
            if let Some(judged) = self.pressures().get_mut(pool) {
                judged.told = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
