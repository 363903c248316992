//! `litefs promote` and `litefs status`.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use tokio::time::{Duration, Instant, sleep};

use crate::http_client::{request, whole};

/// How long a node may take to become primary.
const PROMOTE_MAX: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(50);

async fn ask(method: Method, url: &str, path: &str) -> anyhow::Result<String> {
    let response = request(method, url, path, HeaderMap::new(), whole("")).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn info(url: &str) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::from_str(&ask(Method::GET, url, "/info").await?)?)
}

/// Tells whether a node may become primary.
pub(super) async fn is_candidate(url: &str) -> anyhow::Result<bool> {
    Ok(info(url).await?["candidate"].as_bool().unwrap_or(false))
}

/// Makes a node primary, and waits until it is.
pub(super) async fn promote(url: &str) -> anyhow::Result<()> {
    ask(Method::POST, url, "/promote").await?;
    let until = Instant::now() + PROMOTE_MAX;
    while info(url).await?["isPrimary"] != true {
        if Instant::now() >= until {
            bail!("timed out waiting for promotion");
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Says what a node is and has: one line for itself, and one for each database with the last transaction.
pub(super) async fn status(url: &str) -> anyhow::Result<String> {
    let info = info(url).await?;
    let metrics = ask(Method::GET, url, "/metrics").await?;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("?")
    };
    let role = if info["isPrimary"] == true {
        "primary"
    } else {
        "replica"
    };
    let primary = info["primary"]["hostname"]
        .as_str()
        .filter(|name| !name.is_empty());
    let mut said = String::new();
    writeln!(
        said,
        "{role}, primary {}, candidate {}, lag {} s, replicas {}, cluster {}",
        primary.unwrap_or("unknown"),
        info["candidate"].as_bool().unwrap_or(false),
        value("litefs_lag_seconds"),
        value("litefs_http_stream_count"),
        info["clusterID"].as_str().unwrap_or("none"),
    )
    .context("write")?;
    for line in metrics.lines() {
        if let Some((name, txid)) = line
            .strip_prefix("litefs_db_txid{db=\"")
            .and_then(|rest| rest.split_once("\"} "))
        {
            writeln!(
                said,
                "{name} {:016x}",
                txid.parse::<u64>().context("a transaction's number")?
            )
            .context("write")?;
        }
    }
    Ok(said)
}
