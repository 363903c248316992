//! Reading backups back: on request, and slowly all the time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Service, refusal};
use crate::backup::{self, Damage, Progress, RestoreError, SnapshotRef, VerifyError};
use crate::error::Refusal;
use crate::ops::{chain, note_damage};
use crate::scrub::{self, Check, Nowhere, Task};
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{SnapshotId, VolumeId};

/// Blocks in a sample that was asked for without a number.
const BLOCKS_DEFAULT: u32 = 64;

/// What to read back.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ScrubRequest {
    /// Only this volume's newest backup; of every volume when absent.
    pub volume_id: Option<String>,
    /// All of it, as a restore reads it, instead of a sample.
    pub restore: bool,
    /// Blocks of 4 MiB in a sample.
    pub blocks: Option<u32>,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Scrubbed {
    /// The snapshot.
    pub snapshot_id: String,
    /// Its volume.
    pub volume_id: String,
    /// Whether all of it was read.
    pub restored: bool,
    /// Bytes of plaintext that were read and right.
    pub bytes: u64,
    /// What is not as it was stored: the object, and what is wrong with it.
    pub damages: Vec<String>,
}

/// What all looks found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ScrubReport {
    /// By snapshot.
    pub scrubbed: Vec<Scrubbed>,
    /// Snapshots that could not be looked at, and why.
    pub errors: Vec<String>,
}

/// How a look came out.
struct Look {
    bytes: u64,
    damages: Vec<String>,
}

impl Service {
    /// Reads backups back as asked, at full speed.
    ///
    /// # Errors
    /// 404 when the volume has no finished snapshot.
    pub async fn scrub(&self, request: &ScrubRequest) -> Result<ScrubReport, Refusal> {
        let mut newest: std::collections::BTreeMap<VolumeId, Snapshot> = std::collections::BTreeMap::new();
        for snapshot in self.snapshots(None).await? {
            let wanted = request
                .volume_id
                .as_ref()
                .is_none_or(|id| snapshot.volume_id.as_str() == id);
            // They come oldest first.
            if wanted && scrub::is_backup(&snapshot) {
                newest.insert(snapshot.volume_id.clone(), snapshot);
            }
        }
        if let Some(id) = request.volume_id.as_ref().filter(|_| newest.is_empty()) {
            return Err(Refusal::missing(format!(
                "volume {id} has no finished snapshot that could be read back"
            )));
        }
        let check = if request.restore {
            Check::Restore
        } else {
            Check::Sample
        };
        let blocks = request.blocks.unwrap_or(BLOCKS_DEFAULT);
        let mut report = ScrubReport::default();
        for snapshot in newest.into_values() {
            match self.look(&snapshot, check, blocks, 0).await {
                Ok(found) => report.scrubbed.push(found),
                Err(why) => report.errors.push(format!("{}: {why}", snapshot.id)),
            }
        }
        Ok(report)
    }

