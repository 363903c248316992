//! Snapshots under a writer that stamps: what a snapshot holds is the state after some prefix of the writes.
//!
//! The guest's writer puts the sequence number `i` into slot `i % SLOTS` and syncs before it goes on to `i + 1`. So a
//! point in time after write `n` holds, in every slot, the largest number up to `n` that belongs there.

use it::{image, node::Node, volumes};
use serde_json::json;

const APP: &str = "/v1/apps/shop";
const SLOTS: u64 = 16;

/// Writes record after record, each on disk before the next.
const WRITER: &str = "i=0; while true; do i=$((i+1)); printf '%-4096s' $i | \
    dd of=/data/slots bs=4096 seek=$((i % 16)) conv=notrunc,fsync 2>/dev/null; done";
/// Prints the number in each slot, one a line; 0 for a slot that was never written.
const READER: &str = "s=0; while [ $s -lt 16 ]; do n=$(dd if=/data/slots bs=4096 skip=$s count=1 2>/dev/null | tr -d ' \\0'); \
    echo ${n:-0}; s=$((s+1)); done";

async fn slots(node: &Node, machine: &str) -> Vec<u64> {
    let text = image::exec(node, "shop", machine, READER).await.unwrap();
    text.lines().map(|line| line.trim().parse().unwrap()).collect()
}

/// Returns the length of the prefix that `slots` is the state after.
fn prefix(slots: &[u64]) -> Result<u64, String> {
    assert_eq!(slots.len() as u64, SLOTS);
    let newest = slots.iter().copied().max().unwrap_or(0);
    for (slot, found) in (0..).zip(slots) {
        let behind = (newest + SLOTS - slot) % SLOTS;
        let expected = newest.saturating_sub(behind);
        if *found != expected {
            return Err(format!(
                "slot {slot} holds {found} where a prefix of {newest} writes has {expected}: {slots:?}"
            ));
        }
    }
    Ok(newest)
}

#[test]
fn a_state_that_no_prefix_of_the_writes_has_is_found() {
    let whole: Vec<u64> = (0..SLOTS)
        .map(|slot| if slot <= 3 { 32 + slot } else { 16 + slot })
        .collect();
    assert_eq!(prefix(&whole), Ok(35));
    let mut torn = whole.clone();
    torn[7] -= SLOTS;
    assert!(prefix(&torn).is_err());
    let mut early = whole;
    early[4] += SLOTS * 2;
    assert!(prefix(&early).is_err());
}

/// Restores a snapshot into a machine of its own and returns the prefix that it holds.
async fn restored_prefix(node: &Node, snapshot: &str) -> u64 {
    let body = json!({"name": "copy", "region": "local", "size_gb": 1, "snapshot_id": snapshot, "require_unique_zone": false});
    let copy = volumes::create(node, "shop", body).await.unwrap();
    let machine = image::run(
        node,
        "shop",
        json!({"mounts": [{"volume": copy, "path": "/data"}]}),
    )
    .await
    .unwrap();
    let slots = slots(node, &machine).await;
    node.ok("DELETE", &format!("{APP}/machines/{machine}?force=true"), None)
        .await
        .unwrap();
    prefix(&slots).unwrap()
}

async fn story(node: &Node, reflink: bool) {
    let body = json!({"app_name": "shop", "name": "shop", "org_slug": "personal"});
    node.ok("POST", "/v1/apps", Some(&body)).await.unwrap();
    image::import(node).unwrap();
    let volume = volumes::create(
        node,
        "shop",
        json!({"name": "data", "region": "local", "size_gb": 1}),
    )
    .await
    .unwrap();
    let config =
        json!({"init": {"exec": ["/bin/sh", "-c", WRITER]}, "mounts": [{"volume": volume, "path": "/data"}]});
    let machine = image::run(node, "shop", config).await.unwrap();
    node.until("the writer to be under way", 60, || async {
        let newest = image::exec(node, "shop", &machine, READER).await?;
        Ok(newest
            .lines()
            .any(|line| line.parse().is_ok_and(|n: u64| n > 2 * SLOTS))
            .then_some(()))
    })
    .await
    .unwrap();
    let mut taken = Vec::new();
    for _ in 0..3 {
        let before = slots(node, &machine).await.into_iter().max().unwrap_or(0);
        taken.push((before, volumes::snapshot(node, "shop", &volume).await.unwrap()));
    }
    node.ok("DELETE", &format!("{APP}/machines/{machine}?force=true"), None)
        .await
        .unwrap();
    taken.push((
        taken[2].0,
        volumes::snapshot(node, "shop", &volume).await.unwrap(),
    ));
    for (before, id) in taken {
        let prefix = restored_prefix(node, &id).await;
        assert!(
            prefix >= before,
            "snapshot {id} has {prefix} writes; {before} were on disk when it was asked for"
        );
    }
    let shown = node
        .ok("GET", &format!("{APP}/volumes/{volume}"), None)
        .await
        .unwrap();
    assert_eq!(shown["atomic_snapshot"], reflink, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_under_a_stamping_writer_hold_a_prefix_without_reflink() {
    story(&Node::start().unwrap(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_under_a_stamping_writer_hold_a_prefix_with_reflink() {
    let (dir, _mounted) = it::reflink::xfs(8).unwrap();
    let node = Node::start_in(dir).unwrap();
    story(&node, true).await;
}
