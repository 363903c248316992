//! volumed is killed at random moments under random requests; catalog, pool and bucket agree afterwards.

use anyhow::{Context, Result, ensure};
use daemon::unix_http::Client;
use it::{node::programs, volumed::Volumed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// Kills a run. More by `HANGAR_KILL_ROUNDS`.
const ROUNDS: u64 = 200;

/// What the client was told is there: none of it may be lost.
#[derive(Default)]
struct Told {
    volumes: BTreeSet<String>,
    destroyed: BTreeSet<String>,
    snapshots: BTreeSet<String>,
    sizes: Vec<(String, u64)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn catalog_pool_and_bucket_agree_after_kills_at_random_moments() {
    programs();
    let rounds = std::env::var("HANGAR_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    let mut volumed = Volumed::new().await.unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(20_261_121);
    let mut told = Told::default();
    for round in 0..rounds {
        let mut child = volumed.start().await.unwrap();
        let client = volumed.client();
        let moment = Duration::from_micros(rng.random_range(0..120_000));
        let storm = async {
            for _ in 0..8 {
                // A request that is cut off by the kill has no answer; nothing was promised by it.
                let _ = request(&client, &mut rng, &mut told).await;
            }
        };
        let _ = tokio::time::timeout(moment, storm).await;
        child.kill_hard().unwrap();
        if round % 20 == 19 || round + 1 == rounds {
            check(&mut volumed, &mut told)
                .await
                .with_context(|| format!("after round {round}"))
                .unwrap();
        }
    }
}

/// Sends one random request and remembers what its answer promises.
async fn request(client: &Client, rng: &mut ChaCha8Rng, told: &mut Told) -> Result<()> {
    let known: Vec<&String> = told.volumes.difference(&told.destroyed).collect();
    let dice = if known.len() > 12 {
        9
    } else {
        rng.random_range(0..10)
    };
    let some = known
        .get(rng.random_range(0..known.len().max(1)))
        .map(|id| (*id).clone());
    match (dice, some) {
        (0..=2, _) | (_, None) => {
            let body = json!({"app": "shop", "name": "data", "region": "local", "size_gb": 1, "require_unique_zone": false});
            let volume: Value = client.post("/v1/volumes", &body).await?;
            told.volumes.insert(id(&volume)?);
        }
        (3..=4, Some(volume)) => {
            let before: Value = client.get(&format!("/v1/volumes/{volume}")).await?;
            let size = before["size_gb"].as_u64().context("a size")? + 1;
            let _: Value = client
                .put(&format!("/v1/volumes/{volume}/extend"), &json!({"size_gb": size}))
                .await?;
            told.sizes.push((volume, size));
        }
        (5..=6, Some(volume)) => {
            let snapshot: Value = client
                .post(&format!("/v1/volumes/{volume}/snapshots"), &json!({}))
                .await?;
            told.snapshots.insert(id(&snapshot)?);
        }
        (7, Some(volume)) => {
            let body = json!({"app": "shop", "name": "data", "region": "local", "source_volume_id": volume, "require_unique_zone": false});
            let fork: Value = client.post("/v1/volumes", &body).await?;
            told.volumes.insert(id(&fork)?);
        }
        (_, Some(volume)) => {
            let _: Value = client.delete(&format!("/v1/volumes/{volume}")).await?;
            told.destroyed.insert(volume);
        }
    }
    Ok(())
}

/// Lets everything come to rest, then holds catalog, pool and bucket against each other and against what was told.
async fn check(volumed: &mut Volumed, told: &mut Told) -> Result<()> {
    let mut child = volumed.start().await?;
    let client = volumed.client();
    volumed.rest(&client).await?;
    let volumes: Vec<Value> = client.get("/v1/volumes?include_destroyed=true").await?;
    let ids: BTreeSet<String> = volumes.iter().map(id).collect::<Result<_>>()?;
    let lost: Vec<&String> = told
        .volumes
        .difference(&ids)
        .filter(|id| !told.destroyed.contains(*id))
        .collect();
    ensure!(
        lost.is_empty(),
        "volumes were acknowledged and are lost: {lost:?}"
    );
    for (volume, size) in &told.sizes {
        let found = volumes.iter().find(|v| v["id"] == volume.as_str());
        let now = found.and_then(|v| v["size_gb"].as_u64()).unwrap_or(u64::MAX);
        ensure!(now >= *size, "{volume} was extended to {size} GB and has {now}");
    }
    let files = volumed.pool_files()?;
    let owners: BTreeSet<&String> = ids
        .iter()
        .filter(|id| files.iter().any(|file| file.contains(id.as_str())))
        .collect();
    let bare: Vec<&String> = ids.iter().filter(|id| !owners.contains(id)).collect();
    ensure!(
        bare.is_empty(),
        "volumes without a file in the pool: {bare:?}; files: {files:?}"
    );
    let orphans: Vec<&String> = files
        .iter()
        .filter(|file| !ids.iter().any(|id| file.contains(id.as_str())))
        .collect();
    ensure!(orphans.is_empty(), "files of no volume: {orphans:?}");
    let snapshots: Vec<Value> = client.get("/v1/snapshots").await?;
    let listed: BTreeSet<String> = snapshots.iter().map(id).collect::<Result<_>>()?;
    let lost: Vec<&String> = told.snapshots.difference(&listed).collect();
    ensure!(
        lost.is_empty(),
        "snapshots were acknowledged and are lost: {lost:?}"
    );
    let manifests = volumed.manifests().await?;
    for snapshot in snapshots
        .iter()
        .filter(|snapshot| snapshot["status"] == "created")
    {
        let id = id(snapshot)?;
        ensure!(
            manifests.contains(&id),
            "snapshot {id} is created and has no manifest in the bucket"
        );
    }
    child.kill_hard()?;
    Ok(())
}

fn id(value: &Value) -> Result<String> {
    Ok(value["id"]
        .as_str()
        .with_context(|| format!("an id in {value}"))?
        .to_owned())
}
