//! The image store: OCI images as root file systems, keyed by the digest of their manifest and shared by machines.
//!
//! An image comes from an OCI layout, an archive of `docker save`, or a registry. Its layers are checked, merged in
//! memory and written as one EROFS file; nothing is ever unpacked on the host, so that neither root nor trust in the
//! image's paths is needed. `docs/formats/image-store.md` describes what is on disk.

mod build;
mod catalog;
mod digest;
mod image;
mod import_error;
mod manifest;
mod merge;
mod name;
mod options;
mod registry;
mod removal;
mod source;
mod spool;
mod tar_reader;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crashsafe::Disk;
use serde::Serialize;

pub use catalog::OpenError;
use catalog::{FORMAT_VERSION, ImageRecord, Names};
pub use digest::{Digest, DigestSyntax};
pub use image::{Image, ImageRef};
pub use import_error::ImportError;
pub use manifest::ImageConfig;
pub use merge::MergeError;
pub use name::{ImageName, NameSyntax};
pub use options::{Limits, StoreOptions};
use registry::Registry;
pub use removal::{RemoveError, Removed};
use source::FoundImage;
pub use tar_reader::TarError;

/// A step of an import, for whoever waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum ProgressEvent {
    /// Bytes of a layer arrived.
    Download {
        layer: usize,
        layers: usize,
        bytes: u64,
        total_bytes: u64,
    },
    /// Bytes of a layer were decompressed.
    Unpack { layer: usize, layers: usize, bytes: u64 },
    /// The root file system is being written.
    Write { digest: Digest },
    /// The image is in the store.
    Done {
        digest: Digest,
        names: Vec<String>,
        size_bytes: u64,
    },
}

/// Hears of an import's steps, from whatever thread.
pub type Progress = Arc<dyn Fn(ProgressEvent) + Send + Sync>;

/// The images of one node. Clones share one store; one process at a time may open it.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    state: Mutex<State>,
    /// Held while an image is built: builds are heavy, and two of one digest would waste one.
    building: Arc<tokio::sync::Mutex<()>>,
    next_scratch: AtomicU64,
}

struct State {
    images: BTreeMap<Digest, ImageRecord>,
    names: Names,
}

