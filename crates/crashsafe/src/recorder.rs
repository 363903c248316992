//! A disk that writes down what is done to it.

use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::log::{Action, Event, Log};
use crate::model::Tree;
use crate::{Disk, DiskFile, Entry, OpenOptions, Space, Stat};

/// Passes every call on to `disk` and records those that change something below one directory.
///
/// Changes are made one at a time, so that the recorded order is the true one; reads are not held up. A call that failed
/// is not recorded. Calls that would change something outside the directory are refused: a cut could not undo them.
#[derive(Debug)]
pub struct Recorder<D> {
    disk: D,
    root: PathBuf,
    before: Arc<Tree>,
    recording: Arc<Mutex<Recording>>,
}

#[derive(Debug, Default)]
struct Recording {
    events: Vec<Event>,
    files: u64,
}

impl<D: Disk> Recorder<D> {
    /// Begins a recording of `root`; what stands there now counts as durable.
    ///
    /// # Errors
    /// As the disk, when reading what stands there.
    pub fn new(disk: D, root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let before = Arc::new(Tree::read(&disk, &root)?);
        Ok(Self {
            disk,
            root,
            before,
            recording: Arc::default(),
        })
    }

    /// Writes a marker, so that a test knows after a cut how far things had come.
    pub fn mark(&self, label: &'static str, payload: impl Into<Vec<u8>>) {
        let action = Action::Mark {
            payload: payload.into().into(),
        };
        lock(&self.recording).events.push(Event { label, action });
    }

    /// Returns the names of the events so far, `label:call` each.
    pub fn events(&self) -> Vec<String> {
        self.log().events().collect()
    }

    /// Returns what was recorded so far.
    pub fn log(&self) -> Log {
        Log::new(Arc::clone(&self.before), lock(&self.recording).events.clone())
    }

    /// The recorded directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn below(&self, path: &Path) -> Result<PathBuf> {
        path.strip_prefix(&self.root).map(Path::to_path_buf).map_err(|_| {
            let message = format!(
                "{} lies outside the recorded {}",
                path.display(),
                self.root.display()
            );
            Error::new(ErrorKind::InvalidInput, message)
        })
    }

    fn record(&self, label: &'static str, action: Action, call: impl FnOnce(&D) -> Result<()>) -> Result<()> {
        let mut recording = lock(&self.recording);
        call(&self.disk)?;
        recording.events.push(Event { label, action });
        Ok(())
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> Disk for Recorder<D> {
    fn open(&self, label: &'static str, path: &Path, options: OpenOptions) -> Result<Box<dyn DiskFile>> {
        if !options.write {
            return self.disk.open(label, path, options);
        }
        let below = self.below(path)?;
        let mut recording = lock(&self.recording);
        let inner = self.disk.open(label, path, options)?;
        let number = recording.files;
        recording.files += 1;
        recording.events.push(Event {
            label,
            action: Action::Open {
                file: number,
                path: below,
                options,
            },
        });
        Ok(Box::new(RecordedFile {
            inner,
            number,
            label,
            recording: Arc::clone(&self.recording),
        }))
    }

    fn create_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        let action = Action::CreateDirAll {
            path: self.below(path)?,
        };
        self.record(label, action, |disk| disk.create_dir_all(label, path))
    }

    fn remove_file(&self, label: &'static str, path: &Path) -> Result<()> {
        let action = Action::RemoveFile {
            path: self.below(path)?,
        };
        self.record(label, action, |disk| disk.remove_file(label, path))
    }

    fn remove_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        let action = Action::RemoveDirAll {
            path: self.below(path)?,
        };
        self.record(label, action, |disk| disk.remove_dir_all(label, path))
    }

    fn rename(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        let action = Action::Rename {
            from: self.below(from)?,
            to: self.below(to)?,
        };
        self.record(label, action, |disk| disk.rename(label, from, to))
    }

    fn sync_dir(&self, label: &'static str, path: &Path) -> Result<()> {
        match self.below(path) {
            Ok(below) => self.record(label, Action::SyncDir { path: below }, |disk| {
                disk.sync_dir(label, path)
            }),
            // Syncing the directory above the recorded one changes nothing that could be cut.
            Err(_) => self.disk.sync_dir(label, path),
        }
    }

    fn reflink(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        let action = Action::Reflink {
            from: self.below(from)?,
            to: self.below(to)?,
        };
        self.record(label, action, |disk| disk.reflink(label, from, to))
    }

    fn differences(&self, one: &Path, other: &Path) -> Result<Option<Vec<Range<u64>>>> {
        self.disk.differences(one, other)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        self.disk.stat(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.disk.space(path)
    }
}

#[derive(Debug)]
struct RecordedFile {
    inner: Box<dyn DiskFile>,
    number: u64,
    label: &'static str,
    recording: Arc<Mutex<Recording>>,
}

impl RecordedFile {
    fn record(&self, action: Action, call: impl FnOnce(&dyn DiskFile) -> Result<()>) -> Result<()> {
        let mut recording = lock(&self.recording);
        call(&*self.inner)?;
        recording.events.push(Event {
            label: self.label,
            action,
        });
        Ok(())
    }
}

impl DiskFile for RecordedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let action = Action::WriteAt {
            file: self.number,
            bytes: bytes.into(),
            offset,
        };
        self.record(action, |file| file.write_at(bytes, offset))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.record(
            Action::SetLen {
                file: self.number,
                len,
            },
            |file| file.set_len(len),
        )
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.record(
            Action::Allocate {
                file: self.number,
                offset,
                len,
            },
            |file| file.allocate(offset, len),
        )
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.record(
            Action::PunchHole {
                file: self.number,
                offset,
                len,
            },
            |file| file.punch_hole(offset, len),
        )
    }

    fn sync_data(&self) -> Result<()> {
        self.record(Action::SyncData { file: self.number }, |file| file.sync_data())
    }

    fn sync_all(&self) -> Result<()> {
        self.record(Action::SyncAll { file: self.number }, |file| file.sync_all())
    }

    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.inner.next_data(offset)
    }

    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }
}

#[cfg(test)]
mod tests;
