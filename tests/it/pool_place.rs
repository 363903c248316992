//! A file pool whose disk is not mounted: nothing is made where it should be, and all goes on when it is back.

use std::{fs, time::Duration};

use crashsafe::{Disk as _, RealDisk};
use daemon::unix_http::{CallError, Client};
use it::volumed::Volumed;
use serde_json::{Value, json};

async fn pool(client: &Client) -> Value {
    let pools: Vec<Value> = client.get("/v1/pools").await.unwrap();
    pools.into_iter().find(|pool| pool["name"] == "default").unwrap()
}

fn refused(result: Result<Value, CallError>) -> (u16, String) {
    match result {
        Err(CallError::Status { status, error, .. }) => (status, error),
        other => panic!("not refused: {other:?}"),
    }
}

async fn opened(client: &Client) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        ticks.tick().await;
        let pool = pool(client).await;
        if pool["state"] == "ok" {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{pool}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_on_a_disk_that_is_not_mounted_makes_nothing_and_opens_by_itself_when_it_is() {
    let mut volumed = Volumed::new().await.unwrap();
    let running = volumed.start().await.unwrap();
    let client = volumed.client();
    let volume = volumed.create(&client, &json!({"name": "data"})).await.unwrap();
    let (folder, disk) = (volumed.path("volumed/pool"), volumed.path("volumed/disk"));
    let new = json!({
        "app": "shop", "region": "local", "size_gb": 1, "require_unique_zone": false, "name": "more",
    });
    let mut running = Some(running);
    for restart in [false, true] {
        // What a disk leaves that is not mounted: the empty folder below.
        RealDisk.rename("it:unmount", &folder, &disk).unwrap();
        fs::create_dir(&folder).unwrap();
        if restart {
            running.take().unwrap().kill_hard().unwrap();
            running = Some(volumed.start().await.unwrap());
        }
        let (status, sentence) = refused(client.post("/v1/volumes", &new).await);
        assert_eq!(status, 422, "{sentence}");
        assert!(
            sentence.contains("is missing") && sentence.contains("mount its disk"),
            "{sentence}"
        );
        assert_eq!(pool(&client).await["state"], "missing");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
        RealDisk.rename("it:mount", &disk, &folder).unwrap();
        opened(&client).await;
        let path = format!("/v1/volumes/{volume}");
        let held: Value = client
            .post(&format!("{path}/attach"), &json!({"machine_id": "m1"}))
            .await
            .unwrap();
        let holder = json!({"machine_id": "m1", "generation": held["generation"]});
        let _: Value = client.post(&format!("{path}/detach"), &holder).await.unwrap();
    }
    volumed.create(&client, &json!({"name": "after"})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pools_in_one_folder_keep_volumed_from_starting() {
    let mut volumed = Volumed::new().await.unwrap();
    let file = volumed.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let link = volumed.path("link");
    std::os::unix::fs::symlink(volumed.path("volumed"), &link).unwrap();
    let second = format!(
        "[[pools]]\nname = \"second\"\npath = \"{}/pool\"\n",
        link.display()
    );
    let text = format!("{text}{second}");
    crashsafe::write_atomic(&RealDisk, "it:config", &file, text.as_bytes(), 0o600).unwrap();
    fs::create_dir_all(volumed.path("volumed/pool")).unwrap();
    let error = volumed.start().await.unwrap_err().to_string();
    assert!(error.contains("pools default and second share folder"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_without_slice_or_pool_and_what_others_put_into_a_pool_are_listed() {
    let mut volumed = Volumed::new().await.unwrap();
    let running = volumed.start().await.unwrap();
    let client = volumed.client();
    let inspected = async |client: &Client| client.get::<Value>("/v1/inspection").await.unwrap();
    let volume = volumed.create(&client, &json!({"name": "data"})).await.unwrap();
    assert_eq!(inspected(&client).await["without_slice"], json!([]));
    let folder = volumed.path("volumed/pool");
    fs::File::create_new(folder.join("notes.txt")).unwrap();
    fs::remove_file(folder.join(format!("v-{volume}.img"))).unwrap();
    let found = inspected(&client).await;
    let stranded = json!([{"volume_id": volume, "pool": "default"}]);
    assert_eq!(found["without_slice"], stranded, "{found}");
    assert_eq!(found["without_pool"], json!([]), "{found}");
    assert_eq!(
        found["foreign_files"],
        json!([{"pool": "default", "name": "notes.txt"}]),
        "{found}"
    );

    drop(running);
    let file = volumed.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text
        .replace("name = \"default\"", "name = \"other\"")
        .replace("volumed/pool", "volumed/other");
    crashsafe::write_atomic(&RealDisk, "it:config", &file, text.as_bytes(), 0o600).unwrap();
    let _running = volumed.start().await.unwrap();
    let found = inspected(&client).await;
    assert_eq!(
        (&found["without_pool"], &found["without_slice"]),
        (&stranded, &json!([])),
        "{found}"
    );
}
