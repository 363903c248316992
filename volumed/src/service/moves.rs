//! Bottomless volumes go from this node and come to it.

use std::sync::Arc;

use jiff::Timestamp;
use objstore::Remedy;
use serde::Deserialize;
use serde_json::json;

use super::placement::{self, Wish};
use super::{Service, refusal};
use crate::catalog::Change;
use crate::disk::{self, About, FoundDisk, LastOwner, LookError, OutageRule, VolumeFacts};
use crate::error::Refusal;
use crate::lifecycle::{self, Command, Plan};
use crate::ops::{CLAIM, ClaimParams, DRAIN, chain};
use crate::pool::Pool;
use crate::volume::{SizeGb, Volume, VolumeId, VolumeState};

/// A request to take a volume up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimRequest {
    /// Only if it is of this app.
    pub app: Option<String>,
    /// Although its last host has not given it up.
    pub force: bool,
}

impl Service {
    /// The pool whose volumes move.
    fn moving_pool(&self) -> Result<&Arc<dyn Pool>, Refusal> {
        let mut pools = self.ctx.pools.all();
        pools.find(|pool| pool.moves().is_some()).ok_or_else(|| {
            Refusal::invalid("bottomless volumes are not offered by this node; claim it on another")
        })
    }

    /// Drains a volume: everything is uploaded and the disk given up, then nothing of it is here any more. Returns the volume, and
    /// what the drain waits for if it is not over.
    ///
    /// # Errors
    /// 422 for a volume that does not move, 412 while somebody has it.
    pub async fn drain(&self, id: &VolumeId) -> Result<(Volume, Option<String>), Refusal> {
        let volume = self.volume(id).await?;
        if self.pool(&volume.pool)?.moves().is_none() {
            return Err(Refusal::invalid(format!(
                "volume {id} is local and does not move; take a snapshot and restore that elsewhere"
            )));
        }
        if lifecycle::plan(&volume, &Command::Drain)? == Plan::Already {
            return Ok((volume, Some("an earlier request for the same".to_owned())));
        }
        let now = self.ctx.clock.now();
        let begun = self.begin_on_volume(id, DRAIN, json!({}), Command::Drain, move |v| {
            v.state = VolumeState::Draining;
            v.updated_at = now;
        });
        let mut handle = begun.await?;
        let record = self.settle(&mut handle).await?;
        let waits_for = (!record.status.ended()).then(|| {
            let why = record.last_error.clone();
            why.unwrap_or_else(|| "everything to be uploaded".to_owned())
        });
        Ok((self.any_volume(id).await?, waits_for))
    }

