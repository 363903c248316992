//! Power cuts and kills at every point of imports and removals, replayed from a recording.

use std::collections::BTreeMap;

use crashsafe::{Log, Recorder};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::fixtures::*;
use crate::images::*;

/// What was promised when a call returned: names, and the image that each means. Digests are names too.
type Promise = BTreeMap<String, Digest>;
/// Power cuts drawn after each event.
const CUTS: u64 = 2;

struct Story {
    log: Log,
    /// The bytes of every image that was ever there.
    images: BTreeMap<Digest, Vec<u8>>,
}

fn promise(store: &ImageStore) -> Vec<u8> {
    let images = store.list();
    let named = images.iter().flat_map(|image| {
        let names = image.names.iter().cloned().chain([image.digest.to_string()]);
        names.map(|name| (name, image.digest))
    });
    let promise: Promise = named.collect();
    serde_json::to_vec(&promise).unwrap()
}

/// Imports three images, one without a name, moves a name, removes one image; a marker after each step.
async fn story(dir: &Path) -> Story {
    let layer = |name: &str, len| Layer::new().file(name, &vec![1; len]).tar();
    let first = demo_layout(&dir.join("first"), &[layer("a", 9000)], Packing::Gzip);
    let second = demo_layout(&dir.join("second"), &[layer("b", 100)], Packing::Gzip);
    let bare = Layout::new(&dir.join("bare"));
    let image = bare.image(&[layer("c", 100)], Packing::Gzip);
    let bare = bare.name(&image, "");
    let recorder = Arc::new(Recorder::new(crashsafe::RealDisk, dir).unwrap());
    let disk: Arc<dyn Disk> = recorder.clone();
    let store = ImageStore::open_with(&dir.join("images"), disk, options()).unwrap();
    let mut images = BTreeMap::new();
    let steps = [
        (&first, Some("one")),
        (&bare, None),
        (&second, Some("one")),
        (&first, Some("three")),
    ];
    for (layout, name) in steps {
        let added = store
            .import_path(&layout.path, name, quiet())
            .await
            .unwrap()
            .remove(0);
        images.insert(added.digest, std::fs::read(&added.rootfs).unwrap());
        recorder.mark("promised", promise(&store));
    }
    // With its last name goes the image.
    let doomed = store.resolve("three").unwrap().unwrap().digest;
    recorder.mark("removing", doomed.to_string());
    store.remove("three", &|_| false).unwrap();
    recorder.mark("promised", promise(&store));
    Story {
        log: recorder.log(),
        images,
    }
}

/// A directory in memory where there is one: what is left after a cut need not survive another.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// A store opened on what is left holds whole images only, and all that was promised.
fn check(story: &Story, cut: &crashsafe::Cut, events: usize) {
    let dir = scratch();
    cut.write(&crashsafe::RealDisk, dir.path()).unwrap();
    let store = store(dir.path());
    for image in store.list() {
        let bytes = std::fs::read(&image.rootfs).unwrap();
        assert!(
            bytes == story.images[&image.digest],
            "image {} differs after event {events}",
            image.digest
        );
        assert!(image.rootfs.with_file_name("config.json").exists());
    }
    let promised = cut
        .last_marker("promised")
        .map(|bytes| serde_json::from_slice(bytes).unwrap());
    let promised: Promise = promised.unwrap_or_default();
    let under_way = cut.markers().last().filter(|marker| marker.label == "removing");
    let doomed = under_way.map(|marker| String::from_utf8(marker.payload.to_vec()).unwrap());
    for (name, digest) in promised {
        let resolved = store.resolve(&name).unwrap().map(|image| image.digest);
        // The step under way may have moved a name already; it never loses one.
        let moves = name == "docker.io/library/one:latest";
        match resolved {
            Some(found) => assert!(found == digest || moves, "{name} after event {events}"),
            None => assert!(
                doomed == Some(digest.to_string()),
                "{name} is lost after event {events}"
            ),
        }
    }
    assert!(!dir.path().join("images/tmp").exists());
}

#[tokio::test]
async fn no_power_cut_loses_a_promised_image_or_leaves_half_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let story = story(dir.path()).await;
    for events in 0..=story.log.len() {
        for seed in 0..CUTS {
            let mut rng = ChaCha8Rng::seed_from_u64(seed * 10_000 + events as u64);
            check(&story, &story.log.cut(events, &mut rng), events);
        }
    }
}

#[tokio::test]
async fn a_killed_daemon_leaves_whole_images_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let story = story(dir.path()).await;
    for events in 0..=story.log.len() {
        check(&story, &story.log.kill(events), events);
    }
}
