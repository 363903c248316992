//! Layers and archives, good and bad.

use serde_json::json;

use super::fixtures::*;
use crate::erofs::tests::listing::SeenKind;
use crate::images::*;

#[tokio::test]
async fn layers_become_one_root_file_system_with_owners_modes_links_and_attributes() {
    let dir = tempfile::tempdir().unwrap();
    let lower = Layer::new()
        .dir("etc")
        .file("etc/passwd", b"root")
        .file("etc/old", b"old")
        .xattr("security.capability", b"\x01\n=\x02")
        .file("bin/tool", &vec![7; 10_000])
        .hard_link("bin/alias", "bin/tool")
        .device("dev/null", 1, 3)
        .tar();
    let upper = Layer::new()
        .file("etc/.wh.old", b"")
        .file("etc/passwd", b"me")
        .symlink("sh", "bin/tool")
        .file("empty", b"")
        .tar();
    for (index, packing) in [Packing::Plain, Packing::Gzip, Packing::Zstd]
        .into_iter()
        .enumerate()
    {
        let root = dir.path().join(index.to_string());
        let layers = [lower.clone(), upper.clone()];
        let layout = demo_layout(&root.join("layout"), &layers, packing);
        let store = store(&root);
        let image = import(&store, &layout.path).await.unwrap();
        let seen = listing(&image);
        let expected = [
            "",
            "/bin",
            "/bin/alias",
            "/bin/tool",
            "/dev",
            "/dev/null",
            "/empty",
            "/etc",
            "/etc/passwd",
            "/sh",
        ];
        assert_eq!(paths(&seen), expected);
        let tool = at(&seen, "/bin/tool");
        assert_eq!(
            (tool.mode, tool.uid, tool.gid, tool.links),
            (0o104_750, 1000, 100_000, 2)
        );
        assert_eq!(tool.mtime.seconds, 1_700_000_000);
        assert_eq!(tool.xattrs[&b"security.capability"[..]], b"\x01\n=\x02");
        assert_eq!(at(&seen, "/bin/alias").identity, tool.identity);
        assert_eq!(content(&seen, "/bin/tool"), vec![7; 10_000]);
        assert_eq!(content(&seen, "/etc/passwd"), b"me");
        assert_eq!(at(&seen, "/dev/null").kind, SeenKind::CharacterDevice(1, 3));
        assert_eq!(at(&seen, "/sh").kind, SeenKind::Symlink(b"bin/tool".to_vec()));
        assert_eq!(image.names, ["docker.io/library/demo:latest"]);
        assert_eq!(image.config.env, ["PATH=/bin"]);
        assert_eq!((image.config.entrypoint.len(), image.config.cmd.len()), (1, 1));
        assert_eq!(
            (image.config.user.as_str(), image.config.working_dir.as_str()),
            ("1000:100", "/srv")
        );
        assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(image.config.exposed_ports, ["80/tcp"]);
        assert_clean(&root);
    }
}

#[tokio::test]
async fn the_same_image_gives_the_same_bytes_whatever_its_packing_and_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    for store_name in ["one", "two"] {
        let root = dir.path().join(store_name);
        let layout = demo_layout(
            &root.join("layout"),
            &[Layer::new().file("a", b"x").tar()],
            Packing::Gzip,
        );
        let image = import(&store(&root), &layout.path).await.unwrap();
        bytes.push(std::fs::read(&image.rootfs).unwrap());
    }
    assert!(bytes[0] == bytes[1]);
}

/// Imports one layer, which must fail, and returns the words.
async fn refusal(layer: Vec<u8>, options: StoreOptions) -> String {
    let dir = tempfile::tempdir().unwrap();
    let layout = demo_layout(&dir.path().join("layout"), &[layer], Packing::Gzip);
    let store = ImageStore::open_with(&dir.path().join("images"), real_disk(), options).unwrap();
    let error = import(&store, &layout.path).await.unwrap_err();
    assert!(store.list().is_empty());
    assert_clean(dir.path());
    words(&error)
}

