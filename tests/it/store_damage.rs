//! A bit that flips in the embedded object store, and an object that is removed from it, are found by whoever reads it,
//! and the object named.

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

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_object_is_damage_and_no_backup_builds_on_it() {
    for (part, known) in [("/b/", true), ("/b/", false), ("/m/", true), ("/m/", false)] {
        let mut volumed = Volumed::new().await.unwrap();
        let running = volumed.start().await.unwrap();
        let client = volumed.client();
        let first = snapshot_of_a_written_volume(&volumed, &client).await.unwrap();
        assert_eq!(volumed.scrub().status.code(), Some(0));
        let object = volumed.remove_an_object(part).await.unwrap();
        let named = format!("object {object}: missing");
        if known {
            assert_eq!(volumed.scrub().status.code(), Some(1));
            assert_eq!(verify(&client, &first).await.unwrap(), json!([named]));
        }
        // Also when nobody had looked: the upload looks for what it would build on.
        let volumes: Value = client.get("/v1/volumes").await.unwrap();
        let volume = volumes[0]["id"].as_str().unwrap();
        let mut newer = Vec::new();
        for _ in 0..2 {
            newer.push(volumed.snapshot(&client, volume).await.unwrap());
        }
        for snapshot in &newer {
            assert_eq!(
                verify(&client, snapshot).await.unwrap(),
                json!([]),
                "{part} {known}"
            );
        }
        let body = json!({"name": "back", "snapshot_id": newer[1]});
        volumed.create(&client, &body).await.unwrap();
        let refused = client
            .post::<Value>(
                "/v1/volumes",
                &json!({"app": "shop", "name": "back", "snapshot_id": first, "require_unique_zone": false}),
            )
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(&named), "{refused}");
        let events: Vec<Value> = client.get("/v1/events").await.unwrap();
        let told = events.iter().filter(|event| event["kind"] == "backup_damaged");
        assert_eq!(told.count(), 1, "{part} {known}");
        let inspection: Value = client.get("/v1/inspection").await.unwrap();
        let damaged = &inspection["damaged_snapshots"];
        assert_eq!(damaged.as_array().map(Vec::len), Some(1), "{inspection}");
        assert_eq!(damaged[0]["snapshot_id"], json!(first), "{inspection}");
        drop(running);
        assert_eq!(volumed.scrub().status.code(), Some(2), "nobody to ask");
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