    /// Gives a drain up, while the disk is still this node's.
    ///
    /// # Errors
    /// 409 when it is not being drained, or cannot be kept any more.
    pub async fn give_up_drain(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        let not_draining = || Refusal::conflict(format!("volume {id} is not being drained"));
        if self.volume(id).await?.state != VolumeState::Draining {
            return Err(not_draining());
        }
        let subject = id.to_string();
        let running = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.running_operation(&subject)?));
        let running = running.await.map_err(refusal)?.ok_or_else(not_draining)?;
        let mut handle = self.runner.follow(&running.id).ok_or_else(not_draining)?;
        self.cancel(&running.id, "given up by request", Change::default())
            .await?;
        let within = self.ctx.settings.answer_within;
        // Whether it ended in time or not, the volume says.
        let _late = tokio::time::timeout(within, handle.end()).await;
        let volume = self.any_volume(id).await?;
        match volume.state {
            VolumeState::Created => Ok(volume),
            VolumeState::Draining => Err(Refusal::unavailable(format!(
                "volume {id} is still being drained: what is under way cannot be stopped now; look again in a moment"
            ))),
            _ => Err(Refusal::conflict(format!(
                "volume {id} was drained already; claim it to have it back"
            ))),
        }
    }

    /// Takes a volume up from the bucket. Returns it, perhaps while its disk is still being opened.
    ///
    /// # Errors
    /// 404 when the bucket has no such volume, of this app; 409 when this node has it, or another has and did not give it up; 422
    /// when it cannot be opened with this node's cluster key.
    pub async fn claim(&self, id: &VolumeId, request: &ClaimRequest) -> Result<Volume, Refusal> {
        let pool = self.moving_pool()?.name().to_owned();
        let wanted = id.clone();
        let known = self.ctx.catalog.transact(move |tx| Ok(tx.volume(&wanted)?));
        here_already(known.await.map_err(refusal)?.as_ref())?;
        let found = disk::find(Arc::clone(&self.ctx.store), &self.ctx.keys.get(), id).await;
        let missing = || {
            Refusal::missing(format!(
                "the bucket has no volume {id}; is this node's bucket the one that it was made in?"
            ))
        };
        let found = found.map_err(|error| not_found_out(id, &error))?;
        let FoundDisk {
            wrapped_key,
            size_bytes,
            about,
            last,
        } = found.ok_or_else(missing)?;
        let About { mut volume, serving, .. } = about.ok_or_else(|| {
            Refusal::invalid(format!(
                "the bucket has the disk of volume {id}, and not whose it is: it was not made by `hangar volumes create`, or its \
                 creation never ended"
            ))
        })?;
        if request.app.as_ref().is_some_and(|app| *app != volume.app) {
            return Err(missing());
        }
        let held = last.filter(|last| !last.released);
        if let Some(owner) = held
            && serving.on_outage == OutageRule::Ride
            && !request.force
        {
            return Err(not_released(id, &owner, &serving));
        }
        let snapshots = std::mem::take(&mut volume.snapshots);
        let params = ClaimParams {
            serving,
            size_bytes,
            force_over: held.filter(|_| request.force).map(|owner| owner.epoch.0),
        };
        let record = Volume {
            wrapped_key,
            size: SizeGb::holding(size_bytes),
            pool,
            ..self.draft_claimed(id, volume)
        };
        let zones = self.ctx.settings.zones.clone();
        let change = Change::new(move |tx| {
            here_already(tx.volume(&record.id)?.as_ref())?;
            let wish = Wish {
                app: record.app.clone(),
                name: record.name.clone(),
                zone: Some(record.zone.clone()).filter(|zone| zones.contains(zone)),
                not_zone: None,
                unique_zone: false,
                unique_zone_app_wide: false,
            };
            let zone = placement::choose(&zones, &tx.existing_volumes()?, &wish)?;
            tx.put_volume(&Volume { zone, ..record })?;
            for snapshot in &snapshots {
                tx.put_snapshot(snapshot)?;
            }
            Ok(())
        });
        let mut handle = self.submit(id.as_str(), CLAIM, json!(params), change).await?;
        self.settle(&mut handle).await?;
        self.any_volume(id).await
    }

    /// The record of a volume of which the bucket says `facts`.
    fn draft_claimed(&self, id: &VolumeId, facts: VolumeFacts) -> Volume {
        let now: Timestamp = self.ctx.clock.now();
        let key = crate::keys::DataKey::generate(&*self.ctx.random);
        Volume {
            // Replaced by the one that stands in HEAD.
            wrapped_key: self.ctx.keys.get().wrap(id.as_str(), &key, &*self.ctx.random),
            id: id.clone(),
            app: facts.app,
            name: facts.name,
            region: self.ctx.settings.region.clone(),
            zone: facts.zone,
            size: facts.size,
            extending_to: None,
            state: VolumeState::Creating,
            pool: String::new(),
            encrypted: true,
            fstype: facts.fstype,
            formatted: facts.formatted,
            ever_attached: facts.ever_attached,
            snapshot_retention: facts.snapshot_retention,
            snapshot_counts: facts.snapshot_counts,
            auto_backup_enabled: facts.auto_backup_enabled,
            attached_machine_id: None,
            host_path: None,
            generation: facts.generation + 1,
            usage: None,
            needs_restart: false,
            origin: facts.origin,
            created_at: facts.created_at,
            updated_at: now,
            deleted_at: None,
            purge_after: None,
            last_verified_restore: None,
            scheduled_slot: None,
            auto_extended_from_bytes: None,
            auto_extend_blocked: None,
            snapshot_blocked: None,
            left_at: None,
            failure: None,
        }
    }

    /// A volume's record, whatever became of it.
    async fn any_volume(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        let wanted = id.clone();
        let found = self.ctx.catalog.transact(move |tx| Ok(tx.volume(&wanted)?));
        let found = found.await.map_err(refusal)?;
        found.ok_or_else(|| Refusal::missing("volume not found"))
    }
}

fn here_already(volume: Option<&Volume>) -> Result<(), Refusal> {
    match volume.filter(|volume| volume.exists()) {
        None => Ok(()),
        Some(volume) => Err(Refusal::conflict(format!(
            "this node has volume {} already, in state {}; there is nothing to claim",
            volume.id,
            volume.state.name()
        ))),
    }
}

fn not_found_out(id: &VolumeId, error: &LookError) -> Refusal {
    let sentence = format!("volume {id} was not looked up in the bucket: {}", chain(error));
    match error.remedy() {
        Remedy::Retry | Remedy::Stop | Remedy::Report => {
            Refusal::unavailable(format!("{sentence}; try again when it does"))
        }
        Remedy::FixRequest => Refusal::invalid(sentence),
        Remedy::FixData => Refusal::invalid(format!(
            "{sentence}; `volumed fsck {id}` says more, and `volumed salvage {id}` makes an image of what is left"
        )),
    }
}

fn not_released(id: &VolumeId, owner: &LastOwner, serving: &disk::Serving) -> Refusal {
    Refusal::conflict(format!(
        "volume {id} is another host's: journal {}, epoch {}, has not given it up. If that host lives, drain the volume there. If it is \
         lost, claim it with force: what it had not uploaded is lost then, {} s or {} MiB of writes at most unless the bucket was \
         away; a host that comes back later serves it no more",
        owner.journal,
        owner.epoch.0,
        serving.lag_ms_max.div_ceil(1000),
        serving.lag_bytes_max >> 20
    ))
}
