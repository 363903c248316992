//! Bottomless volumes between two nodes that share a bucket and a cluster key: drained and claimed, and claimed from a host that is
//! lost and comes back.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crashsafe::{Disk as _, RealDisk};
use daemon::unix_http::{CallError, Client};
use it::disks::{Host, NbdClient, NbdError, Site, Writer};
use it::node::programs;
use it::volumed::Volumed;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Blocks that a writer writes to.
const BLOCKS: u64 = 2048;
const PATIENCE: Duration = Duration::from_secs(90);
/// Exit code of a process whose disk another host owns.
const ELSEWHERE: i32 = 4;

fn path(id: &str) -> String {
    format!("/v1/volumes/{id}")
}

async fn post(client: &Client, path: String, body: Value) -> Result<Value, CallError> {
    client.post(&path, &body).await
}

async fn attach(client: &Client, id: &str) -> Result<NbdClient> {
    let attached = post(client, path(id) + "/attach", json!({"machine_id": "m1"})).await?;
    let socket = attached["device"]["path"].as_str().context("a socket")?;
    Ok(NbdClient::connect(Path::new(socket))?)
}

async fn detach(client: &Client, id: &str) -> Result<()> {
    let shown: Value = client.get(&path(id)).await?;
    let body = json!({"machine_id": "m1", "generation": shown["generation"]});
    post(client, path(id) + "/detach", body).await?;
    Ok(())
}

async fn drain(client: &Client, id: &str) -> Result<Value, CallError> {
    post(client, path(id) + "/drain", json!({})).await
}

async fn claim(client: &Client, id: &str, force: bool) -> Result<Value, CallError> {
    post(
        client,
        path(id) + "/claim",
        json!({"app": "shop", "force": force}),
    )
    .await
}

fn refused(result: Result<Value, CallError>) -> (u16, String) {
    match result {
        Err(CallError::Status { status, error, .. }) => (status, error),
        other => panic!("not refused: {other:?}"),
    }
}

/// Gives the volume to a machine, which finds in it what the writer wrote, and writes more; then it is given back.
async fn use_it(client: &Client, id: &str, mut writer: Writer, seed: u64) -> Result<Writer> {
    let export = attach(client, id).await?;
    let work = move || {
        let mut export = export;
        writer.check(&mut export)?;
        write(&mut writer, &mut export, seed)?;
        Ok::<_, anyhow::Error>(writer)
    };
    let writer = tokio::task::spawn_blocking(work).await??;
    detach(client, id).await?;
    Ok(writer)
}

fn write(writer: &mut Writer, export: &mut NbdClient, seed: u64) -> Result<(), NbdError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut left = 10;
    writer.write(export, &mut rng, || {
        left -= 1;
        left == 0
    })?;
    export.flush()
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let looking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            if look().await? {
                return Ok(());
            }
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.with_context(|| format!("never: {what}"))?
}

async fn new_volume(node: &Volumed) -> Result<String> {
    node.create(&node.client(), &json!({"name": "data", "type": "bottomless"}))
        .await
}

