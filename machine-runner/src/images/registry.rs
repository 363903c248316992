//! Pulls the documents and layers of an image from a registry.

mod credentials;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crashsafe::{Disk, OpenOptions};
use futures_util::StreamExt;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use tokio::sync::mpsc;

use super::digest::{Digest, Hasher};
use super::manifest::{self, Descriptor, Document, MEDIA_ACCEPTED, Manifest};
use super::name::ImageName;
use super::source::{Blob, DOCUMENT_BYTES_MAX, FoundImage};
use super::{ImportError, Progress, ProgressEvent, on_thread};

/// Indexes within indexes, at most.
const DEPTH_MAX: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 3;
const CHUNKS_QUEUED: usize = 16;
/// How far apart reports on a download are.
const REPORT_BYTES: u64 = 1 << 20;

/// One image in one registry.
pub(super) struct Registry {
    disk: Arc<dyn Disk>,
    name: ImageName,
    client: Client,
    auth: RegistryAuth,
    architecture: String,
}

impl Registry {
    /// * `docker_config`: a file as `docker login` writes it; absent or without an entry means anonymous.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        name: ImageName,
        docker_config: Option<&Path>,
        architecture: &str,
    ) -> Self {
        let registry = name.reference().resolve_registry().to_owned();
        let auth = docker_config.and_then(|path| credentials::find(&*disk, path, name.registry()));
        let protocol = if is_loopback(&registry) {
            ClientProtocol::HttpsExcept(vec![registry])
        } else {
            ClientProtocol::Https
        };
        let client = Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            platform_resolver: None,
            ..ClientConfig::default()
        });
        let auth = auth.unwrap_or(RegistryAuth::Anonymous);
        Self {
            disk,
            name,
            client,
            auth,
            architecture: architecture.to_owned(),
        }
    }

    /// Downloads what `found` describes into `scratch`, checked against its digests.
    pub(super) async fn download(
        &self,
        found: Found,
        scratch: &Path,
        progress: &Progress,
    ) -> Result<FoundImage, ImportError> {
        let Found {
            digest,
            indexes,
            manifest,
        } = found;
        if manifest.config.size > DOCUMENT_BYTES_MAX {
            return Err(ImportError::TooLarge {
                limit_bytes: DOCUMENT_BYTES_MAX,
            });
        }
        let config_path = scratch.join("config");
        self.download_blob(&config_path, &manifest.config, None).await?;
        let mut blobs = Vec::new();
        let layers = manifest.layers.len();
        for (index, descriptor) in manifest.layers.iter().enumerate() {
            let path = scratch.join(format!("blob-{index}"));
            let meter = Meter {
                progress: Arc::clone(progress),
                layer: index + 1,
                layers,
                total_bytes: descriptor.size,
            };
            self.download_blob(&path, descriptor, Some(&meter)).await?;
            blobs.push(self.open(&path)?);
        }
        let config = self.open(&config_path)?;
        let config = config.read_document().map_err(|source| ImportError::Read {
            path: config_path,
            source,
        })?;
        Ok(FoundImage {
            digest,
            indexes,
            names: Vec::new(),
            manifest,
            config,
            layers: blobs,
        })
    }

    fn open(&self, path: &Path) -> Result<Blob, ImportError> {
        self.disk
            .open("images:pull", path, OpenOptions::READ)
            .and_then(Blob::of_file)
            .map_err(|source| ImportError::Read {
                path: path.to_owned(),
                source,
            })
    }

    /// Follows indexes down to the manifest of our platform.
    pub(super) async fn find(&self) -> Result<Found, ImportError> {
        let mut reference = self.name.reference().clone();
        let mut wanted = self.name.digest();
        let mut indexes = Vec::new();
        for _ in 0..DEPTH_MAX {
            let bytes = self.document(&reference).await?;
            let actual = Digest::of(&bytes);
            if let Some(digest) = wanted.filter(|digest| *digest != actual) {
                return Err(ImportError::Corrupt { digest, actual });
            }
            let parsed = serde_json::from_slice(&bytes);
            match parsed.map_err(|source| ImportError::Manifest {
                digest: actual,
                source,
            })? {
                Document::Manifest(manifest) => {
                    return Ok(Found {
                        digest: actual,
                        indexes,
                        manifest,
                    });
                }
                Document::Index(index) => {
                    let picked = manifest::pick(&index.manifests, &self.architecture).ok_or_else(|| {
                        ImportError::Platform {
                            architecture: self.architecture.clone(),
                            offered: manifest::platforms(&index.manifests),
                        }
                    })?;
                    indexes.push(actual);
                    wanted = Some(picked.digest);
                    reference = reference.clone_with_digest(picked.digest.to_string());
                }
            }
        }
        Err(ImportError::Empty)
    }

    async fn document(&self, reference: &Reference) -> Result<Bytes, ImportError> {
        let mut attempt = 1;
        loop {
            let pulled = self
                .client
                .pull_manifest_raw(reference, &self.auth, &MEDIA_ACCEPTED)
                .await;
            match pulled.map_err(|error| self.error(error)) {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "a registry did not answer");
                    back_off(attempt).await;
                    attempt += 1;
                }
                result => return result.map(|(bytes, _)| bytes),
            }
        }
    }

    async fn download_blob(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        meter: Option<&Meter>,
    ) -> Result<(), ImportError> {
        let mut attempt = 1;
        loop {
            match self.download_once(path, descriptor, meter).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "a download broke off");
                    back_off(attempt).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn download_once(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        meter: Option<&Meter>,
    ) -> Result<(), ImportError> {
        let digest = descriptor.digest;
        let digest_text = digest.to_string();
        // By digest alone: addresses that a manifest brings along are not followed.
        let started = self
            .client
            .pull_blob_stream(self.name.reference(), digest_text.as_str())
            .await;
        let mut stream = started.map_err(|error| self.error(error))?.stream;
        let (sender, receiver) = mpsc::channel(CHUNKS_QUEUED);
        let (disk, file_path) = (Arc::clone(&self.disk), path.to_owned());
        let writer = on_thread("image-download", move || {
            write_chunks(&*disk, &file_path, receiver)
        });
        let reading = async {
            let mut hasher = Hasher::default();
            let mut bytes = 0;
            let mut on_the_way = Ok(());
            while let Some(chunk) = stream.next().await {
                match chunk {
                    Ok(chunk) => {
                        bytes += chunk.len() as u64;
                        hasher.update(&chunk);
                        if let Some(meter) = meter {
                            meter.show(bytes, chunk.len());
                        }
                        if bytes > descriptor.size || sender.send(chunk).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        on_the_way = Err(error);
                        break;
                    }
                }
            }
            drop(sender);
            (hasher.finish(), bytes, on_the_way)
        };
        let ((actual, bytes, on_the_way), written) = tokio::join!(reading, writer);
        written?.map_err(|source| ImportError::Write {
            path: path.to_owned(),
            source,
        })?;
        // The client checks digests too, and reports a mismatch as a read error at the end.
        let is_complete = bytes >= descriptor.size;
        match on_the_way {
            _ if is_complete && (actual != digest || bytes > descriptor.size) => {
                Err(ImportError::Corrupt { digest, actual })
            }
            Err(source) => Err(ImportError::Download {
                name: self.name.to_string(),
                digest,
                source,
            }),
            Ok(()) if !is_complete => {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                Err(ImportError::Download {
                    name: self.name.to_string(),
                    digest,
                    source,
                })
            }
            Ok(()) => Ok(()),
        }
    }

    fn error(&self, source: OciDistributionError) -> ImportError {
        ImportError::from_registry(&self.name.to_string(), source)
    }
}

