//! Volumes on the host itself: real loop devices and file systems, volumed killed in between.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use daemon::unix_http::{CallError, Client};
use it::volumed::Volumed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Takes down what a failed test leaves mounted.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // Not mounted is as good.
        let source = Command::new("findmnt")
            .args(["--noheadings", "--output", "SOURCE"])
            .arg(&self.0)
            .output();
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
        if let Ok(source) = source {
            let node = String::from_utf8_lossy(&source.stdout).trim().to_owned();
            let _ = Command::new("losetup").args(["--detach", &node]).output();
        }
    }
}

async fn made(client: &Client, volumed: &Volumed, fstype: &str, more: &Value) -> String {
    let mut body = json!({
        "app": "shop", "name": "data", "region": "local", "size_gb": 1, "fstype": fstype, "require_unique_zone": false,
    });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let volume: Value = client.post("/v1/volumes", &body).await.unwrap();
    volumed.rest(client).await.unwrap();
    volume["id"].as_str().unwrap().to_owned()
}

async fn mounted(client: &Client, volume: &str, place: &Path) -> Result<Value, CallError> {
    let body = json!({"host_path": place});
    client.put(&format!("/v1/volumes/{volume}/mount"), &body).await
}

fn refused(result: Result<Value, CallError>) -> (u16, String) {
    match result {
        Err(CallError::Status { status, error, .. }) => (status, error),
        other => panic!("not refused: {other:?}"),
    }
}

fn blocks(place: &Path) -> u64 {
    let counted = rustix::fs::statvfs(place).unwrap();
    counted.f_blocks * counted.f_frsize
}

/// Says whether this process has CAP_SYS_RESOURCE, without which the kernel refuses to grow a mounted ext4.
fn may_grow_ext4() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << 24) != 0
}

fn plain() -> Value {
    json!({"encrypted": false})
}

fn bottomless() -> Value {
    json!({"type": "bottomless"})
}

