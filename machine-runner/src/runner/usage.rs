//! Passes what guests say about their volumes on to volumed.

use std::sync::Arc;
use std::time::Duration;

use guest_init::proto::message::VolumeUsage;
use guest_init::proto::serial_of;

use super::{Runner, View};
use crate::lifecycle::State;
use crate::machine_config::MachineConfig;
use crate::volumes::Report;

pub(super) async fn report_usage(runner: Arc<Runner>) {
    let interval = Duration::from_secs(runner.config.raw.usage_interval_s);
    loop {
        tokio::time::sleep(interval).await;
        let views = runner.machines().into_iter().map(|handle| handle.view());
        let with_volumes =
            views.filter(|view| view.record.state == State::Started && !view.record.run.volumes.is_empty());
        let reports = with_volumes.map(|view| report_machine(&runner, view));
        futures_util::future::join_all(reports).await;
    }
}

/// Asks one guest and reports each of its volumes. What fails is said and tried again at the next turn.
pub(super) async fn report_machine(runner: &Runner, view: Arc<View>) {
    let machine_id = &view.record.id;
    let Some(volumes) = &runner.volumes else { return };
    let usage = match runner.shim(machine_id).usage().await {
        Ok(usage) => usage,
        Err(error) => {
            tracing::warn!(%machine_id, %error, "a guest did not say how full its volumes are");
            return;
        }
    };
    let config = MachineConfig::parse(&view.record.config).ok();
    let mounts = config.map(|config| config.mounts).unwrap_or_default();
    for (volume_id, attached) in &view.record.run.volumes {
        let Some(usage) = usage.iter().find(|usage| usage.serial == serial_of(volume_id)) else {
            continue;
        };
        let mount = mounts.iter().find(|mount| mount.volume == *volume_id);
        let report = Report {
            auto_extend: mount.and_then(|mount| mount.auto_extend),
            ..report_of(machine_id.as_str(), attached.generation, usage)
        };
        if let Err(error) = volumes.report(volume_id, &report).await {
            tracing::warn!(%machine_id, volume_id, %error, "volumed did not take a usage report");
        }
    }
}

fn report_of(machine_id: &str, generation: u64, usage: &VolumeUsage) -> Report {
    let used = usage.blocks.saturating_sub(usage.blocks_free);
    Report {
        machine_id: machine_id.to_owned(),
        generation,
        formatted: Some(true),
        fstype: Some(usage.fstype.as_str().to_owned()),
        block_size: Some(usage.block_size),
        blocks: Some(usage.blocks),
        blocks_free: Some(usage.blocks_free),
        blocks_avail: Some(usage.blocks_avail),
        bytes_total: Some(usage.blocks.saturating_mul(usage.block_size)),
        bytes_used: Some(used.saturating_mul(usage.block_size)),
        auto_extend: None,
    }
}

#[cfg(test)]
mod tests;
