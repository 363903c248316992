//! Mount and unmount on the host: device, file system, mount point, each looked at before it is touched.
//!
//! The record comes first and goes last: while the host may have anything of a volume, nobody else gets it. What the kernel
//! has is gone after a boot; `remount` then makes it again.

use std::path::PathBuf;

use operation::{Outcome, Record, StepSpec};
use serde_json::json;

use super::{Context, Run, StepError, volume_subject};
use crate::catalog::Change;
use crate::host::{Content, HostError};
use crate::pool::{Device, PoolError};
use crate::volume::Volume;

/// Name of the operation that mounts a volume.
pub const MOUNT: &str = "mount";
/// Name of the operation that mounts a volume again, after a boot.
pub const REMOUNT: &str = "remount";
/// Name of the operation that unmounts a volume.
pub const UNMOUNT: &str = "unmount";
pub(super) const MOUNT_STEPS: &[StepSpec] = &[
    StepSpec::new("map"),
    StepSpec::new("format"),
    StepSpec::new("mount"),
];
pub(super) const UNMOUNT_STEPS: &[StepSpec] = &[StepSpec::new("unmount"), StepSpec::new("unmap")];

impl From<HostError> for StepError {
    fn from(error: HostError) -> Self {
        let sentence = super::chain(&error);
        match error {
            HostError::Occupied { .. } | HostError::NotEmpty { .. } | HostError::Busy { .. } => {
                Self::Refused(sentence)
            }
            HostError::Io { .. } | HostError::Command(_) | HostError::Output { .. } => Self::Broken(sentence),
        }
    }
}

/// A volume on its way to, or on, a directory of the host.
struct Target {
    volume: Volume,
    /// None when its slice is gone.
    device: Option<Device>,
    path: PathBuf,
}

impl Target {
    fn device(&self) -> Result<&Device, StepError> {
        let lost = || StepError::Broken(format!("the slice of volume {} is not there", self.volume.id));
        self.device.as_ref().ok_or_else(lost)
    }
}

async fn target(ctx: &Context, record: &Record) -> Result<Target, StepError> {
    let volume = ctx.volume(&volume_subject(record)?).await?;
    let path = volume.host_path.clone();
    let path = path.ok_or_else(|| StepError::Broken(format!("volume {} is not the host's", volume.id)))?;
    let slice = ctx.slice(&volume)?;
    let device = match ctx.pool(&volume.pool)?.activate(&slice).await {
        Ok(device) => Some(device),
        Err(PoolError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Target { volume, device, path })
}

pub(super) async fn map(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let target = target(ctx, record).await?;
    let block = ctx.host()?.map(&target.volume.id, target.device()?).await?;
    if target.volume.formatted {
        return Ok(Outcome::done());
    }
    match ctx.host()?.content(&block, target.volume.size.bytes()).await? {
        // Kept: a format that is cut off leaves something, and may then be done again.
        Content::Blank => Ok(Outcome::Done {
            patch: json!({ "blank": true }),
            change: Change::default(),
        }),
        Content::Something => Err(StepError::Refused(format!(
            "volume {} was never formatted here and is not empty; it is left as it is: attach it to the machine that wrote it",
            target.volume.id
        ))),
    }
}

pub(super) async fn format(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let target = target(ctx, record).await?;
    let blank = record.state.get("blank") == Some(&json!(true));
    if target.volume.formatted || !blank {
        return Ok(Outcome::done());
    }
    let block = ctx.host()?.map(&target.volume.id, target.device()?).await?;
    ctx.host()?.format(&block, target.volume.fstype).await?;
    let id = target.volume.id;
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.formatted = true)?;
        Ok(())
    })))
}

pub(super) async fn mount(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let target = target(ctx, record).await?;
    let (id, fstype, device) = (target.volume.id.clone(), target.volume.fstype, target.device()?);
    let block = ctx.host()?.map(&id, device).await?;
    ctx.host()?.mount(&block, &target.path, fstype).await?;
    // It may have been extended while it was nowhere. A file system that cannot be grown can be used all the same.
    let grown = ctx.host()?.grow(&id, device, &target.path, fstype).await;
    let mut message = format!("mounted on {}", target.path.display());
    let needs_restart = grown.is_err();
    let usage = match grown {
        Ok(usage) => usage,
        Err(error) => {
            let why = super::chain(&error);
            tracing::warn!(volume_id = %id, error = why, "file system of the host not grown");
            let usage = ctx.host()?.usage(&target.path).await?;
            message.push_str(&format!(
                ", but its file system was not grown to the volume's {} GB ({why}): see to that, then detach it and attach it again",
                target.volume.size.get()
            ));
            usage
        }
    };
    let event = ctx.event(id.as_str(), "mounted", message);
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.usage = Some(usage);
            v.needs_restart = needs_restart;
        })?;
        Ok(tx.event(&event)?)
    })))
}

pub(super) async fn unmount(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    take_down(ctx, &target(ctx, record).await?).await?;
    Ok(Outcome::done())
}

async fn take_down(ctx: &Context, target: &Target) -> Result<(), StepError> {
    let (id, host) = (&target.volume.id, ctx.host()?);
    let Some(device) = &target.device else {
        // What is mounted there cannot be told from somebody else's.
        return match host.usage(&target.path).await {
            Ok(_) => Err(StepError::Refused(format!(
                "the slice of volume {id} is not there, but something is mounted on {}: unmount that by hand, then try again",
                target.path.display()
            ))),
            Err(_) => Ok(()),
        };
    };
    host.unmount(id, device, &target.path).await?;
    host.unmap(id, device).await?;
    Ok(())
}

/// Gives the volume back. Also how a mount that did not come to be is undone.
pub(super) async fn unmap(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let target = target(ctx, record).await?;
    take_down(ctx, &target).await?;
    if target.device.is_some() {
        let slice = ctx.slice(&target.volume)?;
        ctx.pool(&target.volume.pool)?.deactivate(&slice).await?;
    }
    let now = ctx.clock.now();
    let id = target.volume.id;
    let message = format!("not mounted on {} any more", target.path.display());
    let event = ctx.event(id.as_str(), "unmounted", message);
    Ok(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.attached_machine_id = None;
            v.host_path = None;
            v.updated_at = now;
        })?;
        Ok(tx.event(&event)?)
    }))
}

/// What a failed remount leaves: the volume stays the host's, and the operator hears of it.
pub(super) fn told(ctx: &Context, record: &Record) -> Change {
    let why = match &record.status {
        operation::Status::Undoing { why, .. } => why.clone(),
        _ => "given up".to_owned(),
    };
    let message = format!("cannot be mounted again: {why}; detach it, or put that right and restart volumed");
    let event = ctx.event(&record.subject, "mount_failed", message);
    Change::new(move |tx| Ok(tx.event(&event)?))
}

#[cfg(test)]
mod tests;