async fn story(fstype: &str, kind: &Value) {
    let mut volumed = Volumed::new().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = Place(dir.path().join("my data"));
    let mut running = volumed.start().await.unwrap();
    let client = volumed.client();
    let volume = made(&client, &volumed, fstype, kind).await;
    let shown = mounted(&client, &volume, &place.0).await.unwrap();
    assert_eq!(shown["generation"], 1, "{shown}");
    fs::create_dir(place.0.join("sub")).unwrap();
    let mut file = File::create(place.0.join("sub/file")).unwrap();
    file.write_all(b"first").unwrap();
    file.sync_all().unwrap();

    // A daemon that dies takes nothing away, and knows it all when it is back.
    running.kill_hard().unwrap();
    file.write_all(b", second").unwrap();
    let mut running = volumed.start().await.unwrap();
    volumed.rest(&client).await.unwrap();
    let small = blocks(&place.0);
    let path = format!("/v1/volumes/{volume}");
    let grown: Value = client
        .put(&format!("{path}/extend"), &json!({"size_gb": 2}))
        .await
        .unwrap();
    let can = fstype != "ext4" || may_grow_ext4();
    assert_eq!(grown["needs_restart"], !can, "{grown}");
    let after = blocks(&place.0);
    assert_eq!(after > small + (900 << 20), can, "{small} → {after}");
    file.write_all(b", third").unwrap();

    let (status, sentence) = refused(
        client
            .post(&format!("{path}/attach"), &json!({"machine_id": "m1"}))
            .await,
    );
    assert_eq!(status, 412);
    assert!(sentence.contains("my data"), "{sentence}");
    let (status, sentence) = refused(client.delete(&format!("{path}/mount")).await);
    assert_eq!(status, 422, "{sentence}");
    assert!(sentence.contains("in use"), "{sentence}");
    drop(file);
    let gone: Value = client.delete(&format!("{path}/mount")).await.unwrap();
    assert_eq!(gone["host_path"], Value::Null, "{gone}");
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0);

    let inside = volumed.path("volumed/pool/data");
    let (status, sentence) = refused(mounted(&client, &volume, &inside).await);
    assert_eq!(status, 422);
    assert!(sentence.contains("folder of pool default"), "{sentence}");
    assert!(!inside.exists());

    // Somebody's files are not hidden under a mount.
    File::create(place.0.join("in the way")).unwrap();
    let (status, sentence) = refused(mounted(&client, &volume, &place.0).await);
    assert_eq!(status, 422);
    assert!(sentence.contains("not an empty directory"), "{sentence}");
    fs::remove_file(place.0.join("in the way")).unwrap();

    // What a boot takes away, the next start brings back.
    let again = mounted(&client, &volume, &place.0).await.unwrap();
    assert!(again["generation"].as_u64() > Some(1), "{again}");
    running.kill_hard().unwrap();
    let unmounted = Command::new("umount").arg(&place.0).status().unwrap();
    assert!(unmounted.success());
    let _running = volumed.start().await.unwrap();
    volumed.rest(&client).await.unwrap();
    assert_eq!(
        fs::read(place.0.join("sub/file")).unwrap(),
        b"first, second, third"
    );
    let _: Value = client.delete(&format!("{path}/mount")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ext4_volume_lives_on_a_directory_of_the_host() {
    story("ext4", &plain()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xfs_volume_lives_on_a_directory_of_the_host() {
    story("xfs", &plain()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bottomless_volume_lives_on_a_directory_of_the_host() {
    story("ext4", &bottomless()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_on_a_bottomless_volume_of_the_host_outlive_the_process_that_serves_it() {
    let mut volumed = Volumed::new().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = Place(dir.path().join("data"));
    let _running = volumed.start().await.unwrap();
    let client = volumed.client();
    let volume = made(&client, &volumed, "xfs", &bottomless()).await;
    mounted(&client, &volume, &place.0).await.unwrap();
    let path = format!("/v1/volumes/{volume}");
    let file = File::create(place.0.join("file")).unwrap();
    for round in 0..5_u8 {
        let shown: Value = client.get(&path).await.unwrap();
        let served_by = shown["disk"]["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        let pid = Pid::from_raw(served_by.expect("served")).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        // Waits until another serves.
        file.write_all_at(&[round; 65_536], u64::from(round) * 65_536)
            .unwrap();
        file.sync_all().unwrap();
    }
    let snapshot = volumed.snapshot(&client, &volume).await.unwrap();
    drop(file);
    let _: Value = client.delete(&format!("{path}/mount")).await.unwrap();
    assert!(!volumed.path(&format!("volumed/disks/{volume}/file")).exists());

    // Somewhere else, as it was at the snapshot.
    let body = json!({"name": "back", "snapshot_id": snapshot});
    let back = volumed.create(&client, &body).await.unwrap();
    let other = Place(dir.path().join("back"));
    mounted(&client, &back, &other.0).await.unwrap();
    let read = fs::read(other.0.join("file")).unwrap();
    let expected: Vec<u8> = (0..5).flat_map(|round| [round; 65_536]).collect();
    assert!(
        read == expected,
        "{} bytes, not those that were synced",
        read.len()
    );
    let _: Value = client.delete(&format!("/v1/volumes/{back}/mount")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ext4_that_cannot_grow_while_it_is_mounted_grows_when_it_is_attached_again() {
    let mut volumed = Volumed::new().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = Place(dir.path().join("data"));
    let _running = volumed.start().await.unwrap();
    let client = volumed.client();
    let volume = made(&client, &volumed, "ext4", &plain()).await;
    mounted(&client, &volume, &place.0).await.unwrap();
    let path = format!("/v1/volumes/{volume}");
    let _: Value = client.delete(&format!("{path}/mount")).await.unwrap();
    // Nothing reserved for more groups: no kernel grows it past 8 GiB while it is mounted.
    let slice = volumed.path(&format!("volumed/pool/v-{volume}.img"));
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^resize_inode"],
        &slice,
    );
    mounted(&client, &volume, &place.0).await.unwrap();
    let mut kept = File::create(place.0.join("kept")).unwrap();
    kept.write_all(b"through it all").unwrap();
    drop(kept);
    let grown: Value = client
        .put(&format!("{path}/extend"), &json!({"size_gb": 20}))
        .await
        .unwrap();
    assert_eq!(grown["needs_restart"], true, "{grown}");
    let events: Vec<Value> = client.get("/v1/events").await.unwrap();
    let told = events.iter().rfind(|event| event["kind"] == "extended").unwrap();
    assert!(
        told["message"].as_str().unwrap().contains("attached again"),
        "{told}"
    );

    let _: Value = client.delete(&format!("{path}/mount")).await.unwrap();
    mounted(&client, &volume, &place.0).await.unwrap();
    assert!(blocks(&place.0) > 19 << 30, "{}", blocks(&place.0));
    assert_eq!(fs::read(place.0.join("kept")).unwrap(), b"through it all");
    let shown: Value = client.get(&path).await.unwrap();
    assert_eq!(shown["needs_restart"], false, "{shown}");
    let _: Value = client.delete(&format!("{path}/mount")).await.unwrap();
}

fn run(program: &str, args: &[&str], path: &Path) {
    let done = Command::new(program).args(args).arg(path).status().unwrap();
    assert!(done.success(), "{program} {args:?} {}", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_behind_our_back_is_seen_and_detach_is_never_said_to_be_done_when_it_is_not() {
    let mut volumed = Volumed::new().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _running = volumed.start().await.unwrap();
    let client = volumed.client();
    let volume = made(&client, &volumed, "ext4", &plain()).await;
    let path = format!("/v1/volumes/{volume}/mount");

    // By a symbolic link, which the kernel's table does not know.
    fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
    let place = Place(dir.path().join("real/data"));
    mounted(&client, &volume, &dir.path().join("link/data"))
        .await
        .unwrap();
    File::create(place.0.join("kept")).unwrap().sync_all().unwrap();

    // Another volume in it or around it would hide it, or be hidden, after a boot.
    let other = made(&client, &volumed, "ext4", &plain()).await;
    for (at, said) in [
        ("real/data/inner", "lies in"),
        ("link/data", "where volume"),
        ("real", "which lies in"),
    ] {
        let (status, sentence) = refused(mounted(&client, &other, &dir.path().join(at)).await);
        assert!(status == 412 && sentence.contains(said), "{status} {sentence}");
    }
    let inspected = async || client.get::<Value>("/v1/inspection").await.unwrap();
    assert_eq!(inspected().await["not_mounted"], json!([]));

    // Unmounted by somebody else, and attached again.
    run("umount", &[], &place.0);
    let found = inspected().await["not_mounted"].clone();
    assert_eq!(found[0]["volume_id"], *volume, "{found}");
    mounted(&client, &volume, &dir.path().join("link/data"))
        .await
        .unwrap();
    assert!(place.0.join("kept").exists());

    // Something else on top of it.
    run("mount", &["-t", "tmpfs", "none"], &place.0);
    let (status, sentence) = refused(client.delete(&path).await);
    assert!(
        status == 422 && sentence.contains("in use"),
        "{status} {sentence}"
    );
    run("umount", &[], &place.0);
    assert!(place.0.join("kept").exists());
    let gone: Value = client.delete(&path).await.unwrap();
    assert_eq!(gone["host_path"], Value::Null, "{gone}");
    assert!(!place.0.join("kept").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_slice_is_gone_is_not_held_for_ever() {
    let mut volumed = Volumed::new().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _running = volumed.start().await.unwrap();
    let client = volumed.client();
    let volume = made(&client, &volumed, "ext4", &plain()).await;
    let files = volumed.pool_files().unwrap();
    let slice = files.iter().find(|name| name.contains(&volume)).unwrap();
    fs::remove_file(volumed.path("volumed/pool").join(slice)).unwrap();

    let (_, sentence) = refused(mounted(&client, &volume, &dir.path().join("data")).await);
    assert!(sentence.contains("slice"), "{sentence}");
    volumed.rest(&client).await.unwrap();
    let path = format!("/v1/volumes/{volume}");
    let shown: Value = client.get(&path).await.unwrap();
    assert_eq!(shown["host_path"], Value::Null, "{shown}");
    let _: Value = client.delete(&path).await.unwrap();
    let _: Value = client.post(&format!("{path}/purge"), &json!({})).await.unwrap();
}
