//! One bucket: a file per object, an index in memory, and the critical section in which conditions hold.
//!
//! `objects/` holds the objects, each under the BLAKE3 hash of its key, so that a key may be as long and as odd as S3
//! allows; `tmp/` what is being written; `uploads/` multipart uploads. The index is read from the files at start.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crashsafe::{Disk, DiskFile, OpenOptions, create_dir_durable};
use daemon::wall_clock::WallClock;
use tracing::{error, info};

use crate::listing::{Item, Query, page};
use crate::object_file::{DamageError, Digest, ObjectReader, ObjectWriter, Record};

/// Locks that keys share by their hash.
const STRIPES: usize = 1_024;

/// What stands in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub(crate) size_bytes: u64,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified: jiff::Timestamp,
}

/// Under which condition a put or a delete goes ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    Absent,
    /// The object exists with this etag, without quotes.
    Matches(String),
}

/// Why a bucket did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketError {
    #[error("no such key")]
    NoSuchKey,
    #[error("no such upload")]
    NoSuchUpload,
    #[error("the condition does not hold")]
    Precondition,
    #[error("a part is missing or has another etag, or the parts do not make up the size")]
    InvalidPart,
    #[error("parts are not in ascending order")]
    InvalidPartOrder,
    #[error("part {number} is smaller than the 5 MiB that all but the last must have")]
    PartTooSmall { number: u32 },
    /// The stored bytes are not those that were put.
    #[error("the stored object is damaged")]
    Damaged(#[source] DamageError),
    /// A sync failed: what is durable is unknown until the files are read again.
    #[error("read-only since a sync of the directory failed; restart to go on")]
    ReadOnly,
    #[error("{doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Attaches what was being done to an I/O error.
pub(crate) fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> BucketError {
    move |source| BucketError::Io { doing, source }
}

#[derive(Debug)]
struct Index {
    objects: BTreeMap<String, Indexed>,
    /// File names in `objects/` whose record cannot be read: their keys are unknown, and must not look free.
    damaged: BTreeSet<String>,
}

impl Index {
    /// Tells whether there is, or was, an object under `key`, whose file is `name`.
    fn has(&self, key: &str, name: &str) -> bool {
        self.objects.contains_key(key) || self.damaged.contains(name)
    }

    /// Takes down what a file of objects holds.
    fn enter(&mut self, name: String, file: Box<dyn DiskFile>) -> io::Result<()> {
        match ObjectReader::open(file) {
            Ok(reader) if file_name(&reader.record().key) == name => {
                let Record {
                    key, etag, modified, ..
                } = reader.record().clone();
                let size_bytes = reader.data_bytes();
                self.objects.insert(
                    key,
                    Indexed {
                        size_bytes,
                        etag,
                        modified,
                    },
                );
            }
            Ok(_) => {
                error!(file = %name, "object file has the name of another key");
                self.damaged.insert(name);
            }
            Err(DamageError::Io(error)) => return Err(error),
            Err(error) => {
                error!(file = %name, %error, "object file was damaged");
                self.damaged.insert(name);
            }
        }
        Ok(())
    }
}

/// An open bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn WallClock>,
    objects: PathBuf,
    tmp: PathBuf,
    pub(crate) uploads: PathBuf,
    index: RwLock<Index>,
    stripes: Vec<RwLock<()>>,
    temporaries: AtomicU64,
    read_only: AtomicBool,
}

/// A temporary file that goes away unless it is committed.
#[derive(Debug)]
pub(crate) struct Temporary {
    disk: Arc<dyn Disk>,
    path: Option<PathBuf>,
}

impl Temporary {
    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Forgets the file: it has another name now.
    pub(crate) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What cannot be removed now is swept at the next start.
            let _swept_later = self.disk.remove_file("object:discard", &path);
        }
    }
}

impl Bucket {
    /// Opens the bucket in `directory`, which is created if need be, removes what a crash left, and reads the index.
    pub(crate) fn open(disk: Arc<dyn Disk>, clock: Arc<dyn WallClock>, directory: &Path) -> io::Result<Self> {
        let (objects, tmp, uploads) = (
            directory.join("objects"),
            directory.join("tmp"),
            directory.join("uploads"),
        );
        for part in [&objects, &tmp, &uploads] {
            create_dir_durable(&*disk, "bucket:create", part)?;
        }
        for left in disk.list(&tmp)? {
            disk.remove_file("bucket:sweep", &tmp.join(left.name))?;
        }
        let bucket = Self {
            disk,
            clock,
            objects,
            tmp,
            uploads,
            index: RwLock::new(Index {
                objects: BTreeMap::new(),
                damaged: BTreeSet::new(),
            }),
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            temporaries: AtomicU64::new(0),
            read_only: AtomicBool::new(false),
        };
        bucket.load()?;
        bucket.sweep_uploads()?;
        Ok(bucket)
    }