fn disks_left(node: &Volumed) -> usize {
    std::fs::read_dir(node.path("volumed/disks")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_volume_is_claimed_by_another_node_with_everything_in_it_and_comes_back() -> Result<()> {
    let mut first = Volumed::new().await?;
    let _one = first.start().await?;
    let mut second = first.beside().await?;
    let _two = second.start().await?;
    let (a, b) = (first.client(), second.client());
    let id = new_volume(&first).await?;
    let writer = use_it(&a, &id, Writer::new(BLOCKS), 1).await?;
    let _: Value = a.put(&(path(&id) + "/extend"), &json!({"size_gb": 2})).await?;
    let _: Value = a.put(&path(&id), &json!({"snapshot_retention": 9})).await?;
    let before: Value = a.get(&path(&id)).await?;

    let (status, sentence) = refused(claim(&a, &id, true).await);
    ensure!(
        status == 409 && sentence.contains("already"),
        "{status} {sentence}"
    );
    let (status, sentence) = refused(claim(&b, &id, false).await);
    ensure!(
        status == 409 && sentence.contains("force"),
        "claimed from a living host: {status} {sentence}"
    );
    attach(&a, &id).await?;
    let (status, sentence) = refused(drain(&a, &id).await);
    ensure!(status == 412 && sentence.contains("m1"), "{status} {sentence}");
    detach(&a, &id).await?;

    let drained = drain(&a, &id).await?;
    ensure!(
        drained["volume"]["state"] == "drained" && drained["waits_for"].is_null(),
        "{drained}"
    );
    let (status, sentence) = refused(a.get(&path(&id)).await);
    ensure!(status == 404 && sentence.contains("claim"), "{status} {sentence}");
    let all: Value = a.get("/v1/volumes?include_destroyed=true").await?;
    ensure!(all == json!([]) && disks_left(&first) == 0, "{all}");

    let (status, _) = refused(post(&b, path(&id) + "/claim", json!({"app": "others"})).await);
    ensure!(status == 404, "claimed for another app: {status}");
    let claimed = claim(&b, &id, false).await?;
    for field in [
        "name",
        "app",
        "fstype",
        "snapshot_retention",
        "created_at",
        "type",
        "encrypted",
    ] {
        ensure!(claimed[field] == before[field], "{field}: {claimed} {before}");
    }
    ensure!(
        claimed["state"] == "created" && claimed["size_gb"] == 2,
        "{claimed}"
    );
    ensure!(
        claimed["generation"].as_u64() > before["generation"].as_u64(),
        "a writer of the first node would be believed: {claimed}"
    );
    let writer = use_it(&b, &id, writer, 2).await?;
    drain(&b, &id).await?;
    claim(&a, &id, false).await?;
    use_it(&a, &id, writer, 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_outlives_its_host_which_serves_it_no_more_when_it_comes_back() -> Result<()> {
    let mut first = Volumed::new().await?;
    let mut one = first.start().await?;
    let mut second = first.beside().await?;
    let _two = second.start().await?;
    let (a, b) = (first.client(), second.client());
    let id = new_volume(&first).await?;
    let mut export = attach(&a, &id).await?;
    let mut writer = Writer::new(BLOCKS);
    write(&mut writer, &mut export, 1)?;
    until("uploaded", async || {
        let shown: Value = a.get(&path(&id)).await?;
        Ok(shown["disk"]["lag_bytes"] == 0 && shown["disk"]["accepted_seq"] == shown["disk"]["durable_seq"])
    })
    .await?;
    let uploaded = writer.stamp();
    let snapshot = first.snapshot(&a, &id).await?;
    until("told of the snapshot", async || {
        let told = std::fs::read_to_string(first.path(&format!("volumed/disks/{id}/told.json")))?;
        Ok(told.contains(&snapshot))
    })
    .await?;
    write(&mut writer, &mut export, 2)?;

    // The host is lost.
    one.kill_hard()?;
    first.kill_disks();
    let (there, gone) = (first.path("volumed"), first.path("lost"));
    RealDisk.rename("it:host", &there, &gone)?;

    let mut stranger = first.stranger().await?;
    let _three = stranger.start().await?;
    let (status, sentence) = refused(claim(&stranger.client(), &id, true).await);
    ensure!(
        status == 422 && sentence.contains("cluster key"),
        "opened with another key: {status} {sentence}"
    );
    let (status, sentence) = refused(claim(&b, &id, false).await);
    ensure!(
        status == 409 && sentence.contains("epoch") && sentence.contains("lost"),
        "{status} {sentence}"
    );
    ensure!(disks_left(&second) == 0, "a refused claim left files");
    let claimed = claim(&b, &id, true).await?;
    ensure!(claimed["state"] == "created", "{claimed}");
    ensure!(
        !second.path(&format!("volumed/disks/{id}/force")).exists(),
        "the leave to use force is still there"
    );
    let mut export = attach(&b, &id).await?;
    let shown: Value = b.get(&(path(&id) + "/attachment")).await?;
    ensure!(shown["format_allowed"] == false, "it would be formatted: {shown}");
    let last = writer.check_prefix(&mut export)?;
    ensure!(last >= uploaded, "{last} is there of {uploaded}");
    export.write(0, &[7; 4096])?;
    export.flush()?;

    // The host comes back, with everything that it had.
    RealDisk.rename("it:host", &gone, &there)?;
    let _one = first.start().await?;
    let ended = Command::new(programs().join("volumed"))
        .args(["disk", &id, "--config"])
        .arg(first.path("config.toml"))
        .status();
    let log = first.path(&format!("volumed/disks/{id}/disk.log"));
    until("refused by its own volumed", async || {
        Ok(std::fs::read_to_string(&log)?.contains("claiming it needs force"))
    })
    .await?;
    let code = ended?.code();
    ensure!(code == Some(ELSEWHERE) || code == Some(5), "{code:?}");
    let shown: Value = a.get(&path(&id)).await?;
    ensure!(shown["disk"]["state"] != "serving", "{shown}");
    detach(&a, &id).await?;
    let (status, sentence) = refused(drain(&a, &id).await);
    ensure!(
        status == 422 && sentence.contains("destroy it here"),
        "{status} {sentence}"
    );

    // What is removed there is not removed here.
    let _: Value = a.delete(&path(&id)).await?;
    post(&a, path(&id) + "/purge", json!({})).await?;
    until("purged", async || Ok(disks_left(&first) == 0)).await?;
    let kept: Value = b.get(&format!("/v1/snapshots/{snapshot}")).await?;
    ensure!(kept["status"] == "created", "{kept}");
    second
        .create(&b, &json!({"name": "as_it_was", "snapshot_id": snapshot}))
        .await?;
    detach(&b, &id).await?;
    second.kill_disks();
    let mut export = attach(&b, &id).await?;
    ensure!(
        export.read(0, 4096)? == [7; 4096],
        "what the new host wrote is gone"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_and_a_claim_come_to_their_end_wherever_volumed_is_killed() -> Result<()> {
    let mut from = Volumed::new().await?;
    let mut running = from.start().await?;
    let mut to = from.beside().await?;
    let id = new_volume(&from).await?;
    let mut writer = use_it(&from.client(), &id, Writer::new(BLOCKS), 0).await?;
    let moments = [
        ("drain/wait/after", "claim/open/before"),
        ("drain/release/before", "claim/open/after"),
        ("drain/release/after", "claim/open/after"),
        ("drain/forget/before", "claim/open/before"),
        ("drain/forget/after", "claim/open/after"),
    ];
    for (seed, (drained, claimed)) in (1..).zip(moments) {
        running.kill_hard()?;
        running = from.start_until(drained).await?;
        let cut = drain(&from.client(), &id).await;
        ensure!(cut.is_err(), "{drained}: {cut:?}");
        running.ended().await?;
        let _running = from.start().await?;
        from.rest(&from.client()).await?;
        let (status, sentence) = refused(from.client().get(&path(&id)).await);
        ensure!(status == 404, "{drained}: {status} {sentence}");
        ensure!(disks_left(&from) == 0, "{drained}: files are left");

        let mut there = to.start_until(claimed).await?;
        let cut = claim(&to.client(), &id, false).await;
        ensure!(cut.is_err(), "{claimed}: {cut:?}");
        there.ended().await?;
        running = to.start().await?;
        to.rest(&to.client()).await?;
        let shown: Value = to.client().get(&path(&id)).await?;
        ensure!(shown["state"] == "created", "{claimed}: {shown}");
        writer = use_it(&to.client(), &id, writer, seed).await?;
        std::mem::swap(&mut from, &mut to);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_the_bucket_and_may_be_given_up_meanwhile() -> Result<()> {
    programs();
    let site = Site::new().await?;
    let mut node = Volumed::at(site.address()).await?;
    let _running = node.start().await?;
    let client = node.client();
    let id = new_volume(&node).await?;
    let writer = use_it(&client, &id, Writer::new(BLOCKS), 1).await?;
    let export = attach(&client, &id).await?;
    site.pause()?;
    let work = move || {
        let (mut writer, mut export) = (writer, export);
        write(&mut writer, &mut export, 2).map(|()| writer)
    };
    let writer = tokio::task::spawn_blocking(work).await??;
    detach(&client, &id).await?;
    let (asking, wanted) = (node.client(), id.clone());
    let drained = daemon::spawn("drain", async move { drain(&asking, &wanted).await });
    until("being drained", async || {
        let shown: Value = client.get(&path(&id)).await?;
        Ok(shown["state"] == "draining")
    })
    .await?;
    let attached = post(&client, path(&id) + "/attach", json!({"machine_id": "m2"})).await;
    let (status, sentence) = refused(attached);
    ensure!(
        status == 409 && sentence.contains("draining"),
        "{status} {sentence}"
    );

    let kept: Value = client.delete(&(path(&id) + "/drain")).await?;
    ensure!(kept["state"] == "created", "{kept}");
    let (status, sentence) = refused(drained.await?);
    ensure!(
        status == 422 && sentence.contains("given up"),
        "{status} {sentence}"
    );
    site.resume()?;
    use_it(&client, &id, writer, 3).await?;
    let drained = drain(&client, &id).await?;
    ensure!(drained["volume"]["state"] == "drained", "{drained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn leave_to_use_force_is_for_one_epoch_and_used_up_by_the_claim() -> Result<()> {
    const VOLUME: &str = "vol_0123456789abcdef";
    const MIB: u64 = 1 << 20;
    programs();
    let site = Site::new().await?;
    let (first, second) = (
        site.host("a", VOLUME, 64 * MIB, 16 * MIB)?,
        site.host("b", VOLUME, 64 * MIB, 16 * MIB)?,
    );
    let mut served = first.serve(&[]).await?;
    served.connect()?.write(0, &[1; 4096])?;
    let status = served
        .until(|status| status["lag_bytes"] == 0 && status["accepted_seq"] == status["durable_seq"])
        .await?;
    let epoch = status["epoch"].as_u64().context("an epoch")?;
    served.kill()?;

    let leave = |host: &Host, epoch: u64| {
        let file = host.dir().join("force");
        crashsafe::write_atomic(&RealDisk, "it:force", &file, epoch.to_string().as_bytes(), 0o600)
    };
    leave(&second, epoch + 1)?;
    let mut refused = second.spawn(&[])?;
    ensure!(
        refused.ended().await?.code() == Some(ELSEWHERE),
        "another epoch was overruled: {}",
        refused.words()
    );
    leave(&second, epoch)?;
    let mut served = second.serve(&[]).await?;
    ensure!(
        served.connect()?.read(0, 4096)? == [1; 4096],
        "what was uploaded is gone"
    );
    ensure!(!second.dir().join("force").exists(), "the leave is still there");
    served.kill()?;

    // One that was forgotten overrules nobody.
    leave(&first, epoch)?;
    let mut refused = first.spawn(&[])?;
    ensure!(
        refused.ended().await?.code() == Some(ELSEWHERE),
        "the new owner was overruled: {}",
        refused.words()
    );
    let served = second.serve(&[]).await?;
    ensure!(
        served.connect()?.read(0, 4096)? == [1; 4096],
        "the new owner lost it"
    );
    Ok(())
}
