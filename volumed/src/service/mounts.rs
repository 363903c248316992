//! Volumes on the host itself.

use std::path::{Component, Path};

use operation::Record;
use serde_json::json;

use super::{Service, refusal};
use crate::catalog::Change;
use crate::config::on_this_host;
use crate::error::Refusal;
use crate::host::HOLDER;
use crate::lifecycle::{self, Command, Plan};
use crate::ops::{MOUNT, REMOUNT, UNMOUNT, chain};
use crate::volume::{Volume, VolumeId, VolumeState};

impl Service {
    /// Mounts a volume on a directory of the host, formatted first if it never was; it stays so over restarts of volumed and
    /// of the host, until [`unmount`](Self::unmount).
    ///
    /// # Errors
    /// 409 when a machine or another directory has it, 422 for a directory that cannot be used and for what the host
    /// cannot do.
    pub async fn mount(&self, id: &VolumeId, path: &Path) -> Result<Volume, Refusal> {
        check_path(path)?;
        self.check_outside_pools(path)?;
        let volume = self.volume(id).await?;
        let pool = self.pool(&volume.pool)?;
        if !pool.is_open() {
            return Err(Refusal::unavailable(format!(
                "pool {} cannot be used now; `hangar doctor` says why",
                pool.name()
            )));
        }
        let command = Command::Mount {
            path: path.to_owned(),
        };
        if lifecycle::plan(&volume, &command)? == Plan::Already {
            // Somebody may have unmounted it behind our back.
            let mut handle = self
                .submit(id.as_str(), REMOUNT, json!({}), Change::default())
                .await?;
            ended(&self.settle(&mut handle).await?, id, "mounted")?;
            return self.volume(id).await;
        }
        apart_from(path, &self.of_the_host().await)?;
        let (subject, path, now) = (id.clone(), path.to_owned(), self.ctx.clock.now());
        let change = Change::new(move |tx| {
            let others = tx.existing_volumes()?;
            if let Some(other) = others.iter().find(|v| v.host_path.as_ref() == Some(&path)) {
                let sentence = format!("{} is where volume {} is mounted", path.display(), other.id);
                return Err(Refusal::precondition(sentence).into());
            }
            let volume = tx
                .volume(&subject)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            lifecycle::plan(&volume, &command)?;
            tx.edit_volume(&subject, |v| {
                v.attached_machine_id = Some(HOLDER.to_owned());
                v.host_path = Some(path);
                v.generation += 1;
                v.ever_attached = true;
                v.updated_at = now;
            })?;
            Ok(())
        });
        let mut handle = self.submit(id.as_str(), MOUNT, json!({}), change).await?;
        ended(&self.settle(&mut handle).await?, id, "mounted")?;
        self.volume(id).await
    }

    /// A mount inside a pool would hide slices, or be taken for something of the pool's.
    fn check_outside_pools(&self, path: &Path) -> Result<(), Refusal> {
        let real = on_this_host(path);
        let around = self.ctx.pools.all().find(|pool| {
            pool.folder()
                .is_some_and(|folder| real.starts_with(on_this_host(folder)))
        });
        match around {
            None => Ok(()),
            Some(pool) => Err(Refusal::invalid(format!(
                "host_path {} is in the folder of pool {}; choose a directory outside of it",
                path.display(),
                pool.name()
            ))),
        }
    }

    /// Unmounts a volume from the host, which gives it back.
    ///
    /// # Errors
    /// 409 when a machine has it, 422 while files are open on it.
    pub async fn unmount(&self, id: &VolumeId) -> Result<Volume, Refusal> {
        let volume = self.volume(id).await?;
        if lifecycle::plan(&volume, &Command::Unmount)? == Plan::Already {
            return Ok(volume);
        }
        self.pool(&volume.pool)?;
        let begun = self.begin_on_volume(id, UNMOUNT, json!({}), Command::Unmount, |_| {});
        ended(&self.settle(&mut begun.await?).await?, id, "unmounted")?;
        self.nudge_captures(id).await;
        self.volume(id).await
    }

