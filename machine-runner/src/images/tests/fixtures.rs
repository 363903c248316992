//! Images made on the spot.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crashsafe::{Disk, RealDisk};
use daemon::wall_clock::ManualClock;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::erofs::tests::listing::{Listing, Seen, SeenKind};
use crate::erofs::tests::reader;
use crate::images::*;

/// One layer under construction.
pub(super) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(super) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, None, content)
    }

    pub(super) fn dir(self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, None, &[])
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, Some(target), &[])
    }

    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Link, Some(target), &[])
    }

    pub(super) fn device(self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = header(path, EntryType::Char, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.append(header, &[])
    }

    pub(super) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        let key = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(key.as_str(), value)]).unwrap();
        self
    }

    fn entry(self, path: &str, kind: EntryType, link: Option<&str>, content: &[u8]) -> Self {
        let mut header = header(path, kind, content.len() as u64);
        if let Some(link) = link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        self.append(header, content)
    }

    fn append(mut self, mut header: Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(super) fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// The name goes in as it is: also names that no honest archive has.
fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4750);
    header.set_uid(1000);
    header.set_gid(100_000);
    header.set_mtime(1_700_000_000);
    header
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

pub(super) fn pack(tar: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => tar.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(tar, 3).unwrap(),
    }
}

/// An OCI layout under construction.
pub(super) struct Layout {
    pub(super) path: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    pub(super) fn new(path: &Path) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        put(&path.join("oci-layout"), br#"{"imageLayoutVersion": "1.0.0"}"#);
        Self {
            path: path.to_owned(),
            manifests: Vec::new(),
        }
    }

    pub(super) fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        put(&self.blob_path(digest), bytes);
        json!({"digest": digest, "size": bytes.len(), "mediaType": "application/octet-stream"})
    }

    pub(super) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    /// Adds an image of these archives, and returns its descriptor.
    pub(super) fn image(&self, layers: &[Vec<u8>], packing: Packing) -> Value {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        self.image_with_config(layers, packing, &config(&diff_ids))
    }

    pub(super) fn image_with_config(&self, layers: &[Vec<u8>], packing: Packing, config: &Value) -> Value {
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.blob(&pack(layer, packing)))
            .collect();
        let config = self.blob(config.to_string().as_bytes());
        self.blob(
            json!({"schemaVersion": 2, "config": config, "layers": layers})
                .to_string()
                .as_bytes(),
        )
    }

    pub(super) fn name(mut self, descriptor: &Value, name: &str) -> Self {
        let mut descriptor = descriptor.clone();
        if !name.is_empty() {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.manifests.push(descriptor);
        self.write_index();
        self
    }

    fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        put(&self.path.join("index.json"), index.to_string().as_bytes());
    }
}

/// A layout with one image, named `demo:latest`.
pub(super) fn demo_layout(path: &Path, layers: &[Vec<u8>], packing: Packing) -> Layout {
    let layout = Layout::new(path);
    let image = layout.image(layers, packing);
    layout.name(&image, "demo:latest")
}

pub(super) fn config(diff_ids: &[Digest]) -> Value {
    json!({
        "architecture": "amd64", "os": "linux",
        "config": {
            "Env": ["PATH=/bin"], "Entrypoint": ["/bin/tool"], "Cmd": ["--serve"], "User": "1000:100", "WorkingDir": "/srv",
            "Labels": {"a": "b"}, "StopSignal": "SIGINT", "ExposedPorts": {"80/tcp": {}}, "Volumes": null,
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

pub(super) fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

pub(super) fn real_disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

pub(super) fn options() -> StoreOptions {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    StoreOptions {
        architecture: "amd64".to_owned(),
        clock,
        ..StoreOptions::default()
    }
}

pub(super) fn store(dir: &Path) -> ImageStore {
    ImageStore::open_with(&dir.join("images"), real_disk(), options()).unwrap()
}

pub(super) fn quiet() -> Progress {
    Arc::new(|_| {})
}

/// Collects progress.
pub(super) fn recorder() -> (Progress, Arc<Mutex<Vec<ProgressEvent>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    (Arc::new(move |event| sink.lock().unwrap().push(event)), events)
}

pub(super) async fn import(store: &ImageStore, path: &Path) -> Result<Image, ImportError> {
    let mut images = store.import_path(path, None, quiet()).await?;
    assert_eq!(images.len(), 1, "{images:?}");
    Ok(images.remove(0))
}

pub(super) fn listing(image: &Image) -> Listing {
    reader::read(&std::fs::read(&image.rootfs).unwrap())
}

pub(super) fn at<'l>(listing: &'l Listing, path: &str) -> &'l Seen {
    listing
        .0
        .get(path.as_bytes())
        .unwrap_or_else(|| panic!("no {path} in {:?}", paths(listing)))
}

pub(super) fn content<'l>(listing: &'l Listing, path: &str) -> &'l [u8] {
    match &at(listing, path).kind {
        SeenKind::File(bytes) => bytes,
        other => panic!("{path} is {other:?}"),
    }
}

pub(super) fn paths(listing: &Listing) -> Vec<String> {
    listing
        .0
        .keys()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect()
}

/// Asserts that nothing of an import stayed behind.
pub(super) fn assert_clean(dir: &Path) {
    let left: Vec<PathBuf> = std::fs::read_dir(dir.join("images/tmp"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The words of an error and its causes.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
