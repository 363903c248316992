//! Bottomless volumes as volumed offers them: made, held, served by processes that outlive it, and gone without a trace.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daemon::unix_http::{CallError, Client};
use it::disks::NbdClient;
use it::volumed::Volumed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(90);

fn request() -> Value {
    json!({"app": "shop", "name": "data", "region": "local", "size_gb": 1, "type": "bottomless", "require_unique_zone": false})
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let looking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .with_context(|| format!("never: {what}"))
}

/// Gives the volume to a machine; returns the socket of its export.
async fn attach(client: &Client, id: &str) -> Result<String> {
    let body = json!({"machine_id": "m1"});
    let attached: Value = client.post(&format!("/v1/volumes/{id}/attach"), &body).await?;
    let device = &attached["device"];
    ensure!(device["format"] == "nbd" && device["export"] == id, "{attached}");
    Ok(device["path"].as_str().unwrap().to_owned())
}

async fn shown(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/volumes/{id}")).await.unwrap()
}

/// The process that serves the volume's disk now.
async fn served_by(client: &Client, id: &str) -> Option<u64> {
    let disk = shown(client, id).await["disk"].clone();
    (disk["state"] == "serving")
        .then(|| disk["pid"].as_u64())
        .flatten()
}

fn write(socket: &str, pattern: u8) -> Result<()> {
    let mut export = NbdClient::connect(Path::new(socket))?;
    export.write(0, &vec![pattern; MIB])?;
    Ok(export.flush()?)
}

fn read(socket: &str) -> Result<Vec<u8>> {
    Ok(NbdClient::connect(Path::new(socket))?.read(0, MIB)?)
}

