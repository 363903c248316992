//! Extending volumes: on request, and by themselves.

use operation::Handle;
use serde_json::{Number, json};

use super::fields::check_size;
use super::{Service, refusal};
use crate::auto_extend::{AutoExtend, Decision};
use crate::catalog::{Change, NewEvent};
use crate::error::Refusal;
use crate::lifecycle::{self, Command};
use crate::ops::EXTEND;
use crate::volume::{SizeGb, Volume, VolumeId, VolumeState};

impl Service {
    /// Extends a volume; answers when the guest's file system has grown, or needs a restart, or it takes too long.
    ///
    /// # Errors
    /// 422 for a size that is not larger, or too large, or that the pool cannot promise.
    pub async fn extend(&self, id: &VolumeId, size_gb: Option<&Number>) -> Result<Volume, Refusal> {
        let number = size_gb.ok_or_else(|| Refusal::invalid("size_gb is required: the new size, in GB"))?;
        let volume = self.volume(id).await?;
        let to = check_size(number, self.size_max(&**self.pool(&volume.pool)?))?;
        let mut handle = self.begin_extend(&volume, to, None).await?;
        self.settle(&mut handle).await?;
        self.volume(id).await
    }

    /// Begins an extend; `wish`, when it grows by itself, must still come to the same.
    async fn begin_extend(
        &self,
        volume: &Volume,
        to: SizeGb,
        wish: Option<AutoExtend>,
    ) -> Result<Handle, Refusal> {
        let pool = &**self.pool(&volume.pool)?;
        let more_bytes = to.bytes().saturating_sub(volume.size.bytes());
        let room = self.room(pool, more_bytes).await?;
        let (subject, now, max) = (volume.id.clone(), self.ctx.clock.now(), self.size_max(pool));
        let change = Change::new(move |tx| {
            let volume = tx
                .volume(&subject)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            lifecycle::plan(&volume, &Command::Extend { to, max })?;
            room.check(tx, &volume.pool, to.bytes() - volume.size.bytes())?;
            if let Some(wish) = wish {
                let Decision::Extend { percent, .. } = wish.decide(&volume, max) else {
                    return Err(Refusal::conflict(format!("volume {subject} changed meanwhile")).into());
                };
                let message = format!("file system is {percent} % full: extending to {} GB", to.get());
                tx.event(&NewEvent {
                    at: now,
                    subject: subject.to_string(),
                    kind: "auto_extend",
                    message,
                })?;
            }
            tx.edit_volume(&subject, |v| {
                v.state = VolumeState::Extending;
                v.extending_to = Some(to);
                v.updated_at = now;
                if wish.is_some() {
                    v.auto_extended_from_bytes = v.usage.map(|usage| usage.bytes_total);
                    v.auto_extend_blocked = None;
                }
            })?;
            Ok(())
        });
        self.submit(volume.id.as_str(), EXTEND, json!({ "to_gb": to }), change)
            .await
    }

    /// Extends a volume as its machine wishes, if it is time; what stands in the way is told once.
    pub(super) async fn auto_extend(&self, volume: &Volume, wish: AutoExtend) {
        let pool = self.pool(&volume.pool);
        let max = pool.map_or(self.ctx.settings.size_max, |pool| self.size_max(&**pool));
        let blocked = match wish.decide(volume, max) {
            Decision::Rest => None,
            Decision::Blocked { why } => Some(why),
            Decision::Extend { to, .. } => match self.begin_extend(volume, to, Some(wish)).await {
                Ok(_) => return,
                Err(refused) if refused.status == 422 => Some(refused.sentence),
                // Busy, or the pool does not answer: the next report asks again.
                Err(refused) => {
                    return tracing::info!(volume_id = %volume.id, why = %refused, "not extended by itself");
                }
            },
        };
        if let Err(error) = self.note_blocked(volume, blocked).await {
            tracing::warn!(volume_id = %volume.id, error = %error, "not noted why a volume does not grow");
        }
    }

    async fn note_blocked(&self, volume: &Volume, blocked: Option<String>) -> Result<(), Refusal> {
        // Told once, until it is over: the numbers in the sentence change all the time.
        if volume.auto_extend_blocked.is_some() == blocked.is_some() {
            return Ok(());
        }
        let (id, now) = (volume.id.clone(), self.ctx.clock.now());
        let noted = self.ctx.catalog.transact(move |tx| {
            if let Some(why) = &blocked {
                tracing::warn!(volume_id = %id, why, "volume does not grow by itself");
                tx.event(&NewEvent {
                    at: now,
                    subject: id.to_string(),
                    kind: "auto_extend_blocked",
                    message: why.clone(),
                })?;
            }
            tx.edit_volume(&id, |v| v.auto_extend_blocked = blocked)?;
            Ok(())
        });
        noted.await.map_err(refusal)
    }
}
