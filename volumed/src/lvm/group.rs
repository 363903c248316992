//! One volume group: one command at a time, and after every change a fresh look.
//!
//! An exit code alone is not believed. LVM calls it a failure to extend to the size that is there, or to remove what is
//! gone; and a command that was killed may have done its work. So a change names what should hold afterwards, the group is
//! read again, and that reading decides. The exit code says why it does not hold.
//!
//! Nor is a change on the disk when LVM returns: LVM 2.03 writes its metadata past the page cache and never flushes the
//! device. So the physical volumes are flushed after a reading that shows a state of the group not flushed before, whoever
//! made it, and before the reading is told to anybody: what it shows is durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::report::{self, LV_FIELDS, Lv, ReportError, VG_FIELDS, Vg};
use super::status::{self, PoolStatus, SnapshotStatus, StatusError};
use super::tags;
use crate::command::{CommandError, Commands, Invocation, Output, Program};

#[cfg(test)]
mod tests;

/// Which devices LVM may look at. Never all: a guest's own physical volume inside one of our volumes is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These.
    Devices(Vec<PathBuf>),
    /// Those of a devices file below `/etc/lvm/devices`.
    File(String),
}

/// How a volume group is driven.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// Its name.
    pub vg: String,
    /// What LVM may look at.
    pub scope: Scope,
    /// Whether a udev daemon answers on this host.
    pub udev: bool,
    /// Where device nodes are: `/dev/mapper`.
    pub mapper: PathBuf,
}

/// Why a volume group did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// A command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Its report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A status line.
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// The group at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The group itself.
    pub vg: Vg,
    /// Its logical volumes, hidden ones included.
    pub lvs: Vec<Lv>,
}

impl Report {
    /// Returns a volume that is not a part of another.
    pub fn lv(&self, name: &str) -> Option<&Lv> {
        self.lvs.iter().find(|lv| lv.name == name && !lv.hidden)
    }

    /// Returns the copy-on-write snapshots of a linear volume.
    pub fn cow_snapshots<'a>(&'a self, origin: &'a str) -> impl Iterator<Item = &'a Lv> {
        let of = move |lv: &&Lv| lv.is_cow_snapshot() && lv.origin.as_deref() == Some(origin);
        self.lvs.iter().filter(of)
    }
}

/// A volume group. Pools in one group share it.
#[derive(Debug)]
pub struct VolumeGroup {
    settings: GroupSettings,
    commands: Arc<dyn Commands>,
    turn: Mutex<Option<u64>>,
}

/// The right to run commands, with the number of the group's newest state that is on the disks for sure. None after a
/// command that may have written a newer one.
type Turn<'a> = MutexGuard<'a, Option<u64>>;