impl fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageStore")
            .field("root", &self.inner.root)
            .finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Opens the store at `root`, creating it when it is missing and removing what a crash left.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(root: &Path, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        Self::open_with(root, disk, StoreOptions::default())
    }

    /// As [`open`](Self::open), with other limits, credentials, architecture or clock.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(root: &Path, disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Self, OpenError> {
        let (images, names) = catalog::load(&*disk, root)?;
        let inner = Inner {
            root: root.to_owned(),
            disk,
            options,
            state: Mutex::new(State { images, names }),
            building: Arc::default(),
            next_scratch: AtomicU64::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Imports every image of an OCI layout (directory or tar) or an archive of `docker save`.
    ///
    /// * `name`: replaces the names in the source, which must then hold one image.
    ///
    /// # Errors
    /// [`ImportError`]; images before the failing one stay.
    pub async fn import_path(
        &self,
        path: &Path,
        name: Option<&str>,
        progress: Progress,
    ) -> Result<Vec<Image>, ImportError> {
        let name: Option<ImageName> = name.map(str::parse).transpose()?;
        let building = Arc::clone(&self.inner.building).lock_owned().await;
        let (store, path) = (self.clone(), path.to_owned());
        on_thread("image-import", move || {
            let _building = building;
            let inner = &store.inner;
            let mut found = source::find(&*inner.disk, &path, &inner.options.architecture)?;
            if let Some(name) = name {
                match found.as_mut_slice() {
                    [only] => only.names = vec![name],
                    several => {
                        return Err(ImportError::Ambiguous {
                            images: several.len(),
                            name: name.to_string(),
                        });
                    }
                }
            }
            found
                .iter()
                .map(|image| inner.add(image, None, &*progress))
                .collect()
        })
        .await?
    }

    /// Pulls an image from its registry, whether or not the store has one of that name.
    ///
    /// Registries on loopback addresses are asked in plain HTTP, others by TLS.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn pull(&self, name: &str, progress: Progress) -> Result<Image, ImportError> {
        let name: ImageName = name.parse()?;
        let inner = &self.inner;
        let options = &inner.options;
        let disk = Arc::clone(&inner.disk);
        let registry = Registry::new(
            disk,
            name.clone(),
            options.docker_config.as_deref(),
            &options.architecture,
        );
        let found = registry.find().await?;
        if inner.state().images.contains_key(&found.digest) {
            return inner.add_names(found.digest, &[name], &found.indexes);
        }
        let scratch_path = inner.scratch_path();
        inner
            .disk
            .create_dir_all("images:scratch", &scratch_path)
            .map_err(|source| ImportError::Write {
                path: scratch_path.clone(),
                source,
            })?;
        let scratch = OwnedScratch {
            inner: Arc::clone(inner),
            path: scratch_path,
        };
        let mut image = registry.download(found, &scratch.path, &progress).await?;
        image.names = vec![name];
        let building = Arc::clone(&inner.building).lock_owned().await;
        let store = self.clone();
        on_thread("image-build", move || {
            let _building = building;
            store.inner.add(&image, Some(&scratch.path), &*progress)
        })
        .await?
    }

    /// Returns the image of that name, pulling it when the store has none.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn ensure(&self, name: &str, progress: Progress) -> Result<Image, ImportError> {
        match self.resolve(name)? {
            Some(image) => Ok(image),
            None => self.pull(name, progress).await,
        }
    }

    /// Finds an image in the store, without asking a registry.
    ///
    /// `name` may be a name with a tag or a digest, a whole digest, or at least 12 hexadecimal digits of one.
    ///
    /// # Errors
    /// [`NameSyntax`] when it can be none of these.
    pub fn resolve(&self, name: &str) -> Result<Option<Image>, NameSyntax> {
        let state = self.inner.state();
        Ok(state.find(name)?.map(|digest| self.inner.image(&state, digest)))
    }

    /// Returns every image, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Image> {
        let state = self.inner.state();
        let mut images: Vec<Image> = state
            .images
            .keys()
            .map(|digest| self.inner.image(&state, *digest))
            .collect();
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.digest.cmp(&b.digest)));
        images
    }

    /// Removes a name, and the image with its last name. By digest, the image goes with all of its names.
    ///
    /// * `in_use`: whether a machine needs the image; asked while nothing else changes in the store.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub fn remove(&self, name: &str, in_use: &dyn Fn(&Digest) -> bool) -> Result<Removed, RemoveError> {
        let inner = &self.inner;
        let mut state = inner.state();
        let digest = state.find(name)?.ok_or_else(|| RemoveError::Unknown {
            name: name.to_owned(),
        })?;
        let all: Vec<String> = state.names_of(digest);
        let asked: Option<String> = name.parse().ok().and_then(|name: ImageName| match name.digest() {
            Some(_) => None,
            None => name.tagged(),
        });
        let names = match asked.filter(|asked| all.contains(asked)) {
            Some(asked) => vec![asked],
            None => all.clone(),
        };
        let is_last = names.len() == all.len();
        if is_last && in_use(&digest) {
            return Err(RemoveError::InUse { digest });
        }
        let io = |source| RemoveError::Io { digest, source };
        let mut next = state.names.clone();
        next.names.retain(|name, _| !names.contains(name));
        if is_last {
            next.indexes.retain(|_, image| *image != digest);
        }
        catalog::save_names(&*inner.disk, &inner.root, &next).map_err(io)?;
        state.names = next;
        let mut freed_bytes = 0;
        if is_last {
            freed_bytes = state.images.remove(&digest).map_or(0, |record| record.size_bytes);
            catalog::uninstall(&*inner.disk, &inner.root, digest).map_err(io)?;
        }
        tracing::info!(%digest, image = is_last, "image removed");
        Ok(Removed {
            digest,
            names,
            image: is_last,
            freed_bytes,
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made whole before the guard goes: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scratch_path(&self) -> PathBuf {
        let number = self.next_scratch.fetch_add(1, Ordering::Relaxed);
        catalog::scratch_root(&self.root).join(number.to_string())
    }

    fn image(&self, state: &State, digest: Digest) -> Image {
        let record = &state.images[&digest];
        Image {
            digest,
            names: state.names_of(digest),
            rootfs: catalog::rootfs(&self.root, digest),
            size_bytes: record.size_bytes,
            created: record.created,
            config: record.config.clone(),
        }
    }

    /// Builds an image unless it is there, and gives it its names.
    fn add(
        &self,
        found: &FoundImage,
        scratch: Option<&Path>,
        progress: &dyn Fn(ProgressEvent),
    ) -> Result<Image, ImportError> {
        if !self.state().images.contains_key(&found.digest) {
            self.build(found, scratch, progress)?;
        }
        let image = self.add_names(found.digest, &found.names, &found.indexes)?;
        progress(ProgressEvent::Done {
            digest: image.digest,
            names: image.names.clone(),
            size_bytes: image.size_bytes,
        });
        Ok(image)
    }

    fn build(
        &self,
        found: &FoundImage,
        scratch: Option<&Path>,
        progress: &dyn Fn(ProgressEvent),
    ) -> Result<(), ImportError> {
        let path = scratch.map_or_else(|| self.scratch_path(), Path::to_owned);
        let write = |source| ImportError::Write {
            path: path.clone(),
            source,
        };
        let scratch = build::Scratch::new(&*self.disk, path.clone()).map_err(write)?;
        let image_dir = scratch.path().join("image");
        self.disk
            .create_dir_all("images:scratch", &image_dir)
            .map_err(write)?;
        let rootfs = image_dir.join("rootfs.erofs");
        let StoreOptions {
            limits,
            architecture,
            clock,
            docker_config: _,
        } = &self.options;
        let built = build::build(
            &*self.disk,
            scratch.path(),
            found,
            &rootfs,
            limits,
            architecture,
            progress,
        )?;
        let record = ImageRecord {
            format_version: FORMAT_VERSION,
            digest: found.digest,
            created: clock.now(),
            size_bytes: built.size_bytes,
            inodes: built.inodes,
            xattrs_dropped: built.xattrs_dropped,
            config: built.config,
        };
        catalog::install(&*self.disk, &self.root, &image_dir, &record, &found.config).map_err(write)?;
        let digest = found.digest;
        tracing::info!(%digest, size_bytes = record.size_bytes, inodes = record.inodes, "image stored");
        self.state().images.insert(digest, record);
        Ok(())
    }

    fn add_names(
        &self,
        digest: Digest,
        names: &[ImageName],
        indexes: &[Digest],
    ) -> Result<Image, ImportError> {
        let mut state = self.state();
        let mut next = state.names.clone();
        next.names.extend(
            names
                .iter()
                .filter_map(ImageName::tagged)
                .map(|name| (name, digest)),
        );
        next.indexes.extend(indexes.iter().map(|index| (*index, digest)));
        if next != state.names {
            catalog::save_names(&*self.disk, &self.root, &next).map_err(|source| ImportError::Write {
                path: self.root.join("names.json"),
                source,
            })?;
            state.names = next;
        }
        Ok(self.image(&state, digest))
    }
}

impl State {
    fn names_of(&self, digest: Digest) -> Vec<String> {
        let names = self.names.names.iter().filter(|(_, image)| **image == digest);
        names.map(|(name, _)| name.clone()).collect()
    }

    fn find(&self, text: &str) -> Result<Option<Digest>, NameSyntax> {
        if let Ok(digest) = text.parse::<Digest>() {
            return Ok(self.by_digest(digest));
        }
        let name: ImageName = text.parse()?;
        if let Some(digest) = name.digest() {
            return Ok(self.by_digest(digest));
        }
        let tagged = name
            .tagged()
            .and_then(|tagged| self.names.names.get(&tagged).copied());
        Ok(tagged.or_else(|| self.by_prefix(text)))
    }

    fn by_digest(&self, digest: Digest) -> Option<Digest> {
        let image = self.images.contains_key(&digest).then_some(digest);
        image.or_else(|| self.names.indexes.get(&digest).copied())
    }

    /// The one image whose digest starts with these digits.
    fn by_prefix(&self, text: &str) -> Option<Digest> {
        if !digest::is_digest_text(text) {
            return None;
        }
        let mut matches = self.images.keys().filter(|digest| digest.hex().starts_with(text));
        matches.next().copied().filter(|_| matches.next().is_none())
    }
}

/// The directory of a pull, removed with the last one who needs it.
struct OwnedScratch {
    inner: Arc<Inner>,
    path: PathBuf,
}

impl Drop for OwnedScratch {
    fn drop(&mut self) {
        // The build removes it first when it came that far; what stays is swept when the store opens.
        let _swept_at_open = self.inner.disk.remove_dir_all("images:scratch", &self.path);
    }
}

/// Runs blocking work on a thread of its own.
async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ImportError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody waits any more when the caller went away; the work is done all the same.
        let _nobody_waits = sender.send(work());
    });
    spawned.map_err(|_| ImportError::Stopped)?;
    receiver.await.map_err(|_| ImportError::Stopped)
}