    /// Reads backups back slowly until `shutdown`.
    pub async fn scrub_until(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.ctx.settings.sweep_interval) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.scrub_once() => {}
            }
        }
    }

    /// Looks at whatever backup is due.
    pub async fn scrub_once(&self) {
        let settings = self.ctx.settings.scrub;
        let records = self
            .ctx
            .catalog
            .transact(|tx| Ok((tx.volumes()?, tx.snapshots()?)))
            .await;
        let (volumes, snapshots) = match records {
            Ok(records) => records,
            Err(error) => return warn!(error = %error, "backups not looked at"),
        };
        let Some(Task { snapshot, check }) =
            scrub::next(self.ctx.clock.now(), &settings, &volumes, &snapshots)
        else {
            return;
        };
        let Some(snapshot) = snapshots.into_iter().find(|s| s.id == snapshot) else {
            return;
        };
        match self
            .look(&snapshot, check, settings.sample_blocks, settings.bytes_per_s)
            .await
        {
            Ok(found) if found.damages.is_empty() => {
                info!(snapshot_id = %snapshot.id, ?check, bytes = found.bytes, "backup read back");
            }
            // Said already, where it was noted.
            Ok(_) => {}
            Err(why) => {
                warn!(snapshot_id = %snapshot.id, ?check, why, "backup not read back");
                // Others get their turn while this one waits for the store.
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Looks at one backup and notes what was found.
    async fn look(
        &self,
        snapshot: &Snapshot,
        check: Check,
        blocks: u32,
        bytes_per_s: u64,
    ) -> Result<Scrubbed, String> {
        let reference = SnapshotRef::new(snapshot.volume_id.as_str(), snapshot.id.as_str());
        let reference = reference.map_err(|e| e.to_string())?;
        let look = match check {
            Check::Sample => self.sample(&reference, blocks, bytes_per_s).await?,
            Check::Restore => {
                self.test_restore(&reference, snapshot.volume_bytes, bytes_per_s)
                    .await?
            }
        };
        self.note_look(&snapshot.id, check, &look.damages)
            .await
            .map_err(|refusal| refusal.to_string())?;
        Ok(Scrubbed {
            snapshot_id: snapshot.id.to_string(),
            volume_id: snapshot.volume_id.to_string(),
            restored: check == Check::Restore,
            bytes: look.bytes,
            damages: look.damages,
        })
    }

    async fn sample(&self, snapshot: &SnapshotRef, blocks: u32, bytes_per_s: u64) -> Result<Look, String> {
        let rest = scrub::rest(backup::BLOCK_BYTES as u64, bytes_per_s);
        let sampled =
            backup::verify_sample(&self.ctx.backups(), snapshot, blocks, rest, &*self.ctx.random).await;
        match sampled {
            Ok(report) => Ok(Look {
                bytes: report.bytes,
                damages: words(&report.damages),
            }),
            Err(error) => match lost(&error) {
                Some(damage) => Ok(damaged(&damage)),
                None => Err(chain(&error)),
            },
        }
    }

    async fn test_restore(
        &self,
        snapshot: &SnapshotRef,
        size_bytes: u64,
        bytes_per_s: u64,
    ) -> Result<Look, String> {
        let nowhere = Nowhere::new(size_bytes, bytes_per_s);
        match backup::restore(&self.ctx.backups(), snapshot, &nowhere, &Progress::default()).await {
            Ok(restored) => Ok(Look {
                bytes: restored.bytes_written,
                damages: Vec::new(),
            }),
            Err(RestoreError::Damaged { source, .. }) => Ok(damaged(&source)),
            Err(RestoreError::Manifest(error)) => match error.damage() {
                Some(damage) => Ok(damaged(&damage)),
                None => Err(chain(&error)),
            },
            Err(error) => Err(chain(&error)),
        }
    }

    /// Keeps what a look found: a damage is told once, and taken back only when all of the backup was right.
    pub(super) async fn note_look(
        &self,
        id: &SnapshotId,
        check: Check,
        damages: &[String],
    ) -> Result<(), Refusal> {
        let (id, now, found) = (id.clone(), self.ctx.clock.now(), damages.first().cloned());
        if let Some(damage) = &found {
            error!(snapshot_id = %id, damage, "backup is damaged");
            self.metrics.backup_damaged();
        }
        let noted = self.ctx.catalog.transact(move |tx| {
            // It may have been deleted while it was read.
            let Some(snapshot) = tx.snapshot(&id)?.filter(|s| s.state == SnapshotState::Created) else {
                return Ok(());
            };
            let whole = check == Check::Restore && found.is_none();
            if let Some(damage) = found {
                note_damage(tx, &id, damage, now, now)?;
            }
            tx.edit_snapshot(&id, |s| {
                s.last_scrubbed = Some(now);
                if whole {
                    (s.last_verified, s.damage, s.damaged_since) = (Some(now), None, None);
                }
            })?;
            if whole && tx.volume(&snapshot.volume_id)?.is_some() {
                tx.edit_volume(&snapshot.volume_id, |v| v.last_verified_restore = Some(now))?;
            }
            Ok(())
        });
        noted.await.map_err(refusal)
    }
}

const RETRY: Duration = Duration::from_secs(300);

/// Returns the damage of a finished snapshot's manifest, if that is why it was not read.
pub(super) fn lost(error: &VerifyError) -> Option<Damage> {
    match error {
        VerifyError::Manifest(source) => source.damage(),
        VerifyError::Store { .. } => None,
    }
}

fn words(damages: &[Damage]) -> Vec<String> {
    damages.iter().map(ToString::to_string).collect()
}

fn damaged(damage: &Damage) -> Look {
    Look {
        bytes: 0,
        damages: vec![damage.to_string()],
    }
}