#[tokio::test]
async fn paths_that_lead_out_are_refused_and_absolute_ones_become_relative() {
    let words = refusal(Layer::new().file("../../etc/cron.d/x", b"").tar(), options()).await;
    assert!(
        words.ends_with("entry \"../../etc/cron.d/x\" leads out of the image"),
        "{words}"
    );
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::new()
        .symlink("out", "/../../tmp")
        .file("out/escaped", b"x")
        .file("/etc/x", b"y")
        .tar();
    let layout = demo_layout(&dir.path().join("layout"), &[layer], Packing::Plain);
    let image = import(&store(dir.path()), &layout.path).await.unwrap();
    assert_eq!(
        paths(&listing(&image)),
        ["", "/etc", "/etc/x", "/out", "/tmp", "/tmp/escaped"]
    );
}

#[tokio::test]
async fn bombs_are_stopped_at_the_limit() {
    let small = |limits| StoreOptions { limits, ..options() };
    let limits = Limits {
        unpacked_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let zeros = Layer::new().file("zeros", &vec![0; 8 << 20]).tar();
    let words = refusal(zeros, small(limits)).await;
    assert_eq!(
        words,
        "the image unpacks to more than 1048576 bytes, which is the limit here"
    );

    // A sparse file of 1 PiB in a layer of 1 KiB.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_gnu_mut().unwrap().set_real_size(1 << 50);
    header.as_old_mut().name[0] = b's';
    header.set_cksum();
    let words = refusal(header.as_bytes().to_vec(), options()).await;
    assert!(words.starts_with("the image unpacks to more than"), "{words}");

    let many = (0..20)
        .fold(Layer::new(), |layer, i| layer.file(&i.to_string(), b""))
        .tar();
    let words = refusal(
        many,
        small(Limits {
            entries_max: 10,
            ..Limits::default()
        }),
    )
    .await;
    assert_eq!(words, "the image has more than 10 files, which is the limit here");
    let words = refusal(
        Layer::new().tar(),
        small(Limits {
            layers_max: 0,
            ..Limits::default()
        }),
    )
    .await;
    assert_eq!(words, "the image has 1 layers; the limit here is 0");
}

#[tokio::test]
async fn a_corrupt_blob_is_named_with_both_digests() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::new().file("a", &vec![5; 5000]).tar();
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let root = dir.path().join(format!("{packing:?}"));
        let layout = demo_layout(&root.join("layout"), std::slice::from_ref(&layer), packing);
        let mut blob = pack(&layer, packing);
        let digest = Digest::of(&blob);
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        put(&layout.blob_path(digest), &blob);
        let store = store(&root);
        let error = import(&store, &layout.path).await.unwrap_err();
        let expected = format!(
            "{digest} is corrupt: its bytes have the digest {}",
            Digest::of(&blob)
        );
        assert_eq!(error.to_string(), expected, "{packing:?}");
        assert_eq!(error.status(), http::StatusCode::UNPROCESSABLE_ENTITY);
        assert_clean(&root);
    }
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_configuration_says_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::new().file("a", b"b").tar();
    let layout = Layout::new(&dir.path().join("layout"));
    let other = Digest::of(b"other");
    let image = layout.image_with_config(std::slice::from_ref(&layer), Packing::Gzip, &config(&[other]));
    let layout = layout.name(&image, "demo");
    let error = import(&store(dir.path()), &layout.path).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{other} is corrupt: its bytes have the digest {}",
            Digest::of(&layer)
        )
    );
}