impl VolumeGroup {
    /// Drives a group by `commands`.
    pub fn new(settings: GroupSettings, commands: Arc<dyn Commands>) -> Self {
        Self {
            settings,
            commands,
            // An earlier process may have been killed between a change and its flush.
            turn: Mutex::new(None),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.settings.vg
    }

    /// Returns what runs its commands.
    pub fn commands(&self) -> &Arc<dyn Commands> {
        &self.commands
    }

    /// Returns where device nodes are.
    pub fn mapper(&self) -> &Path {
        &self.settings.mapper
    }

    /// Returns a volume as LVM's commands name it.
    pub fn path(&self, lv: &str) -> String {
        format!("{}/{lv}", self.settings.vg)
    }

    /// Returns device-mapper's name of a volume: dashes are doubled.
    pub fn mapper_name(&self, lv: &str) -> String {
        let double = |text: &str| text.replace('-', "--");
        format!("{}-{}", double(&self.settings.vg), double(lv))
    }

    /// Returns the device node of an active volume.
    pub fn device(&self, lv: &str) -> PathBuf {
        self.settings.mapper.join(self.mapper_name(lv))
    }

    /// Returns a command of LVM with the options that every one gets.
    pub fn lvm(&self, command: &str, args: &[&str]) -> Invocation {
        let mut words = vec![command.to_owned(), "--config".to_owned(), self.config()];
        match &self.settings.scope {
            Scope::Devices(devices) => {
                for device in devices {
                    words.extend(["--devices".to_owned(), device.display().to_string()]);
                }
            }
            Scope::File(name) => words.extend(["--devicesfile".to_owned(), name.clone()]),
        }
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        Invocation::new(Program::Lvm, words)
    }

    fn config(&self) -> String {
        let udev = if self.settings.udev {
            ""
        } else {
            " udev_sync=0 udev_rules=0"
        };
        // Growing is ours to do, so dmeventd does not; each change leaves an archive file, so few are kept.
        format!(
            "global{{use_lvmpolld=0 wait_for_locks=1}} devices{{issue_discards=1 scan_lvs=0}} \
             activation{{monitoring=0{udev}}} backup{{retain_min=10 retain_days=1}}"
        )
    }

    /// Reads the group.
    ///
    /// # Errors
    /// [`GroupError`]; also when there is no such group.
    pub async fn report(&self) -> Result<Report, GroupError> {
        self.read(&mut self.turn.lock().await).await
    }

    async fn read(&self, turn: &mut Turn<'_>) -> Result<Report, GroupError> {
        let form = ["--reportformat", "json", "--units", "b", "--nosuffix", "-o"];
        let fields = format!("{LV_FIELDS},{VG_FIELDS}");
        let lvs = [&["-a"], &form[..], &[&fields, self.name()]].concat();
        let json = self.commands.succeed(&self.lvm("lvs", &lvs)).await?;
        let lvs = report::lvs(&json)?;
        let vg = match report::vg_of_lvs(&json)? {
            Some(vg) => vg,
            None => {
                let vgs = [&form[..], &[VG_FIELDS, self.name()]].concat();
                report::vg(&self.commands.succeed(&self.lvm("vgs", &vgs)).await?)?
            }
        };
        if **turn != Some(vg.seqno) {
            self.flush().await?;
            **turn = Some(vg.seqno);
        }
        Ok(Report { vg, lvs })
    }

    /// Changes the group by one command, and returns how it is then.
    ///
    /// * `holds`: says what is not as it should be, or nothing.
    ///
    /// # Errors
    /// [`GroupError`] when `holds` does not, whatever the exit code was.
    pub async fn change(
        &self,
        command: &str,
        args: &[&str],
        holds: impl Fn(&Report) -> Result<(), String> + Send,
    ) -> Result<Report, GroupError> {
        self.change_and_tell(command, args, holds)
            .await
            .map(|(report, _)| report)
    }

    /// Changes the group as [`change`](Self::change) does, and tells what the command complained of although `holds`
    /// does: for changes of which a report does not show all.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub async fn change_and_tell(
        &self,
        command: &str,
        args: &[&str],
        holds: impl Fn(&Report) -> Result<(), String> + Send,
    ) -> Result<(Report, Option<CommandError>), GroupError> {
        let mut turn = self.turn.lock().await;
        let call = self.lvm(command, args);
        let ran = self.run(&mut turn, &call).await?;
        self.settle(&mut turn, &call, ran, holds).await
    }

