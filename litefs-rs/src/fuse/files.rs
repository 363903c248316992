//! Files that applications have open.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use fuser::BackingId;

use crate::name::MountName;

/// A file, shared by all who have it open under one number.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    /// Set once: the kernel reads and writes the file itself.
    backing: Mutex<Option<Arc<BackingId>>>,
    /// Its name is gone: what is done to it is nobody else's matter.
    orphan: AtomicBool,
}

impl OpenFile {
    pub(super) fn is_orphan(&self) -> bool {
        self.orphan.load(Ordering::Acquire)
    }

    /// Returns what the kernel knows the file by, which is the same for all who have it open.
    ///
    /// * `make`: gives one; nothing if the kernel cannot.
    pub(super) fn backing(
        &self,
        make: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        let mut backing = self.backing.lock().unwrap_or_else(PoisonError::into_inner);
        if backing.is_none() {
            match make(&self.file) {
                Ok(made) => *backing = Some(Arc::new(made)),
                Err(error) => tracing::debug!(%error, "kernel takes no file of ours for its own"),
            }
        }
        backing.clone()
    }
}

/// What an application has open.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) number: u64,
    pub(super) target: MountName,
    pub(super) content: Content,
}

/// What is read through a handle.
#[derive(Debug)]
pub(super) enum Content {
    /// A file of a database.
    File(Arc<OpenFile>),
    /// What a special file held when it was opened.
    Bytes(Vec<u8>),
}

/// All that is open.
#[derive(Debug, Default)]
pub(super) struct Handles {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    files: Mutex<HashMap<u64, Weak<OpenFile>>>,
    /// The handle through which an owner last locked a file.
    lockers: Mutex<HashMap<(u64, u64), u64>>,
}

impl Handles {
    /// Takes up a handle and returns its number.
    pub(super) fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, Arc::new(handle));
        number
    }

    pub(super) fn get(&self, handle: u64) -> Option<Arc<Handle>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&handle).cloned()
    }

    /// Drops a handle, and returns it with the owners of locks that were taken through it last: they have no other way to give
    /// those up.
    pub(super) fn remove(&self, handle: u64) -> Option<(Arc<Handle>, Vec<u64>)> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let removed = open.remove(&handle)?;
        drop(open);
        let mut lockers = self.lockers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut owners = Vec::new();
        lockers.retain(|(_, owner), through| {
            let last = *through == handle;
            if last {
                owners.push(*owner);
            }
            !last
        });
        Some((removed, owners))
    }

    /// Takes down through which handle an owner locks.
    pub(super) fn locks_through(&self, number: u64, owner: u64, handle: u64) {
        let mut lockers = self.lockers.lock().unwrap_or_else(PoisonError::into_inner);
        lockers.insert((number, owner), handle);
    }

    /// Opens the file of a number, or gives the one that is open.
    pub(super) fn file(&self, number: u64, path: &Path) -> io::Result<Arc<OpenFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&number).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = Arc::new(OpenFile {
            file: File::options().read(true).write(true).open(path)?,
            backing: Mutex::new(None),
            orphan: AtomicBool::new(false),
        });
        files.retain(|_, file| file.strong_count() > 0);
        files.insert(number, Arc::downgrade(&file));
        Ok(file)
    }

    /// Returns the file of a number, if it is open.
    pub(super) fn open_file(&self, number: u64) -> Option<Arc<OpenFile>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(&number).and_then(Weak::upgrade)
    }

    /// A number's name is gone.
    pub(super) fn orphaned(&self, number: u64) {
        if let Some(file) = self.open_file(number) {
            file.orphan.store(true, Ordering::Release);
        }
    }
}
