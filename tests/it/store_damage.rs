//! A bit that flips in the embedded object store is found by whoever reads it, and its object named.

use std::os::unix::fs::FileExt as _;

use anyhow::{Context, Result};
use daemon::unix_http::Client;
use it::volumed::Volumed;
use serde_json::{Value, json};

const PLACE: u64 = 9 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_embedded_store_is_named_by_verify_and_by_restore() {
    for part in ["/b/", "/m/"] {
        let mut volumed = Volumed::new().await.unwrap();
        let _running = volumed.start().await.unwrap();
        let client = volumed.client();
        let snapshot = snapshot_of_a_written_volume(&volumed, &client).await.unwrap();
        assert_eq!(verify(&client, &snapshot).await.unwrap(), json!([]));
        let object = volumed.flip_a_bit(part).await.unwrap();
        let named = format!("object {object}: the store's own checksum does not match");
        let body =
            json!({"app": "shop", "name": "back", "snapshot_id": snapshot, "require_unique_zone": false});
        let back: Value = client.post("/v1/volumes", &body).await.unwrap();
        volumed.rest(&client).await.unwrap();
        let path = format!("/v1/volumes/{}", back["id"].as_str().unwrap());
        let why = client.get::<Value>(&path).await.unwrap_err().to_string();
        assert!(why.contains("was not created") && why.contains(&named), "{why}");
        // Once it is known, a restore is not begun any more.
        assert_eq!(verify(&client, &snapshot).await.unwrap(), json!([named]));
        let refused = client.post::<Value>("/v1/volumes", &body).await.unwrap_err();
        assert!(
            refused.to_string().contains("cannot be restored") && refused.to_string().contains(&named),
            "{refused}"
        );
    }
}

async fn verify(client: &Client, snapshot: &str) -> Result<Value> {
    let report: Value = client
        .post(&format!("/v1/snapshots/{snapshot}/verify"), &json!({}))
        .await?;
    Ok(report["errors"].clone())
}

async fn snapshot_of_a_written_volume(volumed: &Volumed, client: &Client) -> Result<String> {
    let body = json!({"app": "shop", "name": "data", "region": "local", "size_gb": 1, "encrypted": false});
    let volume: Value = client.post("/v1/volumes", &body).await?;
    volumed.rest(client).await?;
    let path = format!("/v1/volumes/{}", volume["id"].as_str().context("an id")?);
    let holder = json!({"machine_id": "m1"});
    let attached: Value = client.post(&format!("{path}/attach"), &holder).await?;
    let device = attached["device"]["path"].as_str().context("a path")?;
    let file = std::fs::File::options().write(true).open(device)?;
    file.write_all_at(&[7; 4096], PLACE)?;
    file.sync_all()?;
    let holder = json!({"machine_id": "m1", "generation": attached["generation"]});
    let _: Value = client.post(&format!("{path}/detach"), &holder).await?;
    let snapshot: Value = client.post(&format!("{path}/snapshots"), &json!({})).await?;
    volumed.rest(client).await?;
    Ok(snapshot["id"].as_str().context("a snapshot's id")?.to_owned())
}