    /// Changes the group by one command that the next change depends on: that one's `holds` looks at what this one was for
    /// too, so the group is read here only when the command did not end well.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub async fn change_first(
        &self,
        command: &str,
        args: &[&str],
        holds: impl Fn(&Report) -> Result<(), String> + Send,
    ) -> Result<(), GroupError> {
        let mut turn = self.turn.lock().await;
        let call = self.lvm(command, args);
        match self.run(&mut turn, &call).await? {
            Ok(output) if output.code == 0 => Ok(()),
            ran => self.settle(&mut turn, &call, ran, holds).await.map(drop),
        }
    }

    /// Runs a command that changes the group.
    async fn run(
        &self,
        turn: &mut Turn<'_>,
        call: &Invocation,
    ) -> Result<Result<Output, CommandError>, GroupError> {
        if turn.is_none() {
            self.flush().await?;
        }
        // Before the command: this future may be dropped while it runs.
        **turn = None;
        Ok(self.commands.run(call).await)
    }

    /// Reads the group after a command, and says whether what it was for is so.
    async fn settle(
        &self,
        turn: &mut Turn<'_>,
        call: &Invocation,
        ran: Result<Output, CommandError>,
        holds: impl Fn(&Report) -> Result<(), String> + Send,
    ) -> Result<(Report, Option<CommandError>), GroupError> {
        if matches!(ran, Err(CommandError::TimedOut { .. })) {
            self.resume(turn).await?;
        }
        let after = self.read(turn).await?;
        match holds(&after) {
            Ok(()) => {
                let complaint = failure(call, ran);
                if let Some(why) = &complaint {
                    tracing::warn!(error = %why, "command of LVM complained, and what it was for is so");
                }
                Ok((after, complaint))
            }
            Err(missing) => Err(failure(call, ran)
                .unwrap_or_else(|| CommandError::NoEffect {
                    line: call.line(),
                    missing,
                })
                .into()),
        }
    }

    /// Makes durable what LVM wrote last.
    async fn flush(&self) -> Result<(), GroupError> {
        let devices = match &self.settings.scope {
            Scope::Devices(devices) => devices.clone(),
            Scope::File(_) => {
                let whose = format!("vg_name={}", self.name());
                let form = ["--reportformat", "json", "-o", "pv_name", "-S", &whose];
                report::pvs(&self.commands.succeed(&self.lvm("pvs", &form)).await?)?
            }
        };
        for device in devices {
            let call = Invocation::new(Program::Sync, [device.display().to_string()]);
            match self.commands.succeed(&call).await {
                // LVM has not written to a disk that is gone.
                Err(error) if !device.exists() => {
                    tracing::warn!(device = %device.display(), %error, "missing disk not flushed");
                }
                flushed => drop(flushed?),
            }
        }
        Ok(())
    }

    /// Wakes volumes of ours, and pools, that a killed command left suspended: whoever uses them hangs.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn resume_suspended(&self) -> Result<(), GroupError> {
        self.resume(&mut self.turn.lock().await).await
    }

    async fn resume(&self, turn: &mut Turn<'_>) -> Result<(), GroupError> {
        for lv in self.read(turn).await?.lvs {
            let ours = lv.has_tag(tags::OURS) || lv.is_thin_pool();
            if ours && lv.suspended {
                tracing::warn!(lv = lv.name, "suspended volume resumed");
                let call = Invocation::new(
                    Program::Dmsetup,
                    ["resume".to_owned(), self.mapper_name(&lv.name)],
                );
                self.commands.succeed(&call).await?;
            }
        }
        Ok(())
    }

    async fn status(&self, name: String) -> Result<String, CommandError> {
        let call = Invocation::new(Program::Dmsetup, ["status".to_owned(), name]);
        self.commands.succeed(&call).await
    }

    /// Reads the status of an active thin pool, without the group's lock.
    ///
    /// # Errors
    /// [`GroupError`]; also when it is not active.
    pub async fn pool_status(&self, pool: &str) -> Result<PoolStatus, GroupError> {
        let line = match self.status(self.used_pool(pool)).await {
            // LVM puts another device below it only when it has volumes.
            Err(CommandError::Failed { .. }) => self.status(self.mapper_name(pool)).await?,
            other => other?,
        };
        Ok(status::thin_pool(&line)?)
    }

    /// Returns device-mapper's name of a thin pool that has volumes.
    fn used_pool(&self, pool: &str) -> String {
        format!("{}-tpool", self.mapper_name(pool))
    }

    /// Reads the status of an active copy-on-write snapshot.
    ///
    /// # Errors
    /// As [`pool_status`](Self::pool_status).
    pub async fn snapshot_status(&self, lv: &str) -> Result<SnapshotStatus, GroupError> {
        Ok(status::snapshot(&self.status(self.mapper_name(lv)).await?)?)
    }

    /// Sends a message to an active thin pool.
    ///
    /// # Errors
    /// [`GroupError::Command`].
    pub async fn pool_message(&self, pool: &str, message: &str) -> Result<(), GroupError> {
        let call = |device: &str| Invocation::new(Program::Dmsetup, ["message", device, "0", message]);
        let Err(error) = self.commands.succeed(&call(&self.used_pool(pool))).await else {
            return Ok(());
        };
        // As in `pool_status`: without volumes there is one device less. The first answer is the better one.
        match self.commands.succeed(&call(&self.mapper_name(pool))).await {
            Ok(_) => Ok(()),
            Err(_) => Err(error.into()),
        }
    }
}

/// Returns why a run is not a success.
fn failure(call: &Invocation, ran: Result<Output, CommandError>) -> Option<CommandError> {
    match ran {
        Ok(output) if output.code == 0 => None,
        Ok(output) => Some(output.failure(call)),
        Err(error) => Some(error),
    }
}
