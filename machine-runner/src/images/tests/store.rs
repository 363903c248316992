//! Names, listing, removal.

use http::StatusCode;

use super::fixtures::*;
use crate::images::*;

async fn add(store: &ImageStore, dir: &Path, content: &str, name: &str) -> Image {
    let layout = Layout::new(&dir.join(content));
    let image = layout.image(&[Layer::new().file(content, b"").tar()], Packing::Gzip);
    let layout = layout.name(&image, "");
    store
        .import_path(&layout.path, Some(name), quiet())
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test]
async fn an_image_answers_to_every_way_of_naming_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let image = add(&store, dir.path(), "a", "demo").await;
    let hex = image.digest.hex();
    let names = [
        "demo",
        "demo:latest",
        "library/demo",
        "docker.io/library/demo:latest",
        "index.docker.io/library/demo",
        &format!("demo@{}", image.digest),
        &format!("other.example/x@{}", image.digest),
        &image.digest.to_string(),
        &hex[..12],
    ];
    for name in names {
        assert_eq!(store.resolve(name).unwrap().as_ref(), Some(&image), "{name}");
    }
    for name in ["demo:1", "other/demo", "demo2", &hex[..11], &"0".repeat(12)] {
        assert_eq!(store.resolve(name).unwrap(), None, "{name}");
    }
    for name in ["", "Demo", "a b", "demo:", "demo@sha256:12", "-x"] {
        let error = store.resolve(name).unwrap_err();
        assert!(
            error.to_string().contains("is not the name of an image"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_store_opened_again_has_the_same_images() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    add(&first, dir.path(), "a", "demo").await;
    add(&first, dir.path(), "b", "demo:2").await;
    let before = first.list();
    drop(first);
    std::fs::create_dir_all(dir.path().join("images/tmp/7")).unwrap();
    put(&dir.path().join("images/.names.json.0.tmp"), b"torn");
    assert_eq!(store(dir.path()).list(), before);
    assert_eq!(before.len(), 2);
    assert!(!dir.path().join("images/tmp").exists());
    assert!(!dir.path().join("images/.names.json.0.tmp").exists());
}

#[tokio::test]
async fn a_name_moves_to_the_newest_image_and_the_old_one_stays_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let old = add(&store, dir.path(), "a", "demo").await;
    let new = add(&store, dir.path(), "b", "demo").await;
    assert_eq!(store.resolve("demo").unwrap().unwrap().digest, new.digest);
    let old_now = store.resolve(&old.digest.to_string()).unwrap().unwrap();
    assert!(old_now.names.is_empty());
}

#[tokio::test]
async fn importing_again_builds_nothing_and_adds_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let layout = demo_layout(
        &dir.path().join("layout"),
        &[Layer::new().file("a", b"").tar()],
        Packing::Gzip,
    );
    let (progress, events) = recorder();
    store.import_path(&layout.path, None, progress).await.unwrap();
    assert!(
        events
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, ProgressEvent::Unpack { .. }))
    );
    let (progress, events) = recorder();
    let image = store
        .import_path(&layout.path, Some("again:1"), progress)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        image.names,
        ["docker.io/library/again:1", "docker.io/library/demo:latest"]
    );
    let events = events.lock().unwrap();
    assert!(
        matches!(events.as_slice(), [ProgressEvent::Done { .. }]),
        "{events:?}"
    );
    let line = serde_json::to_value(&events[0]).unwrap();
    assert_eq!(
        (line["step"].as_str(), line["digest"].as_str()),
        (Some("done"), Some(&*image.digest.to_string()))
    );
}