/// What a name stands for in a registry.
pub(super) struct Found {
    /// Digest of the manifest for our platform.
    pub(super) digest: Digest,
    /// Digests of the indexes on the way to it.
    pub(super) indexes: Vec<Digest>,
    manifest: Manifest,
}

/// Reports how far the download of a layer is.
struct Meter {
    progress: Progress,
    layer: usize,
    layers: usize,
    total_bytes: u64,
}

impl Meter {
    /// * `bytes`: what has arrived, the last `step` of them just now.
    fn show(&self, bytes: u64, step: usize) {
        let Self {
            progress,
            layer,
            layers,
            total_bytes,
        } = self;
        let before = bytes - step as u64;
        if bytes != *total_bytes && bytes / REPORT_BYTES == before / REPORT_BYTES {
            return;
        }
        progress(ProgressEvent::Download {
            layer: *layer,
            layers: *layers,
            bytes,
            total_bytes: *total_bytes,
        });
    }
}

async fn back_off(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(attempt)).await;
}

fn write_chunks(disk: &dyn Disk, path: &Path, mut chunks: mpsc::Receiver<Bytes>) -> std::io::Result<()> {
    let options = OpenOptions {
        truncate: true,
        ..OpenOptions::CREATE
    };
    let file = disk.open("images:pull", path, options)?;
    let mut at = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        file.write_at(&chunk, at)?;
        at += chunk.len() as u64;
    }
    Ok(())
}

/// Whether a registry runs on this machine: then it speaks plain HTTP.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
