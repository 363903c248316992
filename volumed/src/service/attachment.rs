use std::time::Duration;

use serde::Deserialize;
use tokio::sync::OwnedMutexGuard;

use super::{Service, refusal};
use crate::auto_extend::AutoExtend;
use crate::catalog::NewEvent;
use crate::error::Refusal;
use crate::host::HOLDER;
use crate::lifecycle::{self, Command, Plan};
use crate::pool::Device;
use crate::volume::{FsType, FsUsage, Volume, VolumeId};

/// How long a change of hands waits for a copy that is under way.
const LOCK_WAIT: Duration = Duration::from_secs(30);
const MACHINE_ID_LEN_MAX: usize = 64;

/// What a guest's file system looks like.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct UsageReport {
    /// Who reports.
    pub machine_id: String,
    /// The generation it was given.
    pub generation: u64,
    /// A file system was made.
    #[serde(default)]
    pub formatted: Option<bool>,
    /// Which.
    #[serde(default)]
    pub fstype: Option<String>,
    /// As statfs counts.
    #[serde(default)]
    pub block_size: Option<u64>,
    /// As statfs counts.
    #[serde(default)]
    pub blocks: Option<u64>,
    /// As statfs counts.
    #[serde(default)]
    pub blocks_free: Option<u64>,
    /// As statfs counts.
    #[serde(default)]
    pub blocks_avail: Option<u64>,
    /// Size of the file system.
    #[serde(default)]
    pub bytes_total: Option<u64>,
    /// Bytes in use.
    #[serde(default)]
    pub bytes_used: Option<u64>,
    /// How the volume is to grow by itself, if it is.
    #[serde(default)]
    pub auto_extend: Option<AutoExtend>,
}

impl Service {
    async fn lock(&self, id: &VolumeId) -> Result<OwnedMutexGuard<()>, Refusal> {
        let locked = tokio::time::timeout(LOCK_WAIT, self.ctx.locks.lock(id)).await;
        locked.map_err(|_| {
            Refusal::unavailable(format!(
                "volume {id} is being copied at this moment; try again when that has ended"
            ))
        })
    }

    async fn device_of(&self, volume: &Volume) -> Result<Device, Refusal> {
        let opened = self.ctx.device(volume).await;
        opened.map_err(|why| Refusal::internal(format!("volume {} cannot be opened: {why}", volume.id)))
    }

    /// Gives a volume to a machine. The same machine again gets the same answer; the generation grows by one for a new
    /// holder.
    ///
    /// # Errors
    /// 409 when it is not ready, 412 when another machine has it or it is deleted, 503 while it is being copied.
    pub async fn attach(&self, id: &VolumeId, machine_id: &str) -> Result<(Volume, Device), Refusal> {
        check_machine(machine_id)?;
        let _held = self.lock(id).await?;
        let volume = self.volume(id).await?;
        let command = Command::Attach {
            machine_id: machine_id.to_owned(),
        };
        lifecycle::plan(&volume, &command)?;
        // Before the record: a volume that cannot be opened is not handed out.
        let device = self.device_of(&volume).await?;
        let (id, machine_id, now) = (id.clone(), machine_id.to_owned(), self.ctx.clock.now());
        let attached = self.ctx.catalog.transact(move |tx| {
            let volume = tx
                .volume(&id)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            match lifecycle::plan(&volume, &command)? {
                Plan::Already => return Ok(volume),
                Plan::Go | Plan::CancelCreation => {}
            }
            let message = format!("attached to machine {machine_id}");
            tx.event(&NewEvent {
                at: now,
                subject: id.to_string(),
                kind: "attached",
                message,
            })?;
            Ok(tx.edit_volume(&id, |v| {
                v.attached_machine_id = Some(machine_id);
                v.generation += 1;
                v.ever_attached = true;
                v.updated_at = now;
            })?)
        });
        Ok((attached.await.map_err(refusal)?, device))
    }

    /// Tells the holder of a volume how to open it, before each start.
    ///
    /// # Errors
    /// 404 when nobody holds it, 503 while it is being copied.
    pub async fn attachment(&self, id: &VolumeId) -> Result<(Volume, Device), Refusal> {
        let _held = self.lock(id).await?;
        let volume = self.volume(id).await?;
        lifecycle::plan(&volume, &Command::Open)?;
        let device = self.device_of(&volume).await?;
        Ok((volume, device))
    }

