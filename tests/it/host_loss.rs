//! The whole data directory is gone; the bucket and the exported key bring every snapshot back.

use it::{image, node::Node, volumes};
use serde_json::json;
use std::{fs, path::Path};

const APP: &str = "/v1/apps/shop";

async fn app(node: &Node) {
    node.ok(
        "POST",
        "/v1/apps",
        Some(&json!({"app_name": "shop", "name": "shop", "org_slug": "personal"})),
    )
    .await
    .unwrap();
    image::import(node).unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy_tree(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_host_comes_back_from_the_bucket_and_the_exported_key() {
    let node = Node::start().unwrap();
    app(&node).await;
    let volume = volumes::create(
        &node,
        "shop",
        json!({"name": "data", "region": "local", "size_gb": 1}),
    )
    .await
    .unwrap();
    let mounts = json!({"mounts": [{"volume": volume, "path": "/data"}]});
    let machine = image::run(&node, "shop", mounts).await.unwrap();
    let write = "dd if=/dev/urandom of=/data/file bs=1M count=24 2>/dev/null; sync; sha256sum /data/file";
    let first_sum = image::exec(&node, "shop", &machine, write).await.unwrap();
    let first = volumes::snapshot(&node, "shop", &volume).await.unwrap();
    let second_sum = image::exec(&node, "shop", &machine, write).await.unwrap();
    let second = volumes::snapshot(&node, "shop", &volume).await.unwrap();
    assert_ne!(first_sum, second_sum);
    let (code, key, words) = node.hangar(&["key", "export"]).unwrap();
    assert_eq!(code, 0, "{words}");

    // All that is left of the old host: what its bucket held, and the text of the key.
    let old = node.stop_keeping().unwrap();
    let fresh = tempfile::Builder::new().prefix("hg").tempdir_in("/tmp").unwrap();
    copy_tree(&old.path().join("s3"), &fresh.path().join("s3"));
    old.close().unwrap();

    let node = Node::start_in(fresh).unwrap();
    let file = node.path("key.txt");
    crashsafe::write_atomic(&crashsafe::RealDisk, "it:key", &file, key.as_bytes(), 0o600).unwrap();
    let (code, _, words) = node.hangar(&["key", "import", &file.to_string_lossy()]).unwrap();
    assert_eq!(code, 0, "{words}");
    app(&node).await;
    for (id, sum) in [(first, first_sum), (second, second_sum)] {
        let body = json!({"name": "back", "region": "local", "size_gb": 1, "snapshot_id": id, "require_unique_zone": false});
        let back = volumes::create(&node, "shop", body).await.unwrap();
        let machine = image::run(
            &node,
            "shop",
            json!({"mounts": [{"volume": back, "path": "/data"}]}),
        )
        .await
        .unwrap();
        assert_eq!(
            image::exec(&node, "shop", &machine, "sha256sum /data/file")
                .await
                .unwrap(),
            sum,
            "snapshot {id}"
        );
        let path = format!("{APP}/machines/{machine}?force=true");
        node.ok("DELETE", &path, None).await.unwrap();
    }
}
