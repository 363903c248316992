//! Bottomless disks as real processes on a real ring of io_uring, a real file and a real store.

use std::time::Duration;

use anyhow::{Result, ensure};
use it::disks::{Host, NbdClient, NbdError, Served, Site, Writer};
use it::node::programs;
use objstore::{ObjectStore as _, Purpose};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

const VOLUME: &str = "vol_0123456789abcdef";
const MIB: u64 = 1 << 20;
/// The least that a ring may have.
const RING: u64 = 16 * MIB;
/// Blocks that a writer writes to.
const BLOCKS: u64 = 2048;
/// Kills a run. More by `HANGAR_KILL_ROUNDS`.
const ROUNDS: u64 = 30;
/// No answer within this is no answer: what waits for it waits for ever.
const SILENCE: Duration = Duration::from_secs(2);
/// Exit code of a process whose disk another host owns.
const ELSEWHERE: i32 = 4;
/// Exit code of a process that a person must look at.
const LOOK: i32 = 1;

async fn site() -> Result<(Site, Host)> {
    programs();
    let site = Site::new().await?;
    let host = site.host("a", VOLUME, 256 * MIB, RING)?;
    Ok((site, host))
}

/// Writes and flushes for a while, off the runtime's threads.
async fn write(
    mut writer: Writer,
    mut client: NbdClient,
    seed: u64,
    batches: u32,
) -> Result<(Writer, NbdClient)> {
    let work = move || {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut left = batches;
        writer.write(&mut client, &mut rng, || {
            left = left.saturating_sub(1);
            left == 0
        })?;
        Ok::<_, NbdError>((writer, client))
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// Whether a write is answered within [`SILENCE`].
async fn answers(mut client: NbdClient) -> Result<bool> {
    let asked = move || {
        client.patience(SILENCE)?;
        match client.write(0, &[7; 4096]) {
            Ok(()) => Ok(true),
            Err(NbdError::Broken(_)) => Ok(false),
            Err(error) => Err(error),
        }
    };
    Ok(tokio::task::spawn_blocking(asked).await??)
}

/// Waits until the bucket has everything.
async fn uploaded(served: &Served) -> Result<Value> {
    served
        .until(|status| status["lag_bytes"] == 0 && status["accepted_seq"] == status["durable_seq"])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_disk_has_everything_that_it_answered() {
    let (_site, host) = site().await.unwrap();
    let rounds = std::env::var("HANGAR_KILL_ROUNDS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut writer = Writer::new(BLOCKS);
    for round in 0..rounds {
        let mut served = host.serve(&[]).await.unwrap();
        let mut client = served.connect().unwrap();
        writer
            .check(&mut client)
            .unwrap_or_else(|error| panic!("round {round}: {error}\n{}", served.words()));
        let writing = std::thread::spawn(move || {
            let mut rng = ChaCha8Rng::seed_from_u64(round);
            // Until it is killed.
            let broken = writer.write(&mut client, &mut rng, || false);
            (writer, broken)
        });
        let moment = ChaCha8Rng::seed_from_u64(!round).random_range(1..400);
        let mut ticks = tokio::time::interval(Duration::from_millis(moment));
        ticks.tick().await;
        ticks.tick().await;
        served.kill().unwrap();
        let broken;
        (writer, broken) = writing.join().unwrap();
        assert!(matches!(broken, Err(NbdError::Broken(_))), "{broken:?}");
    }
    let served = host.serve(&[]).await.unwrap();
    writer.check(&mut served.connect().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_its_slice_is_a_prefix_and_says_that_something_is_lost() {
    let (site, host) = site().await.unwrap();
    let mut served = host.serve(&[]).await.unwrap();
    let (writer, client) = write(Writer::new(BLOCKS), served.connect().unwrap(), 1, 40)
        .await
        .unwrap();
    uploaded(&served).await.unwrap();
    let stored = writer.stamp();
    site.pause().unwrap();
    let (writer, _client) = write(writer, client, 2, 10).await.unwrap();
    served.kill().unwrap();
    site.resume().unwrap();
    std::fs::remove_file(host.dir().join("slice")).unwrap();

    let mut refused = host.spawn(&[]).unwrap();
    assert_eq!(
        refused.ended().await.unwrap().code(),
        Some(ELSEWHERE),
        "{}",
        refused.words()
    );
    assert!(
        refused.words().contains("claiming it needs force, and loses"),
        "{}",
        refused.words()
    );
    let served = host.serve(&["--force"]).await.unwrap();
    let last = writer.check_prefix(&mut served.connect().unwrap()).unwrap();
    assert!(last >= stored, "{last} is there of {stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_owner_never_answers_again_once_another_host_has_the_disk() {
    let (site, host) = site().await.unwrap();
    host.set("on_outage", json!("stop")).unwrap();
    let mut first = host.serve(&[]).await.unwrap();
    let (writer, client) = write(Writer::new(BLOCKS), first.connect().unwrap(), 3, 20)
        .await
        .unwrap();
    uploaded(&first).await.unwrap();
    first.signal(Signal::STOP).unwrap();

    let other = site.host("b", VOLUME, 256 * MIB, RING).unwrap();
    other.set("on_outage", json!("stop")).unwrap();
    let second = other.serve(&[]).await.unwrap();
    let mut there = second.connect().unwrap();
    assert_eq!(writer.check_prefix(&mut there).unwrap(), writer.stamp());
    let (mut writer, mut there) = write(writer, there, 4, 20).await.unwrap();

    first.signal(Signal::CONT).unwrap();
    assert!(!answers(client).await.unwrap(), "a former owner answered");
    assert_eq!(
        first.ended().await.unwrap().code(),
        Some(ELSEWHERE),
        "{}",
        first.words()
    );
    writer.check(&mut there).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_disk_is_claimed_elsewhere_at_once_and_comes_back() {
    let (site, host) = site().await.unwrap();
    let other = site.host("b", VOLUME, 256 * MIB, RING).unwrap();
    let mut writer = Writer::new(BLOCKS);
    for (seed, host) in [(5, &host), (6, &other), (7, &host)] {
        let mut served = host.serve(&[]).await.unwrap();
        let mut client = served.connect().unwrap();
        writer.check(&mut client).unwrap();
        (writer, _) = write(writer, client, seed, 20).await.unwrap();
        let drained: Value = served.control().post("/v1/drain", &json!({})).await.unwrap();
        assert_eq!(drained["released"], true);
        assert_eq!(
            served.ended().await.unwrap().code(),
            Some(0),
            "{}",
            served.words()
        );
    }
    let served = other.serve(&[]).await.unwrap();
    writer.check(&mut served.connect().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_store_is_ridden_out_as_long_as_the_ring_has_room() {
    let (site, host) = site().await.unwrap();
    let served = host.serve(&[]).await.unwrap();
    let (writer, client) = write(Writer::new(256), served.connect().unwrap(), 8, 5)
        .await
        .unwrap();
    site.pause().unwrap();
    let (mut writer, mut client) = write(writer, client, 9, 12).await.unwrap();
    let status = served.status().await.unwrap();
    assert!(status["lag_bytes"].as_u64().unwrap() > 0, "{status}");
    site.resume().unwrap();
    writer.check(&mut client).unwrap();
    uploaded(&served).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stops_at_an_outage_answers_nothing_meanwhile() {
    let (site, host) = site().await.unwrap();
    host.set("on_outage", json!("stop")).unwrap();
    let served = host.serve(&[]).await.unwrap();
    site.pause().unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        ticks.tick().await;
        if !answers(served.connect().unwrap()).await.unwrap() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it answers for ever");
    }
    site.resume().unwrap();
    served.connect().unwrap().write(0, &[7; 4096]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_flush_waits_for_the_store_and_a_local_one_does_not() {
    let (site, host) = site().await.unwrap();
    let served = host.serve(&[]).await.unwrap();
    site.pause().unwrap();
    let mut client = served.connect().unwrap();
    client.write(0, &[1; 4096]).unwrap();
    client.flush().unwrap();
    let changed: Value = served
        .control()
        .put("/v1/settings", &json!({"durability": "remote"}))
        .await
        .unwrap();
    assert_eq!(changed["durability"], "remote");
    let flush = |mut client: NbdClient| {
        tokio::task::spawn_blocking(move || {
            client.patience(SILENCE)?;
            client.write_durably(8192, &[2; 4096])
        })
    };
    let silent = flush(client).await.unwrap();
    assert!(matches!(silent, Err(NbdError::Broken(_))), "{silent:?}");
    site.resume().unwrap();
    let mut client = served.connect().unwrap();
    client.write_durably(8192, &[3; 4096]).unwrap();
    let status = uploaded(&served).await.unwrap();
    assert_eq!(status["settings"]["durability"], "remote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_grows_while_it_is_served_and_keeps_snapshots() {
    let (_site, host) = site().await.unwrap();
    let mut served = host.serve(&[]).await.unwrap();
    let mut client = served.connect().unwrap();
    assert_eq!(client.size_bytes(), 256 * MIB);
    client.write(0, &[1; 8192]).unwrap();
    let control = served.control();
    let grown: Value = control
        .post("/v1/extend", &json!({"size_bytes": 512 * MIB}))
        .await
        .unwrap();
    assert_eq!(grown["size_bytes"], 512 * MIB);
    let refused = control
        .post::<Value>("/v1/extend", &json!({"size_bytes": 4096}))
        .await;
    assert_eq!(refused.unwrap_err().status(), Some(422));
    let mut wide = served.connect().unwrap();
    assert_eq!(wide.size_bytes(), 512 * MIB);
    assert_eq!(wide.read(512 * MIB - 4096, 4096).unwrap(), [0; 4096]);
    wide.write(512 * MIB - 4096, &[9; 4096]).unwrap();

    control
        .post::<Value>("/v1/snapshots", &json!({"name": "one"}))
        .await
        .unwrap();
    let again = control
        .post::<Value>("/v1/snapshots", &json!({"name": "one"}))
        .await;
    assert_eq!(again.unwrap_err().status(), Some(409));
    assert_eq!(served.status().await.unwrap()["snapshots"], 1);
    control.delete::<Value>("/v1/snapshots/one").await.unwrap();
    let gone = control.delete::<Value>("/v1/snapshots/one").await;
    assert_eq!(gone.unwrap_err().status(), Some(404));

    served.kill().unwrap();
    let served = host.serve(&[]).await.unwrap();
    let mut client = served.connect().unwrap();
    assert_eq!(client.size_bytes(), 512 * MIB);
    assert_eq!(client.read(512 * MIB - 4096, 4096).unwrap(), [9; 4096]);
    client.zero(0, 4096).unwrap();
    client.trim(512 * MIB - 4096, 4096).unwrap();
    assert_eq!(client.read(0, 8192).unwrap(), [[0; 4096], [1; 4096]].concat());
    assert_eq!(client.read(512 * MIB - 4096, 4096).unwrap(), [0; 4096]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_an_object_is_an_error_and_never_data() {
    let (site, host) = site().await.unwrap();
    let mut served = host.serve(&[]).await.unwrap();
    let mut client = served.connect().unwrap();
    let data: Vec<u8> = (0..32_768_u32).flat_map(u32::to_le_bytes).collect();
    client.write(0, &data).unwrap();
    uploaded(&served).await.unwrap();
    assert_eq!(client.read(0, data.len()).unwrap(), data);
    served.kill().unwrap();
    let keys = site.keys().await.unwrap();
    let object = keys.iter().find(|key| key.as_str().contains("/d/")).unwrap();
    let whole = site
        .bucket()
        .await
        .unwrap()
        .get(object, None, Purpose("it"))
        .await
        .unwrap();
    site.flip(object, whole.total_bytes / 2).unwrap();

    let served = host.serve(&[]).await.unwrap();
    let mut client = served.connect().unwrap();
    let mut refused = 0;
    for (at, bytes) in (0_u64..).step_by(4096).zip(data.chunks(4096)) {
        match client.read(at, 4096) {
            Ok(read) => assert_eq!(read, bytes, "at {at}"),
            Err(NbdError::Refused(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "the damage was not met");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_once_is_read_from_the_slice_and_damage_there_is_fetched_anew() {
    let (site, host) = site().await.unwrap();
    let cache_at = host.set_cache(4 * MIB).unwrap();
    let served = host.serve(&[]).await.unwrap();
    let mut client = served.connect().unwrap();
    let data: Vec<u8> = (0..32_768_u32)
        .flat_map(|number| (number * 77).to_le_bytes())
        .collect();
    client.write(0, &data).unwrap();
    uploaded(&served).await.unwrap();
    assert_eq!(client.read(0, data.len()).unwrap(), data);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while !flip_line(&host, cache_at).unwrap() {
        ticks.tick().await;
    }
    assert_eq!(client.read(0, data.len()).unwrap(), data);
    let before = served.status().await.unwrap();
    site.pause().unwrap();
    assert_eq!(client.read(0, data.len()).unwrap(), data);
    site.resume().unwrap();
    let after = served.status().await.unwrap();
    assert_eq!(before["cache_miss_bytes"], after["cache_miss_bytes"]);
    assert!(
        before["cache_hit_bytes"].as_u64() < after["cache_hit_bytes"].as_u64(),
        "{after}"
    );
}

/// Changes the first line of the cache, once it is there.
fn flip_line(host: &Host, cache_at: u64) -> Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let slice = std::fs::File::options()
        .read(true)
        .write(true)
        .open(host.dir().join("slice"))?;
    let mut line = vec![0; 64 << 10];
    slice.read_exact_at(&mut line, cache_at)?;
    if line.iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    line.iter_mut().for_each(|byte| *byte ^= 4);
    slice.write_all_at(&line, cache_at)?;
    slice.sync_all()?;
    Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_what_the_journal_knew_as_durable_stops_the_opening() {
    let (site, host) = site().await.unwrap();
    let mut served = host.serve(&[]).await.unwrap();
    let mut client = served.connect().unwrap();
    client.write(0, &[1; 65_536]).unwrap();
    site.pause().unwrap();
    client.write(65_536, &[2; 65_536]).unwrap();
    client.flush().unwrap();
    served.kill().unwrap();
    // A second life writes down what it found durable.
    site.resume().unwrap();
    let mut served = host.serve(&[]).await.unwrap();
    site.pause().unwrap();
    served.kill().unwrap();
    site.resume().unwrap();
    flip_first_record(&host).unwrap();
    let mut refused = host.spawn(&[]).unwrap();
    let code = refused.ended().await.unwrap().code();
    assert_eq!(code, Some(LOOK), "{}", refused.words());
    assert!(
        refused.words().contains("the journal is damaged"),
        "{}",
        refused.words()
    );
}

/// Changes a bit in the first record of the ring.
fn flip_first_record(host: &Host) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let slice = std::fs::File::options()
        .read(true)
        .write(true)
        .open(host.dir().join("slice"))?;
    let mut byte = [0];
    let at = 3 * 4096 + 100;
    slice.read_exact_at(&mut byte, at)?;
    slice.write_all_at(&[byte[0] ^ 4], at)?;
    slice.sync_all()?;
    ensure!(byte[0] != 0, "no record there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_a_disk_is_refused_and_a_term_signal_ends_the_first_in_order() {
    let (_site, host) = site().await.unwrap();
    let mut served = host.serve(&[]).await.unwrap();
    let mut second = host.spawn(&[]).unwrap();
    assert_eq!(
        second.ended().await.unwrap().code(),
        Some(5),
        "{}",
        second.words()
    );
    let mut client = served.connect().unwrap();
    client.write(0, &[5; 4096]).unwrap();
    served.signal(Signal::TERM).unwrap();
    assert_eq!(
        served.ended().await.unwrap().code(),
        Some(0),
        "{}",
        served.words()
    );
    let served = host.serve(&[]).await.unwrap();
    assert_eq!(served.connect().unwrap().read(0, 4096).unwrap(), [5; 4096]);
}