    /// Sees to it that the host has mounted what it should have: after a boot it has nothing.
    pub async fn remount(&self) {
        for volume in self.of_the_host().await {
            let begun = self.submit(volume.id.as_str(), REMOUNT, json!({}), Change::default());
            if let Err(why) = begun.await {
                // Busy with what a crash interrupted, which mounts it too.
                tracing::info!(volume_id = %volume.id, why = %why, "not mounted again");
            }
        }
    }

    /// Counts the file systems that are mounted on the host, as guests report theirs.
    pub(crate) async fn measure_mounts(&self) {
        for volume in self.of_the_host().await {
            let Some(path) = volume.host_path.filter(|_| volume.state == VolumeState::Created) else {
                continue;
            };
            let Some(host) = &self.ctx.host else { return };
            let usage = match host.usage(&path).await {
                Ok(usage) if Some(usage) == volume.usage => continue,
                Ok(usage) => usage,
                Err(error) => {
                    tracing::warn!(volume_id = %volume.id, error = %chain(&error), "mounted volume not measured");
                    continue;
                }
            };
            let id = volume.id.clone();
            let kept = self.ctx.catalog.transact(move |tx| {
                tx.edit_volume(&id, |v| {
                    // It may have been unmounted meanwhile.
                    if v.host_path.is_some() {
                        v.usage = Some(usage);
                    }
                })?;
                Ok(())
            });
            if let Err(error) = kept.await {
                tracing::warn!(volume_id = %volume.id, error = %chain(&error), "usage not kept");
            }
        }
    }

    async fn of_the_host(&self) -> Vec<Volume> {
        let all = self.ctx.catalog.transact(|tx| Ok(tx.existing_volumes()?)).await;
        match all.map_err(refusal) {
            Ok(all) => all.into_iter().filter(|v| v.host_path.is_some()).collect(),
            Err(why) => {
                tracing::warn!(why = %why, "volumes of the host not looked for");
                Vec::new()
            }
        }
    }
}

/// After a boot, when both are mounted again, one would hide the other or keep it from being mounted.
fn apart_from(path: &Path, others: &[Volume]) -> Result<(), Refusal> {
    let real = on_this_host(path);
    let mounted = others.iter().filter_map(|v| Some((v, v.host_path.as_deref()?)));
    for (volume, theirs) in mounted.filter(|(_, theirs)| *theirs != path) {
        let other = on_this_host(theirs);
        let (theirs, path) = (theirs.display(), path.display());
        let sentence = if real == other {
            format!(
                "host_path {path} is {theirs}, where volume {} is mounted",
                volume.id
            )
        } else if real.starts_with(&other) {
            format!(
                "host_path {path} lies in {theirs}, where volume {} is mounted; choose a directory outside of it",
                volume.id
            )
        } else if other.starts_with(&real) {
            format!(
                "volume {} is mounted on {theirs}, which lies in host_path {path}; choose another directory",
                volume.id
            )
        } else {
            continue;
        };
        return Err(Refusal::precondition(sentence));
    }
    Ok(())
}

/// Says that an operation goes on which a request did not see the end of.
fn ended(record: &Record, id: &VolumeId, what: &str) -> Result<(), Refusal> {
    if record.status.ended() {
        return Ok(());
    }
    Err(Refusal::unavailable(format!(
        "volume {id} is still being {what}, and that goes on by itself; volumed's log says what it waits for"
    )))
}

fn check_path(path: &Path) -> Result<(), Refusal> {
    let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    let usable = path.is_absolute()
        && path.components().count() > 1
        && path.components().all(plain)
        // No doubled, trailing or dotted parts: the kernel's table has none, and we look the path up there.
        && path.components().collect::<std::path::PathBuf>().as_os_str() == path.as_os_str();
    if usable {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "host_path must be an absolute path without . and .. to a directory for the mount; got {:?}",
        path.display().to_string()
    )))
}
