//! A capture shares blocks with its volume, and each block that the volume overwrites is then there twice. The room for that is
//! the volumes' before it is the capture's.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use crashsafe::RealDisk;
use it::volumed::{Bucket, Volumed};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const MIB: usize = 1 << 20;
const VOLUME_MIB: usize = 1024;
const PART: usize = 16 * MIB;

/// Passes bytes on to `to` while `open` says so.
async fn line(to: String, open: watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    daemon::spawn("line", async move {
        while let Ok((near, _)) = listener.accept().await {
            let (to, mut open) = (to.clone(), open.clone());
            daemon::spawn("line-connection", async move {
                let far = TcpStream::connect(to.trim_start_matches("http://"))
                    .await
                    .unwrap();
                let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
                    (near.into_split(), far.into_split());
                let there = async {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = from_near.read(&mut bytes).await {
                        open.wait_for(|open| *open).await.unwrap();
                        if to_far.write_all(&bytes[..count]).await.is_err() {
                            break;
                        }
                    }
                };
                tokio::select! {
                    () = there => {}
                    _ended = tokio::io::copy(&mut from_far, &mut to_near) => {}
                }
            });
        }
    });
    url
}

/// What stands at a place after a round of writing: no two places and rounds have the same, so all has to be uploaded.
fn part(round: u64, at: usize) -> Vec<u8> {
    let mut part = Vec::with_capacity(PART);
    let mut state = (at as u64 + 1) * 2 + round;
    while part.len() < PART {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        part.extend_from_slice(&state.to_le_bytes());
    }
    part
}

/// Writes all of a volume as its machine would, and has each part on the disk before the next.
fn write(file: &File, round: u64) -> std::io::Result<()> {
    for at in (0..VOLUME_MIB * MIB).step_by(PART) {
        file.write_all_at(&part(round, at), at as u64)?;
        file.sync_data()?;
    }
    Ok(())
}

fn is_all(file: &File, round: u64) -> bool {
    let mut found = vec![0; PART];
    (0..VOLUME_MIB * MIB).step_by(PART).all(|at| {
        file.read_exact_at(&mut found, at as u64).unwrap();
        found == part(round, at)
    })
}

async fn events(volumed: &Volumed, volume: &str) -> Vec<String> {
    let events: Vec<Value> = volumed.client().get("/v1/events").await.unwrap();
    let of_it = events.iter().filter(|event| event["subject"] == *volume);
    of_it
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_gives_way_before_a_volume_lacks_the_room_that_it_was_promised() {
    let store = Volumed::new().await.unwrap();
    let (valve, open) = watch::channel(true);
    let bucket = Bucket {
        url: line(store.bucket().url.clone(), open).await,
        ..store.bucket().clone()
    };
    let mut volumed = Volumed::at(bucket).await.unwrap();
    let (xfs, _mounted) = it::reflink::xfs(2).unwrap();
    let (config, folder) = (volumed.path("config.toml"), xfs.path().join("pool"));
    let text = fs::read_to_string(&config).unwrap();
    let pool = format!("path = \"{}\"\nreserve_bytes = {}", folder.display(), 256 * MIB);
    let text = text
        .replace(
            &format!("path = \"{}\"", volumed.path("volumed/pool").display()),
            &pool,
        )
        .replace("overcommit_ratio = 100.0", "overcommit_ratio = 1.0");
    crashsafe::write_atomic(&RealDisk, "it:config", &config, text.as_bytes(), 0o600).unwrap();
    let _running = volumed.start().await.unwrap();
    let client = volumed.client();
    let volume = volumed
        .create(
            &client,
            &json!({"name": "data", "encrypted": false, "auto_backup_enabled": false}),
        )
        .await
        .unwrap();
    let slice = folder.join(format!("v-{volume}.img"));
    let file = File::options().read(true).write(true).open(slice).unwrap();
    write(&file, 1).unwrap();

    // The store stands still, and so does the upload: the capture stays.
    valve.send(false).unwrap();
    let path = format!("/v1/volumes/{volume}/snapshots");
    let taken: Value = client.post(&path, &json!({})).await.unwrap();
    let capture = folder.join(format!("s-{}.img", taken["id"].as_str().unwrap()));
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !capture.exists() {
        ticks.tick().await;
        assert!(tokio::time::Instant::now() < deadline, "no capture is made");
    }
    let file = tokio::task::spawn_blocking(move || {
        write(&file, 2).unwrap();
        assert!(is_all(&file, 2));
        file
    });
    let file = file.await.unwrap();
    assert!(!capture.exists(), "it has given way");
    let told = events(&volumed, &volume).await;
    assert!(told.contains(&"capture_shed".to_owned()), "{told:?}");

    // Nothing of what it read behind the cut became a backup.
    valve.send(true).unwrap();
    volumed.rest(&client).await.unwrap();
    let told = events(&volumed, &volume).await;
    assert!(told.contains(&"snapshot_failed".to_owned()), "{told:?}");
    let listed: Vec<Value> = client.get(&path).await.unwrap();
    let whole = listed.iter().filter(|snapshot| snapshot["status"] == "created");
    assert_eq!(whole.count(), 0, "{listed:?}");
    // With the store at hand there is time enough.
    let id = volumed.snapshot(&client, &volume).await.unwrap();
    let verified: Value = client
        .post(&format!("/v1/snapshots/{id}/verify"), &json!({}))
        .await
        .unwrap();
    assert_eq!(verified["errors"], json!([]), "{verified}");
    assert!(is_all(&file, 2));
}