fn refused(result: Result<Value, CallError>) -> (u16, String) {
    match result {
        Err(CallError::Status { status, error, .. }) => (status, error),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bottomless_volume_is_served_whoever_dies_and_leaves_nothing_behind() -> Result<()> {
    let mut volumed = Volumed::new().await?;
    let mut running = volumed.start().await?;
    let client = volumed.client();
    let id = volumed.create(&client, &request()).await?;
    let made = shown(&client, &id).await;
    ensure!(
        made["type"] == "bottomless" && made["encrypted"] == true && made["auto_backup_enabled"] == true,
        "{made}"
    );
    let socket = attach(&client, &id).await?;
    let directory = Path::new(&socket).parent().context("a directory")?;
    let mode = std::fs::metadata(directory)?.permissions().mode();
    ensure!(mode & 0o777 == 0o700, "others get as far as the socket: {mode:o}");
    write(&socket, 1)?;
    let first = served_by(&client, &id).await.context("served")?;

    // volumed dies: whoever writes does not notice.
    running.kill_hard()?;
    write(&socket, 2)?;
    let mut running = volumed.start().await?;
    ensure!(served_by(&client, &id).await == Some(first), "another process");

    // The process dies: another takes its place.
    kill_process(Pid::from_raw(i32::try_from(first)?).unwrap(), Signal::KILL)?;
    let second = until("served again", async || {
        served_by(&client, &id).await.filter(|pid| *pid != first)
    })
    .await?;
    ensure!(read(&socket)? == vec![2; MIB], "what was flushed is gone");

    // Both die, as in a power cut; whoever holds the volume gets it again.
    running.kill_hard()?;
    kill_process(Pid::from_raw(i32::try_from(second)?).unwrap(), Signal::KILL)?;
    let _running = volumed.start().await?;
    until("served after both died", async || served_by(&client, &id).await).await?;
    ensure!(read(&socket)? == vec![2; MIB], "what was flushed is gone");

    let extended: Value = client
        .put(&format!("/v1/volumes/{id}/extend"), &json!({"size_gb": 600}))
        .await?;
    ensure!(extended["volume"]["size_gb"] == 600, "{extended}");
    volumed.rest(&client).await?;
    ensure!(
        NbdClient::connect(Path::new(&socket))?.size_bytes() == 600 << 30,
        "not 600 GB"
    );

    // Given back, it ends once the bucket has it all; what was written is there for the next holder.
    let generation = shown(&client, &id).await["generation"].clone();
    let body = json!({"machine_id": "m1", "generation": generation});
    let _: Value = client.post(&format!("/v1/volumes/{id}/detach"), &body).await?;
    until("ended", async || {
        shown(&client, &id).await["disk"].is_null().then_some(())
    })
    .await?;
    let socket = attach(&client, &id).await?;
    ensure!(read(&socket)? == vec![2; MIB], "what was uploaded is gone");

    let generation = shown(&client, &id).await["generation"].clone();
    let body = json!({"machine_id": "m1", "generation": generation});
    let _: Value = client.post(&format!("/v1/volumes/{id}/detach"), &body).await?;
    let _: Value = client.delete(&format!("/v1/volumes/{id}")).await?;
    let _: Value = client
        .post(&format!("/v1/volumes/{id}/purge"), &json!({}))
        .await?;
    until("purged", async || {
        let left = std::fs::read_dir(volumed.path("volumed/disks")).unwrap().count();
        (left == 0).then_some(())
    })
    .await?;
    let left = volumed.keys("disk/").await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

async fn detach(client: &Client, id: &str) -> Result<()> {
    let generation = shown(client, id).await["generation"].clone();
    let body = json!({"machine_id": "m1", "generation": generation});
    let _: Value = client.post(&format!("/v1/volumes/{id}/detach"), &body).await?;
    Ok(())
}

async fn purge(volumed: &Volumed, client: &Client, id: &str) -> Result<()> {
    let _: Value = client
        .post(&format!("/v1/volumes/{id}/purge"), &json!({}))
        .await?;
    volumed.rest(client).await
}

/// The bytes of a volume that nobody has.
async fn content(client: &Client, id: &str) -> Result<Vec<u8>> {
    let socket = attach(client, id).await?;
    let bytes = read(&socket)?;
    detach(client, id).await?;
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bottomless_volume_is_snapshotted_restored_and_forked_and_none_of_them_needs_the_others()
-> Result<()> {
    let mut volumed = Volumed::new().await?;
    let mut running = volumed.start().await?;
    let client = volumed.client();
    let id = volumed.create(&client, &request()).await?;
    let socket = attach(&client, &id).await?;
    write(&socket, 1)?;
    let snapshot = volumed.snapshot(&client, &id).await?;
    write(&socket, 2)?;

    // Somebody uses it all the while. volumed is killed when it has just been asked for a fork.
    let restored = volumed
        .create(
            &client,
            &json!({"name": "restored", "snapshot_id": snapshot, "size_gb": 2}),
        )
        .await?;
    let fork = volumed
        .create(&client, &json!({"name": "fork", "source_volume_id": id}))
        .await?;
    let body = json!({"app": "shop", "name": "late", "region": "local", "source_volume_id": id, "require_unique_zone": false});
    let late: Value = client.post("/v1/volumes", &body).await?;
    let late = late["id"].as_str().context("an id")?.to_owned();
    running.kill_hard()?;
    let _running = volumed.start().await?;
    volumed.rest(&client).await?;
    ensure!(shown(&client, &restored).await["size_gb"] == 2, "not enlarged");
    ensure!(
        content(&client, &restored).await? == vec![1; MIB],
        "the snapshot is not what it was"
    );
    for fork in [&fork, &late] {
        ensure!(
            shown(&client, fork).await["type"] == "bottomless",
            "a fork of another type"
        );
        ensure!(
            content(&client, fork).await? == vec![2; MIB],
            "the fork is not as its source was"
        );
    }

    // What is written to one is in no other.
    let other = attach(&client, &fork).await?;
    write(&other, 3)?;
    detach(&client, &fork).await?;
    ensure!(
        read(&socket)? == vec![2; MIB],
        "the source has what was written to its fork"
    );

    // The volume goes when its snapshots have gone, and takes nothing from those that began as it.
    detach(&client, &id).await?;
    let (status, sentence) = refused(client.post(&format!("/v1/volumes/{id}/purge"), &json!({})).await);
    ensure!(
        status == 412 && sentence.contains("snapshots"),
        "{status} {sentence}"
    );
    ensure!(
        shown(&client, &id).await["state"] == "created",
        "a refused purge deleted it"
    );
    let _: Value = client.delete(&format!("/v1/volumes/{id}")).await?;
    let again = volumed
        .create(&client, &json!({"name": "again", "snapshot_id": snapshot}))
        .await?;
    ensure!(
        content(&client, &again).await? == vec![1; MIB],
        "a deleted volume's snapshot is not what it was"
    );
    let _: Value = client.delete(&format!("/v1/snapshots/{snapshot}")).await?;
    volumed.rest(&client).await?;
    purge(&volumed, &client, &id).await?;
    ensure!(
        content(&client, &again).await? == vec![1; MIB],
        "the restored volume lost what it began as"
    );
    ensure!(
        content(&client, &late).await? == vec![2; MIB],
        "the fork lost what it began as"
    );
    ensure!(
        content(&client, &fork).await? == vec![3; MIB],
        "the fork lost what was written to it"
    );
    for id in [&restored, &late, &again, &fork] {
        purge(&volumed, &client, id).await?;
    }
    let left = volumed.keys("disk/").await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bottomless_volume_cannot_do_is_refused_before_anything_is_made() -> Result<()> {
    let mut volumed = Volumed::new().await?;
    let _running = volumed.start().await?;
    let client = volumed.client();
    let id = volumed.create(&client, &request()).await?;
    let with = |field: &str, value: Value| {
        let mut body = request();
        body[field] = value;
        body
    };
    let local = volumed.create(&client, &json!({"name": "local"})).await?;
    let backup = volumed.snapshot(&client, &local).await?;
    let bodies = [
        with("encrypted", json!(false)),
        with("source_volume_id", json!(local)),
        with("snapshot_id", json!(backup)),
        with("pool", json!("default")),
        with("size_gb", json!(100_000)),
        with("type", json!("endless")),
        json!({"app": "shop", "name": "copy", "source_volume_id": id, "type": "local", "require_unique_zone": false}),
        json!({"app": "shop", "name": "copy", "source_volume_id": id, "size_gb": 100_000, "require_unique_zone": false}),
    ];
    for body in bodies {
        let (status, sentence) = refused(client.post("/v1/volumes", &body).await);
        ensure!(status == 422, "{body}: {status} {sentence}");
    }
    let all: Value = client.get("/v1/volumes").await?;
    ensure!(all.as_array().unwrap().len() == 2, "{all}");
    Ok(())
}
