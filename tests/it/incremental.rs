//! A snapshot of a large volume costs the bucket what changed since the last one, and comes back byte for byte.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use crashsafe::RealDisk;
use daemon::unix_http::Client;
use it::volumed::Volumed;
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use volumed::bulk::{Bulk, Image, ImageSink as _, ImageSource as _, Images, Layout, Workers};

const BLOCK: u64 = 4 << 20;
const BLOCKS_LEN: usize = 256;
const BLOCKS: u64 = BLOCKS_LEN as u64;
/// 64 MiB, scattered.
const CHANGED: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_one_gib_uploads_little_more_than_the_64_mib_that_changed() {
    let mut volumed = Volumed::new().await.unwrap();
    let _running = volumed.start().await.unwrap();
    let client = volumed.client();
    let images = Images::new(
        Arc::new(RealDisk),
        Some(Bulk::start().unwrap()),
        Workers::start(2).unwrap(),
    );
    let volume = volumed.create(&client, &json!({"name": "data"})).await.unwrap();
    // Incompressible and nowhere zero, so that every byte of a block has to travel.
    let mut versions = [0; BLOCKS_LEN];
    write(&client, &images, &volume, (0..BLOCKS).map(|block| (block, 0)))
        .await
        .unwrap();
    volumed.snapshot(&client, &volume).await.unwrap();
    let full = volumed.stored_bytes().await.unwrap();
    assert!(
        full >= BLOCK * BLOCKS,
        "the first backup is not complete: {full} bytes"
    );

    let changed = (0..CHANGED).map(|i| (i * 13 % BLOCKS, 1));
    changed
        .clone()
        .for_each(|(block, version)| versions[usize::try_from(block).unwrap()] = version);
    write(&client, &images, &volume, changed).await.unwrap();
    let second = volumed.snapshot(&client, &volume).await.unwrap();
    let uploaded = volumed.stored_bytes().await.unwrap() - full;
    println!(
        "{uploaded} bytes for {} changed: {:.4}",
        BLOCK * CHANGED,
        ratio(uploaded)
    );
    assert!(
        uploaded >= BLOCK * CHANGED,
        "changes are missing: {uploaded} bytes"
    );
    assert!(ratio(uploaded) <= 1.15, "{uploaded} bytes were uploaded");

    let body = json!({"name": "back", "snapshot_id": second});
    let back = volumed.create(&client, &body).await.unwrap();
    check(&client, &images, &back, &versions).await.unwrap();
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn ratio(uploaded: u64) -> f64 {
    uploaded as f64 / (BLOCK * CHANGED) as f64
}

/// Returns what a block holds.
fn content(block: u64, version: u64) -> Bytes {
    let mut bytes = vec![0; usize::try_from(BLOCK).unwrap_or(usize::MAX)];
    ChaCha8Rng::seed_from_u64(block << 8 | version).fill_bytes(&mut bytes);
    bytes.into()
}

/// Attaches the volume as a machine would, and returns where its bytes are.
async fn attach(client: &Client, volume: &str) -> Result<(std::path::PathBuf, u64, Layout, u64)> {
    let body = json!({"machine_id": "m1"});
    let attached: Value = client
        .post(&format!("/v1/volumes/{volume}/attach"), &body)
        .await?;
    let device = &attached["device"];
    let path = device["path"].as_str().context("a path")?.into();
    let passphrase = device["passphrase"]
        .as_str()
        .context("volumes are encrypted unless one says otherwise")?;
    let layout = Layout::Luks {
        passphrase: passphrase.to_owned().into(),
    };
    let size = attached["size_bytes"].as_u64().context("a size")?;
    Ok((
        path,
        size,
        layout,
        attached["generation"].as_u64().context("a generation")?,
    ))
}

async fn detach(client: &Client, volume: &str, generation: u64) -> Result<()> {
    let body = json!({"machine_id": "m1", "generation": generation});
    let _: Value = client
        .post(&format!("/v1/volumes/{volume}/detach"), &body)
        .await?;
    Ok(())
}

async fn write(
    client: &Client,
    images: &Images,
    volume: &str,
    blocks: impl Iterator<Item = (u64, u64)>,
) -> Result<()> {
    let (path, size, layout, generation) = attach(client, volume).await?;
    let image: Image = images.open_sink(&path, size, &layout).await?;
    for (block, version) in blocks {
        image.write_at(block * BLOCK, content(block, version)).await?;
    }
    image.sync().await?;
    drop(image);
    detach(client, volume, generation).await
}

async fn check(client: &Client, images: &Images, volume: &str, versions: &[u64]) -> Result<()> {
    let (path, size, layout, generation) = attach(client, volume).await?;
    let image: Image = images.open_source(&path, size, &layout).await?;
    for (block, version) in (0..).zip(versions) {
        let read = image.read_at(block * BLOCK, usize::try_from(BLOCK)?).await?;
        ensure!(read == content(block, *version), "block {block} differs");
    }
    detach(client, volume, generation).await
}
