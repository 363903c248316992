//! Extend: the slice grows, then the guest hears of it, then its file system grows.
//!
//! The reservation is the record's `extending_to`, made when the operation begins. Once the slice is longer there is no
//! way back, for a guest may have seen it: `grow` is the pivot. The catalog's size follows the slice, never precedes it.

use std::time::Duration;

use operation::{Outcome, Record, StepSpec};
use serde_json::json;

use super::{Context, Run, StepError, volume_subject};
use crate::catalog::Change;
use crate::pool::{Slice, ZeroEnd};
use crate::runner_client::{GrowRequest, RunnerError};
use crate::volume::{SizeGb, VolumeState};

/// Name of the operation.
pub const EXTEND: &str = "extend";
pub(super) const STEPS: &[StepSpec] = &[
    StepSpec::pivot("grow"),
    StepSpec::new("announce"),
    StepSpec::new("settle"),
];

/// How often a machine-runner that does not answer is asked again before the guest is left to its next start.
const ANNOUNCE_ATTEMPTS_MAX: u32 = 12;
const ANNOUNCE_RETRY: Duration = Duration::from_secs(5);
/// File systems keep some of their device for themselves; less than this of it means that they did not grow.
const FS_PER_CENT_MIN: u64 = 80;

fn target(record: &Record) -> Result<SizeGb, StepError> {
    let to = record
        .params
        .get("to_gb")
        .and_then(|gb| serde_json::from_value(gb.clone()).ok());
    to.ok_or_else(|| StepError::Broken("the operation's record has no to_gb".to_owned()))
}

pub(super) async fn grow(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let (id, to) = (volume_subject(record)?, target(record)?);
    let _held = ctx.locks.lock(&id).await;
    let volume = ctx.volume(&id).await?;
    let slice = Slice {
        size_bytes: to.bytes(),
        ..ctx.slice(&volume)?
    };
    let zero_end = match (volume.formatted, &volume.attached_machine_id) {
        (true, _) => ZeroEnd::Never,
        (false, Some(_)) => ZeroEnd::IfGrownNow,
        (false, None) => ZeroEnd::Always,
    };
    ctx.pool(&volume.pool)?
        .grow(&slice, volume.size.bytes(), zero_end)
        .await?;
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.size = to;
            v.extending_to = None;
        })?;
        Ok(())
    })))
}

pub(super) async fn ungrow(ctx: &Context, record: &Record) -> Result<Change, StepError> {
    let id = volume_subject(record)?;
    let event = ctx.event(id.as_str(), "extend_failed", "volume keeps its size".to_owned());
    Ok(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Created;
            v.extending_to = None;
        })?;
        Ok(tx.event(&event)?)
    }))
}

pub(super) async fn announce(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let id = volume_subject(record)?;
    let _held = ctx.locks.lock(&id).await;
    let volume = ctx.volume(&id).await?;
    // Without a file system there is nothing that would have to grow: the first mount takes the whole device.
    let later = json!({ "needs_restart": volume.formatted });
    let done = |patch| {
        Ok(Outcome::Done {
            patch,
            change: Change::default(),
        })
    };
    if let Some(path) = &volume.host_path {
        let device = ctx.pool(&volume.pool)?.activate(&ctx.slice(&volume)?).await?;
        let grown = ctx.host()?.grow(&id, &device, path, volume.fstype).await;
        return match grown {
            Ok(usage) => done(json!({ "needs_restart": false, "fs_bytes": usage.bytes_total })),
            // It would say the same again: the next mount tries anew.
            Err(error) => {
                tracing::warn!(volume_id = %id, error = %super::chain(&error), "file system of the host not grown");
                done(later)
            }
        };
    }
    let (Some(machine_id), Some(runner)) = (&volume.attached_machine_id, &ctx.runner) else {
        return done(later);
    };
    let request = GrowRequest {
        machine_id: machine_id.clone(),
        generation: volume.generation,
        size_bytes: volume.size.bytes(),
    };
    match runner.grow(id.as_str(), &request).await {
        Ok(answer) if answer.detached_guest || answer.needs_restart => done(later),
        Ok(answer) => done(json!({ "needs_restart": false, "fs_bytes": answer.fs_bytes })),
        // The machine is gone, or was given another generation: whoever opens the volume next sees its new size.
        Err(RunnerError::Refused {
            status: 404 | 409 | 412,
            ..
        }) => done(later),
        Err(error) if record.attempts < ANNOUNCE_ATTEMPTS_MAX => Ok(Outcome::Retry {
            after: Some(ANNOUNCE_RETRY),
            why: super::chain(&error),
        }),
        Err(error) => {
            tracing::warn!(volume_id = %id, error = %error, "guest not told of its larger volume");
            done(later)
        }
    }
}

pub(super) async fn settle(ctx: &Context, record: &Record) -> Result<Run, StepError> {
    let (id, to) = (volume_subject(record)?, target(record)?);
    let told = record
        .state
        .get("needs_restart")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(true);
    let fs_bytes = record.state.get("fs_bytes").and_then(serde_json::Value::as_u64);
    let grew = fs_bytes.is_none_or(|fs| fs >= to.bytes() / 100 * FS_PER_CENT_MIN);
    let on_host = ctx.volume(&id).await?.host_path.is_some();
    let needs_restart = told || !grew;
    let message = match (needs_restart, fs_bytes) {
        (true, _) if on_host => format!(
            "extended to {} GB; the file system grows when the volume is detached from this host and attached again",
            to.get()
        ),
        (true, _) => format!(
            "extended to {} GB; the file system grows at the next start",
            to.get()
        ),
        (false, Some(fs)) => format!("extended to {} GB; the file system has {fs} bytes", to.get()),
        (false, None) => format!("extended to {} GB", to.get()),
    };
    let event = ctx.event(id.as_str(), "extended", message);
    Ok(Outcome::changed(Change::new(move |tx| {
        tx.edit_volume(&id, |v| {
            v.state = VolumeState::Created;
            v.needs_restart = needs_restart;
            if let (Some(fs), Some(usage)) = (fs_bytes, v.usage.as_mut()) {
                usage.bytes_total = usage.bytes_total.max(fs);
            }
        })?;
        Ok(tx.event(&event)?)
    })))
}