#[tokio::test]
async fn an_image_goes_with_its_last_name_unless_a_machine_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let image = add(&store, dir.path(), "a", "demo:1").await;
    add(&store, dir.path(), "a", "demo:2").await;
    let used = |digest: &Digest| *digest == image.digest;

    let removed = store.remove("demo:1", &used).unwrap();
    assert!(
        !removed.image && removed.names == ["docker.io/library/demo:1"],
        "{removed:?}"
    );
    for name in ["demo:2", &image.digest.to_string()] {
        let error = store.remove(name, &used).unwrap_err();
        assert!(matches!(error, RemoveError::InUse { .. }), "{error}");
        assert_eq!(error.status(), StatusCode::PRECONDITION_FAILED);
    }
    assert!(image.rootfs.exists());
    let removed = store.remove("demo:2", &|_| false).unwrap();
    assert!(
        removed.image && removed.freed_bytes == image.size_bytes,
        "{removed:?}"
    );
    assert!(!image.rootfs.parent().unwrap().exists());
    assert!(store.list().is_empty());
    assert_eq!(
        store.remove("demo:2", &|_| false).unwrap_err().status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(super::fixtures::store(dir.path()).list(), []);
}

#[tokio::test]
async fn by_digest_an_image_goes_with_all_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let image = add(&store, dir.path(), "a", "demo:1").await;
    add(&store, dir.path(), "a", "demo:2").await;
    let removed = store.remove(&image.digest.hex()[..12], &|_| false).unwrap();
    assert!(removed.image && removed.names.len() == 2, "{removed:?}");
}

#[tokio::test]
async fn one_name_for_several_images_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(&dir.path().join("layout"));
    let a = layout.image(&[Layer::new().file("a", b"").tar()], Packing::Gzip);
    let b = layout.image(&[Layer::new().file("b", b"").tar()], Packing::Gzip);
    let layout = layout.name(&a, "x:1").name(&b, "x:2");
    let store = store(dir.path());
    let error = store
        .import_path(&layout.path, Some("y"), quiet())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "it holds 2 images; they cannot all be named \"docker.io/library/y:latest\""
    );
    let images = store.import_path(&layout.path, None, quiet()).await.unwrap();
    assert_eq!(images.len(), 2);
}

#[tokio::test]
async fn image_ref_speaks_the_words_of_the_machines_api() {
    let dir = tempfile::tempdir().unwrap();
    let image = add(&store(dir.path()), dir.path(), "a", "localhost:5000/team/demo:3").await;
    let value = serde_json::to_value(image.image_ref("localhost:5000/team/demo:3")).unwrap();
    let expected = serde_json::json!({
        "registry": "localhost:5000", "repository": "team/demo", "tag": "3",
        "digest": image.digest.to_string(), "labels": {"a": "b"},
    });
    assert_eq!(value, expected);
    assert_eq!(image.image_ref(&image.digest.hex()[..12]).repository, "");
}

#[tokio::test]
async fn a_store_of_a_newer_version_or_with_a_damaged_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let image = add(&store(dir.path()), dir.path(), "a", "demo").await;
    let open = || {
        ImageStore::open_with(&dir.path().join("images"), real_disk(), options())
            .unwrap_err()
            .to_string()
    };
    let record = image.rootfs.with_file_name("image.json");
    let text = std::fs::read_to_string(&record).unwrap();
    put(
        &record,
        text.replace("\"format_version\": 1", "\"format_version\": 2")
            .as_bytes(),
    );
    assert!(
        open().ends_with("has format version 2; this program knows 1"),
        "{}",
        open()
    );
    put(&record, b"{");
    assert!(
        open().ends_with("is damaged; remove it, and import its images again"),
        "{}",
        open()
    );
}

#[tokio::test]
async fn imports_and_pulls_may_run_in_tasks_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let task = daemon::spawn("pull", async move {
        // Nobody listens on port 1.
        let ensured = store.ensure("127.0.0.1:1/demo", quiet()).await;
        let imported = store.import_path(Path::new("/nonexistent"), None, quiet()).await;
        (ensured, imported)
    });
    let (ensured, imported) = task.await.unwrap();
    assert_eq!(ensured.unwrap_err().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(imported.unwrap_err().status(), StatusCode::NOT_FOUND);
}
