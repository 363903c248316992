//! The daemon: open what it needs, take up the machines, serve.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use crashsafe::RealDisk;

use crate::accel;
use crate::api;
use crate::catalog::Catalog;
use crate::config::{Config, RawConfig};
use crate::images::ImageStore;
use crate::metrics::Metrics;
use crate::runner::{Parts, Runner};
use crate::volumes::Volumes;

/// Reads and checks a configuration file.
///
/// # Errors
/// What is wrong with it.
pub fn configuration(path: &Path) -> anyhow::Result<Config> {
    let raw: RawConfig = daemon::config_file::load(path)?;
    Ok(Config::try_from(raw)?)
}

/// Serves until the context's shutdown.
///
/// # Errors
/// What kept it from starting.
pub async fn serve(path: &Path, context: daemon::Context) -> anyhow::Result<()> {
    let config = configuration(path)?;
    let data = &config.raw.data_dir;
    std::fs::create_dir_all(data.join("m")).with_context(|| format!("make {}", data.display()))?;
    std::fs::create_dir_all(data.join("images"))?;
    let program = std::env::current_exe().context("find this program")?;
    let catalog = Catalog::open(&data.join("catalog.db")).context("open the catalog")?;
    let images =
        ImageStore::open(&data.join("images"), Arc::new(RealDisk)).context("open the image store")?;
    let verdict = accel::measure(config.raw.accel, &program, &config.raw.qemu).await;
    match &verdict.advice {
        None => tracing::info!(
            accelerator = verdict.accelerator.as_str(),
            reason = verdict.reason,
            "host judged"
        ),
        Some(advice) => tracing::warn!(
            accelerator = verdict.accelerator.as_str(),
            reason = verdict.reason,
            advice,
            "host judged"
        ),
    }
    let volumes = config.raw.volumed_socket.as_deref().map(Volumes::new);
    let socket = config.raw.socket.clone();
    let registry = daemon::metrics::Metrics::new();
    let metrics = Metrics::new(&registry);
    let runner = Runner::start(Parts {
        config,
        catalog,
        images,
        volumes,
        verdict,
        program,
        metrics,
        shutdown: context.shutdown.clone(),
    })
    .await?;
    daemon::unix_http::serve(
        &socket,
        api::router(runner).merge(registry.router()),
        context.shutdown,
    )
    .await
    .context("serve the API")?;
    Ok(())
}
