//! The housekeeper: begins what is due, adopts what the bucket holds, collects garbage.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backup::{self, GcPolicy, SnapshotRef};
use crate::catalog::{NewEvent, TxError};
use crate::error::Refusal;
use crate::ops::chain;
use crate::schedule::{self, Due, Removal};
use crate::service::Service;
use crate::snapshot::{Snapshot, SnapshotState};

/// Ended operations and events that are kept.
const HISTORY_KEEP: u32 = 10_000;

/// What one garbage collection did, over all volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Collected {
    /// Volumes looked at.
    pub volumes: u64,
    /// Objects deleted.
    pub deleted_objects: u64,
    /// Volumes that could not be collected, with the reason.
    pub errors: Vec<String>,
}

impl Service {
    /// Runs the housekeeper until `shutdown`.
    pub async fn sweep_until(self, shutdown: CancellationToken) {
        let settings = &self.context().settings;
        let mut next_gc = Instant::now() + settings.gc_interval;
        loop {
            self.sweep_once().await;
            if Instant::now() >= next_gc {
                let collected = self.collect_garbage().await;
                info!(
                    volumes = collected.volumes,
                    deleted = collected.deleted_objects,
                    "garbage collected"
                );
                next_gc = Instant::now() + settings.gc_interval;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(settings.sweep_interval) => {}
            }
        }
    }

    /// Begins everything that is due now.
    pub async fn sweep_once(&self) {
        self.watch_pools().await;
        if let Err(error) = self.begin_due().await {
            warn!(error = %error, "housekeeping put off");
        }
        self.measure_mounts().await;
        // Once is enough: every later snapshot of this bucket is made here. A listing costs a GET a snapshot.
        if !self.adopted_once()
            && let Err(error) = self.adopt(ADOPT_TIMEOUT).await
        {
            warn!(error, "bucket not listed");
        }
        // Somebody may have removed them, or brought what says whose they are.
        if self.knows_of_unknown_slices()
            && let Err(error) = self.adopt_slices().await
        {
            warn!(error = %error, "slices that nobody knows not looked at");
        }
    }

    /// Says whether the wall clock is believed enough to remove something.
    fn removal(&self) -> Removal {
        let (wall, machine) = (self.context().clock.now(), self.uptime());
        match self.clock_watch().look(wall, machine) {
            true => Removal::Due,
            false => Removal::Waits,
        }
    }

    async fn begin_due(&self) -> Result<(), TxError> {
        let ctx = self.context();
        let (volumes, snapshots) = ctx
            .catalog
            .transact(|tx| {
                tx.trim_history(HISTORY_KEEP)?;
                Ok((tx.volumes()?, tx.snapshots()?))
            })
            .await?;
        let due = schedule::due(
            ctx.clock.now(),
            ctx.settings.snapshot_interval,
            self.removal(),
            &volumes,
            &snapshots,
        );
        for due in due {
            let begun: Result<(), Refusal> = match due.clone() {
                Due::Snapshot { volume, slot } => self.begin_scheduled(&volume, slot).await,
                Due::Expire { snapshot } => self.begin_expire(&snapshot).await.map(drop),
                Due::Purge { volume } => self.begin_purge(&volume).await,
            };
            if let Err(refusal) = begun {
                info!(due = ?due, why = %refusal, "not begun; tried again later");
            }
        }
        Ok(())
    }

    /// Brings snapshots that the bucket holds and the catalog does not know into the catalog. Returns how many.
    ///
    /// # Errors
    /// A sentence when the store does not answer within `timeout`.
    pub async fn adopt(&self, timeout: Duration) -> Result<usize, String> {
        let ctx = self.context();
        let backups = ctx.backups();
        let listed = tokio::time::timeout(timeout, backup::list(&backups)).await;
        let listing = match listed {
            Err(_) => return Err("the object store does not answer".to_owned()),
            Ok(Err(error)) => return Err(chain(&error)),
            Ok(Ok(listing)) => listing,
        };
        let (sealed, damaged) = listing.by_other_keys();
        for damage in damaged {
            warn!(damage = %damage, "manifest in the bucket cannot be read");
        }
        for (key, snapshots) in &sealed {
            warn!(
                cluster_key_id = key,
                snapshots,
                "snapshots in the bucket are sealed under another cluster key; import it to see them (`hangar key import`)"
            );
        }
        self.note_other_keys(sealed);
        let found: Vec<Snapshot> = listing.heads.iter().filter_map(Snapshot::adopted).collect();
        let now = ctx.clock.now();
        let adopted = ctx.catalog.transact(move |tx| {
            let mut adopted = 0;
            for snapshot in found {
                // Deleted ones are known too: a listing that began before the deletion brings nothing back.
                if tx.snapshot(&snapshot.id)?.is_some() {
                    continue;
                }
                tx.put_snapshot(&snapshot)?;
                let message = format!("snapshot {} was found in the bucket", snapshot.id);
                let subject = snapshot.volume_id.to_string();
                tx.event(&NewEvent {
                    at: now,
                    subject,
                    kind: "snapshot_found",
                    message,
                })?;
                adopted += 1;
            }
            Ok(adopted)
        });
        let adopted = adopted.await.map_err(|error| chain(&error))?;
        self.mark_adopted();
        // Now it is known whose what lies in the pools may be.
        self.adopt_slices().await.map_err(|refusal| refusal.to_string())?;
        Ok(adopted)
    }

    /// Collects the garbage of every volume that has anything in the bucket.
    pub async fn collect_garbage(&self) -> Collected {
        let ctx = self.context();
        let backups = ctx.backups();
        let mut collected = Collected::default();
        let volumes = match backup::volumes(&backups).await {
            Ok(volumes) => volumes,
            Err(error) => {
                collected.errors.push(chain(&error));
                return collected;
            }
        };
        // Read before the bucket is: what is deleted since has a void manifest there, for days.
        let kept = match self.snapshots(None).await {
            Ok(snapshots) => snapshots,
            Err(error) => {
                collected.errors.push(error.sentence);
                return collected;
            }
        };
        let policy = GcPolicy {
            grace: ctx.settings.gc_grace,
            ..GcPolicy::default()
        };
        for volume in volumes {
            collected.volumes += 1;
            let kept: Vec<SnapshotRef> = kept
                .iter()
                .filter(|s| s.volume_id.as_str() == volume && s.state == SnapshotState::Created)
                .filter_map(|s| SnapshotRef::new(&volume, s.id.as_str()).ok())
                .collect();
            match backup::gc(&backups, &volume, &kept, ctx.clock.now(), &policy).await {
                Ok(report) => collected.deleted_objects += report.swept_blocks + report.tombstones,
                Err(error) => collected.errors.push(format!("{volume}: {}", chain(&error))),
            }
        }
        collected
    }
}

const ADOPT_TIMEOUT: Duration = Duration::from_secs(30);