    /// Takes a volume from its machine.
    ///
    /// # Errors
    /// 409 for a machine that does not hold it or an old generation, 503 while it is being copied.
    pub async fn detach(&self, id: &VolumeId, machine_id: &str, generation: u64) -> Result<Volume, Refusal> {
        check_machine(machine_id)?;
        let _held = self.lock(id).await?;
        let command = Command::Detach {
            machine_id: machine_id.to_owned(),
            generation,
        };
        let (subject, machine_id, now) = (id.clone(), machine_id.to_owned(), self.ctx.clock.now());
        let detached = self.ctx.catalog.transact(move |tx| {
            let volume = tx
                .volume(&subject)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            match lifecycle::plan(&volume, &command)? {
                Plan::Already => return Ok(volume),
                Plan::Go | Plan::CancelCreation => {}
            }
            let message = format!("detached from machine {machine_id}");
            tx.event(&NewEvent {
                at: now,
                subject: subject.to_string(),
                kind: "detached",
                message,
            })?;
            Ok(tx.edit_volume(&subject, |v| {
                v.attached_machine_id = None;
                v.updated_at = now;
            })?)
        });
        let volume = detached.await.map_err(refusal)?;
        if let Err(why) = self.ctx.release(&volume).await {
            // The record counts; a device that is still up is taken down at the next attach.
            tracing::warn!(volume_id = %id, why, "device not deactivated");
        }
        self.nudge_captures(id).await;
        Ok(volume)
    }

    /// Wakes snapshots that wait for a volume that nobody writes to.
    pub(super) async fn nudge_captures(&self, id: &VolumeId) {
        let wanted = id.clone();
        if let Ok(snapshots) = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.snapshots_of(&wanted)?))
            .await
        {
            for snapshot in snapshots.iter().filter(|s| s.in_progress()) {
                self.runner.nudge(snapshot.id.as_str());
            }
        }
    }

    /// Keeps what the guest says about its file system, and extends the volume where its machine wishes that.
    ///
    /// # Errors
    /// 409 for a machine that does not hold the volume or an old generation, 422 for numbers that cannot be.
    pub async fn report(&self, id: &VolumeId, report: UsageReport) -> Result<Volume, Refusal> {
        check_machine(&report.machine_id)?;
        let fstype = match report.fstype.as_deref() {
            None | Some("") => None,
            Some(text) => Some(FsType::parse(text).ok_or_else(|| {
                Refusal::invalid(format!("fstype {text:?} is unknown; use ext4, xfs or raw"))
            })?),
        };
        if report
            .bytes_used
            .zip(report.bytes_total)
            .is_some_and(|(used, total)| used > total)
        {
            return Err(Refusal::invalid("bytes_used must not be more than bytes_total"));
        }
        let command = Command::Report {
            machine_id: report.machine_id.clone(),
            generation: report.generation,
        };
        let auto_extend = report.auto_extend;
        auto_extend.as_ref().map_or(Ok(()), AutoExtend::check)?;
        let id = id.clone();
        let reported = self.ctx.catalog.transact(move |tx| {
            let volume = tx
                .volume(&id)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            lifecycle::plan(&volume, &command)?;
            Ok(tx.edit_volume(&id, |v| merge(v, &report, fstype))?)
        });
        let volume = reported.await.map_err(refusal)?;
        if let Some(wish) = auto_extend {
            self.auto_extend(&volume, wish).await;
        }
        Ok(volume)
    }
}

/// A file system this close to its device has grown.
const GROWN_PER_CENT: u64 = 80;

fn merge(volume: &mut Volume, report: &UsageReport, fstype: Option<FsType>) {
    // Once formatted, always formatted: nothing that a guest says makes its volume be formatted again.
    volume.formatted |= report.formatted.unwrap_or(false);
    if volume.formatted {
        volume.fstype = fstype.unwrap_or(volume.fstype);
    }
    let old = volume.usage.unwrap_or_default();
    let usage = FsUsage {
        block_size: report.block_size.unwrap_or(old.block_size),
        blocks: report.blocks.unwrap_or(old.blocks),
        blocks_free: report.blocks_free.unwrap_or(old.blocks_free),
        blocks_avail: report.blocks_avail.unwrap_or(old.blocks_avail),
        bytes_total: report.bytes_total.unwrap_or(old.bytes_total),
        bytes_used: report.bytes_used.unwrap_or(old.bytes_used),
    };
    if report
        .bytes_total
        .is_some_and(|total| total >= volume.size.bytes() / 100 * GROWN_PER_CENT)
    {
        volume.needs_restart = false;
    }
    volume.usage = Some(usage);
}

fn check_machine(id: &str) -> Result<(), Refusal> {
    if id == HOLDER {
        return Err(Refusal::invalid(format!(
            "machine_id must not be {HOLDER:?}, which stands for the host itself"
        )));
    }
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=MACHINE_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(valid) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "machine_id is required: 1 to 64 letters, digits, - and _",
    ))
}
