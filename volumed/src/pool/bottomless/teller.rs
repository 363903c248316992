//! Sees to it that the bucket says of every volume what its record says, while the record changes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crashsafe::Disk;
use objstore::{ObjectStore, Remedy};
use tokio::time::Instant;

use super::{DiskKeys, later, unfit};
use crate::disk::{DiskDir, Heard, Serving, Settings, Telling};
use crate::keys::DataKey;
use crate::ops::chain;
use crate::pool::PoolError;
use crate::volume::VolumeId;

/// From a try that came to nothing to the next.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// What came of the last try for a disk.
#[derive(Debug, Default)]
struct Last {
    /// Another host has the word: nothing more is said, until this one takes it again.
    unheard: bool,
    not_before: Option<Instant>,
}

type Lasts = HashMap<VolumeId, Arc<tokio::sync::Mutex<Last>>>;

/// Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) keys: Arc<dyn DiskKeys>,
    pub(super) data_dir: PathBuf,
    lasts: Arc<Mutex<Lasts>>,
}

impl Teller {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        store: Arc<dyn ObjectStore>,
        keys: Arc<dyn DiskKeys>,
        data_dir: PathBuf,
    ) -> Self {
        Self {
            disk,
            store,
            keys,
            data_dir,
            lasts: Arc::default(),
        }
    }

    fn last(&self, id: &VolumeId) -> Arc<tokio::sync::Mutex<Last>> {
        let mut lasts = self.lasts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lasts.entry(id.clone()).or_default())
    }

    async fn key(&self, id: &VolumeId) -> Result<DataKey, PoolError> {
        let (cluster_key, wrapped) = self.keys.of(id).await.map_err(later)?;
        cluster_key
            .unwrap(id.as_str(), &wrapped)
            .map_err(|error| unfit(chain(&error)))
    }

    fn telling<'a>(&'a self, dir: &'a DiskDir, id: &'a VolumeId, key: &'a DataKey) -> Telling<'a> {
        Telling {
            store: Arc::clone(&self.store),
            disk: &*self.disk,
            dir,
            volume: id,
            key,
        }
    }

    /// Tells the bucket what the record says now, and waits until it knows.
    pub(super) async fn tell(&self, id: &VolumeId, settings: &Settings) -> Result<Heard, PoolError> {
        let last = self.last(id);
        let mut last = last.lock().await;
        self.tell_as(id, settings, &mut last).await
    }

    async fn tell_as(&self, id: &VolumeId, settings: &Settings, last: &mut Last) -> Result<Heard, PoolError> {
        let Some(facts) = self.keys.facts(id).await.map_err(later)? else {
            return Ok(Heard::NotOurs);
        };
        let (key, dir) = (self.key(id).await?, DiskDir::new(&self.data_dir, id));
        let told = self
            .telling(&dir, id, &key)
            .tell(facts, Serving::from(settings))
            .await;
        let heard = told.map_err(|error| match error.remedy() {
            Remedy::FixData => unfit(chain(&error)),
            _ => later(chain(&error)),
        })?;
        last.unheard = heard == Heard::NotOurs;
        Ok(heard)
    }

    /// Takes the word from whoever had the disk before.
    pub(super) async fn take_the_word(&self, id: &VolumeId) -> Result<(), PoolError> {
        let last = self.last(id);
        let mut last = last.lock().await;
        let (key, dir) = (self.key(id).await?, DiskDir::new(&self.data_dir, id));
        let taken = self.telling(&dir, id, &key).take_the_word().await;
        taken.map_err(|error| later(chain(&error)))?;
        *last = Last::default();
        Ok(())
    }

    /// Tells it in the background, unless somebody is at it, or it came to nothing a moment ago.
    pub(super) fn tell_soon(&self, id: &VolumeId) {
        let Ok(mut last) = self.last(id).try_lock_owned() else {
            return;
        };
        if last.unheard || last.not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let (teller, id) = (self.clone(), id.clone());
        daemon::spawn("disk_about", async move {
            let file = DiskDir::new(&teller.data_dir, &id).settings();
            // Its files may have gone this moment.
            let Ok(settings) = Settings::load(&file, &id) else {
                return;
            };
            match teller.tell_as(&id, &settings, &mut last).await {
                Ok(_) => last.not_before = None,
                Err(error) => {
                    tracing::warn!(volume_id = %id, error = %chain(&error), "the bucket was not told of the volume");
                    last.not_before = Some(Instant::now() + AGAIN_AFTER);
                }
            }
        });
    }
}