#[tokio::test]
async fn an_index_yields_the_variant_of_this_platform_and_answers_to_its_own_digest() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(&dir.path().join("layout"));
    let mut ours = layout.image(&[Layer::new().file("ours", b"").tar()], Packing::Gzip);
    ours["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut theirs = layout.image(&[Layer::new().file("theirs", b"").tar()], Packing::Gzip);
    theirs["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let mut attestation = layout.image(&[], Packing::Gzip);
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let both = json!({"schemaVersion": 2, "manifests": [theirs, attestation, ours]});
    let index = layout.blob(both.to_string().as_bytes());
    let index_digest = index["digest"].as_str().unwrap().to_owned();
    let layout = layout.name(&index, "multi:1");
    let store = store(dir.path());
    let image = import(&store, &layout.path).await.unwrap();
    assert_eq!(paths(&listing(&image)), ["", "/ours"]);
    assert_eq!(
        store.resolve(&format!("multi@{index_digest}")).unwrap(),
        Some(image)
    );

    let layout = Layout::new(&dir.path().join("other"));
    let only = layout.blob(json!({"manifests": [theirs]}).to_string().as_bytes());
    let layout = layout.name(&only, "multi:2");
    let error = import(&store, &layout.path).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "it has no variant for linux/amd64; offered: linux/s390x"
    );
}

#[tokio::test]
async fn an_image_of_another_platform_is_refused_though_no_index_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(&dir.path().join("layout"));
    let mut config = config(&[]);
    config["architecture"] = json!("arm64");
    let image = layout.image_with_config(&[], Packing::Plain, &config);
    let layout = layout.name(&image, "demo");
    let error = import(&store(dir.path()), &layout.path).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "it has no variant for linux/amd64; offered: linux/arm64"
    );
}

#[tokio::test]
async fn what_is_no_image_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let refused = async |name: &str| words(&import(&store, &dir.path().join(name)).await.unwrap_err());
    put(&dir.path().join("text"), b"hello");
    put(&dir.path().join("other.tar"), &Layer::new().file("a", b"").tar());
    put(
        &dir.path().join("bad.tar"),
        &Layer::new().file("manifest.json", b"[{]").tar(),
    );
    put(
        &dir.path().join("empty.tar"),
        &Layer::new().file("manifest.json", b"[]").tar(),
    );
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(refused("absent").await.ends_with("absent does not exist"));
    assert!(refused("text").await.contains("is not a readable tar archive"));
    assert!(
        refused("other.tar")
            .await
            .ends_with("neither an OCI image layout nor an archive of docker save")
    );
    assert!(
        refused("bad.tar")
            .await
            .starts_with("the list of images is malformed")
    );
    assert_eq!(refused("empty.tar").await, "there is no image in it");
    assert!(refused("empty").await.contains("index.json"));
}

#[tokio::test]
async fn an_archive_of_docker_save_and_a_tar_of_a_layout_hold_images_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let layer = Layer::new().file("a", b"b").tar();
    let config = config(&[Digest::of(&layer)]).to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let list = json!([
        {"Config": config_name, "RepoTags": ["demo:1", "r.example/demo:2"], "Layers": ["x/layer.tar"]},
        {"Config": config_name, "RepoTags": null, "Layers": ["y/layer.tar"]},
    ]);
    let archive = Layer::new()
        .file(&config_name, config.as_bytes())
        .file("x/layer.tar", &layer)
        .symlink("y/layer.tar", "../x/layer.tar")
        .file("manifest.json", list.to_string().as_bytes());
    put(&dir.path().join("saved.tar"), &archive.tar());
    let images = store
        .import_path(&dir.path().join("saved.tar"), None, quiet())
        .await
        .unwrap();
    assert_eq!(
        images[0].digest, images[1].digest,
        "the same content is the same image"
    );
    assert_eq!(images[1].names, ["docker.io/library/demo:1", "r.example/demo:2"]);
    assert_eq!(content(&listing(&images[0]), "/a"), b"b");

    let layout = Layout::new(&dir.path().join("layout"));
    let image = layout.image(std::slice::from_ref(&layer), Packing::Gzip);
    let layout = layout.name(&image, "stable");
    let tar = dir.path().join("tool.tar");
    let made = std::process::Command::new("tar")
        .arg("-C")
        .arg(&layout.path)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status();
    assert!(made.unwrap().success());
    let image = import(&store, &tar).await.unwrap();
    assert_eq!(
        image.names,
        ["docker.io/library/tool:stable"],
        "a bare tag takes the file's name"
    );
}