    fn load(&self) -> io::Result<()> {
        let mut index = self.write_index();
        for entry in self.disk.list(&self.objects)? {
            let file = self
                .disk
                .open("object:load", &self.objects.join(&entry.name), OpenOptions::READ)?;
            index.enter(entry.name, file)?;
        }
        info!(
            objects = index.objects.len(),
            damaged = index.damaged.len(),
            "bucket was opened"
        );
        Ok(())
    }

    /// Opens a temporary file for an object or a part.
    pub(crate) fn stage(&self) -> Result<(Temporary, ObjectWriter), BucketError> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let path = self.tmp.join(format!("{number:016x}"));
        let file = self
            .disk
            .open("object:stage", &path, OpenOptions::CREATE_NEW)
            .map_err(doing("stage"))?;
        Ok((
            Temporary {
                disk: Arc::clone(&self.disk),
                path: Some(path),
            },
            ObjectWriter::new(file),
        ))
    }

    /// Makes a staged object current, if `condition` holds: compare, rename and index are one critical section, and
    /// nobody sees the object before it is durable.
    ///
    /// * `staged`: finished, that is durable but for its name.
    pub(crate) fn commit(
        &self,
        staged: Temporary,
        record: &Record,
        digest: &Digest,
        condition: &Condition,
    ) -> Result<(), BucketError> {
        let name = file_name(&record.key);
        let _section = self.stripe(&name).write().unwrap_or_else(PoisonError::into_inner);
        self.check(&record.key, &name, condition)?;
        self.disk
            .rename("object:commit", staged.path(), &self.objects.join(&name))
            .map_err(doing("rename an object"))?;
        staged.keep();
        self.sync_objects()?;
        let indexed = Indexed {
            size_bytes: digest.data_bytes,
            etag: record.etag.clone(),
            modified: record.modified,
        };
        let mut index = self.write_index();
        index.damaged.remove(&name);
        index.objects.insert(record.key.clone(), indexed);
        Ok(())
    }

    /// Removes an object, if `condition` holds. One that is not there is a success.
    pub(crate) fn delete(&self, key: &str, condition: &Condition) -> Result<(), BucketError> {
        let name = file_name(key);
        let _section = self.stripe(&name).write().unwrap_or_else(PoisonError::into_inner);
        if *condition != Condition::None {
            self.check(key, &name, condition)?;
        } else if self.read_only.load(Ordering::Acquire) {
            return Err(BucketError::ReadOnly);
        }
        if !self.read_index().has(key, &name) {
            return Ok(());
        }
        match self.disk.remove_file("object:delete", &self.objects.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(doing("delete")(error)),
            Ok(()) | Err(_) => {}
        }
        self.sync_objects()?;
        let mut index = self.write_index();
        index.damaged.remove(&name);
        index.objects.remove(key);
        Ok(())
    }

    /// Checks a condition; the key's stripe is locked.
    fn check(&self, key: &str, name: &str, condition: &Condition) -> Result<(), BucketError> {
        if self.read_only.load(Ordering::Acquire) {
            return Err(BucketError::ReadOnly);
        }
        let index = self.read_index();
        if *condition != Condition::None && index.damaged.contains(name) {
            // Something stands there, and nobody can tell what: no condition can be said to hold.
            return Err(BucketError::Damaged(DamageError::Damaged {
                what: "its record cannot be read",
            }));
        }
        match (condition, index.objects.get(key)) {
            (Condition::None, _) | (Condition::Absent, None) => Ok(()),
            (Condition::Absent, Some(_)) => Err(BucketError::Precondition),
            (Condition::Matches(_), None) => Err(BucketError::NoSuchKey),
            (Condition::Matches(etag), Some(current)) if *etag == current.etag => Ok(()),
            (Condition::Matches(_), Some(_)) => Err(BucketError::Precondition),
        }
    }

    /// Makes the names of objects durable. After a failure nothing more is changed: what a restart will find is unknown.
    fn sync_objects(&self) -> Result<(), BucketError> {
        self.disk.sync_dir("object:commit", &self.objects).map_err(|source| {
            self.read_only.store(true, Ordering::Release);
            error!(error = %source, "sync of the bucket's directory did not succeed; the bucket is read-only now");
            BucketError::Io { doing: "sync the bucket's directory", source }
        })
    }

    /// Opens an object for reading. The reader sees this version to its end, whatever happens to the key.
    pub(crate) fn read(&self, key: &str) -> Result<ObjectReader, BucketError> {
        let name = file_name(key);
        if !self.read_index().has(key, &name) && !self.take_up(key)? {
            return Err(BucketError::NoSuchKey);
        }
        let opened = {
            let _section = self.stripe(&name).read().unwrap_or_else(PoisonError::into_inner);
            if !self.read_index().has(key, &name) {
                return Err(BucketError::NoSuchKey);
            }
            self.disk
                .open("object:read", &self.objects.join(&name), OpenOptions::READ)
        };
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.forget_if_gone(key)? => {
                return Err(BucketError::NoSuchKey);
            }
            opened => opened.map_err(doing("open an object"))?,
        };
        let reader = ObjectReader::open(file).map_err(BucketError::Damaged)?;
        if reader.record().key != key {
            return Err(BucketError::Damaged(DamageError::Damaged {
                what: "it is another key's",
            }));
        }
        Ok(reader)
    }

    /// Lists a page: items and whether more follows. What is listed has a file.
    pub(crate) fn list<R>(
        &self,
        query: &Query,
        visible: impl Fn(&str) -> bool,
        take: impl FnOnce(Vec<Item<'_, Indexed>>, bool) -> R,
    ) -> Result<R, BucketError> {
        loop {
            // Not under the index's lock: on a slow disk every other request would wait for it.
            let keys: Vec<String> = {
                let index = self.read_index();
                let (items, _) = page(&index.objects, query, &visible);
                let key = |item: &Item<'_, Indexed>| match item {
                    Item::Object(key, _) => Some((*key).to_owned()),
                    Item::CommonPrefix(_) => None,
                };
                items.iter().filter_map(key).collect()
            };
            let mut forgotten = false;
            for key in keys {
                let file = self.disk.stat(&self.objects.join(file_name(&key)));
                if file.map_err(doing("look for an object"))?.is_none() {
                    forgotten |= self.forget_if_gone(&key)?;
                }
            }
            if !forgotten {
                let index = self.read_index();
                let (items, more) = page(&index.objects, query, &visible);
                return Ok(take(items, more));
            }
        }
    }

    /// Takes a key out of the index whose file somebody removed behind our back, as the next start would; returns
    /// whether that is so. Without the directory around it, the disk is away and not the object: that is an I/O error.
    fn forget_if_gone(&self, key: &str) -> Result<bool, BucketError> {
        let name = file_name(key);
        let _section = self.stripe(&name).write().unwrap_or_else(PoisonError::into_inner);
        let stat = |path: &Path| self.disk.stat(path).map_err(doing("look for an object"));
        if !self.read_index().has(key, &name) || stat(&self.objects.join(&name))?.is_some() {
            return Ok(false);
        }
        if stat(&self.objects)?.is_none() {
            return Err(doing("look for the bucket's directory")(
                io::ErrorKind::NotFound.into(),
            ));
        }
        error!(key, "object was lost: somebody removed its file");
        let mut index = self.write_index();
        index.damaged.remove(&name);
        index.objects.remove(key);
        Ok(true)
    }

    /// Puts a key into the index whose file somebody brought back behind our back, as the next start would; returns whether that
    /// is so.
    fn take_up(&self, key: &str) -> Result<bool, BucketError> {
        let name = file_name(key);
        let _section = self.stripe(&name).write().unwrap_or_else(PoisonError::into_inner);
        if self.read_index().has(key, &name) {
            return Ok(true);
        }
        let path = self.objects.join(&name);
        let file = match self.disk.open("object:read", &path, OpenOptions::READ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(doing("open an object"))?,
        };
        let mut index = self.write_index();
        index.enter(name, file).map_err(doing("read an object"))?;
        info!(key, "object is back");
        Ok(true)
    }

    /// Refuses every change from now on, if nothing is left in the bucket; returns whether that is so.
    pub(crate) fn close_if_empty(&self) -> io::Result<bool> {
        // All stripes: no put is between its check and its rename.
        let _sections: Vec<_> = self
            .stripes
            .iter()
            .map(|stripe| stripe.write().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let index = self.read_index();
        let empty = index.objects.is_empty() && index.damaged.is_empty();
        if !empty || !self.disk.list(&self.uploads)?.is_empty() {
            return Ok(false);
        }
        self.read_only.store(true, Ordering::Release);
        Ok(true)
    }

    fn stripe(&self, name: &str) -> &RwLock<()> {
        // The name is a hash, so its first digits are as good as any.
        let number = usize::from_str_radix(&name[..4], 16).unwrap_or(0);
        &self.stripes[number % STRIPES]
    }

    fn read_index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_index(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the file of a key.
pub(crate) fn file_name(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests;
