//! A disk comes to this host, and goes from it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use objstore::Remedy;

use super::{BottomlessPool, LABEL, NAME, OPEN_WITHIN, io, later, unfit};
use crate::disk::{self, LookError, Settings, Standing, Status};
use crate::ops::chain;
use crate::pool::PoolError;
use crate::pool::moves::{Claim, Claimed, Moves};
use crate::volume::VolumeId;

/// The exit code of a process that found another host owning its disk.
const ELSEWHERE: i32 = 4;

/// Disks on the move: nobody else starts or ends their processes, or speaks for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Moving(Arc<Mutex<HashSet<VolumeId>>>);

/// As long as it lives the disk is on the move.
#[derive(Debug)]
struct OnTheMove(Moving, VolumeId);

impl Moving {
    pub(super) fn contains(&self, id: &VolumeId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    fn begin(&self, id: &VolumeId) -> OnTheMove {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone());
        OnTheMove(self.clone(), id.clone())
    }
}

impl Drop for OnTheMove {
    fn drop(&mut self) {
        let Self(moving, id) = self;
        moving.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

fn looked(error: LookError) -> PoolError {
    match error.remedy() {
        Remedy::FixData => unfit(chain(&error)),
        _ => later(chain(&error)),
    }
}

impl BottomlessPool {
    fn settings(&self, id: &VolumeId) -> Result<Settings, PoolError> {
        Settings::load(&self.dir(id).settings(), id).map_err(|error| later(chain(&error)))
    }

    /// What the disk is to this host; none of its processes runs.
    async fn standing(&self, id: &VolumeId) -> Result<Standing, PoolError> {
        let (cluster_key, _) = self.keys.of(id).await.map_err(later)?;
        let settings = self.settings(id)?;
        let standing = disk::standing(Arc::clone(&self.store), &cluster_key, &settings);
        standing.await.map_err(looked)
    }

    /// Serves the disk; that another host has it is no reason to ask again.
    async fn served(&self, id: &VolumeId) -> Result<Status, PoolError> {
        let served = self.processes.serving(id, &self.dir(id), OPEN_WITHIN).await;
        served.map_err(|why| match self.processes.exit_code(id) {
            Some(ELSEWHERE) => unfit(format!("volume {id} is another host's: {why}")),
            _ => later(why),
        })
    }

    async fn remove_files(&self, id: &VolumeId) -> Result<(), PoolError> {
        let (disk, path) = (Arc::clone(&self.disk), self.dir(id).path().to_owned());
        let removed = tokio::task::spawn_blocking(move || match disk.remove_dir_all(LABEL, &path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        });
        removed
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(io("delete", id))
    }

    fn remove_mark(&self, id: &VolumeId, mark: &Path) -> Result<(), PoolError> {
        match self.disk.remove_file(LABEL, mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("unmark", id)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn end_process(&self, id: &VolumeId) -> Result<(), PoolError> {
        self.processes.end(id, &self.dir(id)).await.map_err(later)
    }

    /// Gives the disk up; its files stay.
    async fn give_up(&self, id: &VolumeId) -> Result<(), PoolError> {
        let dir = self.dir(id);
        if self.processes.status(&dir).await.is_none() {
            // One that is starting does not answer yet.
            self.end_process(id).await?;
            match self.standing(id).await? {
                Standing::Gone | Standing::Unwritten | Standing::Ours { released: true } => return Ok(()),
                Standing::Elsewhere(last) => {
                    return Err(unfit(format!(
                        "volume {id} went on from journal {}, epoch {}, of another host: what this host has of it counts no \
                         more; destroy it here, which leaves the bucket alone",
                        last.journal, last.epoch.0
                    )));
                }
                Standing::Ours { released: false } => {}
            }
        }
        // Whoever takes it up is to know its newest generation.
        self.teller.tell(id, &self.settings(id)?).await?;
        self.served(id).await?;
        self.processes.drain(&dir).await.map_err(later)?;
        self.end_process(id).await
    }
}

#[async_trait]
impl Moves for BottomlessPool {
    async fn claim(&self, id: &VolumeId, claim: &Claim) -> Result<Claimed, PoolError> {
        let _moving = self.moving.begin(id);
        if !self.is_made(id) {
            let local = self.prepare(id)?;
            let (_, wrapped_key) = self.keys.of(id).await.map_err(later)?;
            let settings = Settings::new(id.clone(), claim.size_bytes, wrapped_key, local);
            claim
                .serving
                .of(settings)
                .save(&*self.disk, &self.dir(id).settings())
                .map_err(|error| later(chain(&error)))?;
        }
        if let Some(over) = claim.force_over {
            let permitted = disk::permit(&*self.disk, &self.dir(id), over);
            permitted.map_err(|error| later(chain(&error)))?;
        }
        let status = self.served(id).await?;
        let figures = status
            .figures
            .ok_or_else(|| later("the disk ended while it was looked at"))?;
        self.teller.take_the_word(id).await?;
        self.teller.tell(id, &self.settings(id)?).await?;
        Ok(Claimed {
            size_bytes: figures.size_now_bytes,
            written: figures.stored_bytes > 0 || figures.live_bytes > 0,
        })
    }

    async fn unclaim(&self, id: &VolumeId) -> Result<(), PoolError> {
        let _moving = self.moving.begin(id);
        self.remove_mark(id, &self.dir(id).force())?;
        self.end_process(id).await?;
        if self.is_made(id)
            && let Standing::Ours { released: false } = self.standing(id).await?
        {
            match self.give_up(id).await {
                // Another host took it this moment.
                Ok(()) | Err(PoolError::Unfit { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.remove_files(id).await
    }

    async fn release(&self, id: &VolumeId) -> Result<(), PoolError> {
        let _moving = self.moving.begin(id);
        if !self.is_made(id) {
            return Err(PoolError::Missing {
                pool: NAME.to_owned(),
                slice: id.to_string(),
            });
        }
        // Left by an attachment that was refused in the end.
        self.remove_mark(id, &self.wanted_mark(id))?;
        self.give_up(id).await
    }

    async fn keep(&self, id: &VolumeId) -> Result<(), PoolError> {
        let _moving = self.moving.begin(id);
        self.end_process(id).await
    }

    async fn forget(&self, id: &VolumeId) -> Result<(), PoolError> {
        let _moving = self.moving.begin(id);
        self.end_process(id).await?;
        self.remove_files(id).await
    }

    async fn is_elsewhere(&self, id: &VolumeId) -> Result<bool, PoolError> {
        if !self.is_made(id) {
            return Ok(false);
        }
        let _moving = self.moving.begin(id);
        self.end_process(id).await?;
        match self.standing(id).await {
            Ok(standing) => Ok(matches!(standing, Standing::Elsewhere(_))),
            // Nobody can serve it: a damaged disk must be possible to be rid of.
            Err(PoolError::Unfit { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
