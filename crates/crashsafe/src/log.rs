//! What a recorder saw, and the states that a power cut in the midst of it may leave.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;

use crate::model::{Inode, Model, Tree};
use crate::{Disk, OpenOptions};

/// Something that changed the disk, or made a change durable, or was marked by the test.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) label: &'static str,
    pub(crate) action: Action,
}

/// Paths are relative to the recorded directory; `file` is the number that the recorder gave an open file.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Open {
        file: u64,
        path: PathBuf,
        options: OpenOptions,
    },
    CreateDirAll {
        path: PathBuf,
    },
    RemoveFile {
        path: PathBuf,
    },
    RemoveDirAll {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    Reflink {
        from: PathBuf,
        to: PathBuf,
    },
    WriteAt {
        file: u64,
        bytes: Arc<[u8]>,
        offset: u64,
    },
    SetLen {
        file: u64,
        len: u64,
    },
    Allocate {
        file: u64,
        offset: u64,
        len: u64,
    },
    PunchHole {
        file: u64,
        offset: u64,
        len: u64,
    },
    SyncData {
        file: u64,
    },
    SyncAll {
        file: u64,
    },
    Mark {
        payload: Arc<[u8]>,
    },
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::CreateDirAll { .. } => "create_dir_all",
            Self::RemoveFile { .. } => "remove_file",
            Self::RemoveDirAll { .. } => "remove_dir_all",
            Self::Rename { .. } => "rename",
            Self::SyncDir { .. } => "sync_dir",
            Self::Reflink { .. } => "reflink",
            Self::WriteAt { .. } => "write_at",
            Self::SetLen { .. } => "set_len",
            Self::Allocate { .. } => "allocate",
            Self::PunchHole { .. } => "punch_hole",
            Self::SyncData { .. } => "sync_data",
            Self::SyncAll { .. } => "sync_all",
            Self::Mark { .. } => "mark",
        }
    }
}

/// What the test wrote into the log at some point, such as the state that was acknowledged then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The marker's name.
    pub label: &'static str,
    /// Whatever the test wants to know after a cut.
    pub payload: Arc<[u8]>,
    /// The number of events before it.
    pub at: usize,
}

/// What is left after a cut.
#[derive(Debug, Clone)]
pub struct Cut {
    tree: Tree,
    markers: Vec<Marker>,
}

impl Cut {
    /// Returns the files that are left.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the markers before the cut, oldest first.
    pub fn markers(&self) -> &[Marker] {
        &self.markers
    }

    /// Returns the payload of the last marker of that label before the cut.
    pub fn last_marker(&self, label: &str) -> Option<&[u8]> {
        self.markers
            .iter()
            .rev()
            .find(|marker| marker.label == label)
            .map(|marker| &*marker.payload)
    }

    /// Writes the files into the directory `root`, as [`Tree::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write<D: Disk + ?Sized>(&self, disk: &D, root: &Path) -> Result<()> {
        self.tree.write(disk, root)
    }
}

/// A recording: what stood in the directory before, and every event since.
///
/// Cuts in ascending order cost what lies between them; a cut before the last one replays from the start.
#[derive(Debug)]
pub struct Log {
    before: Arc<Tree>,
    events: Vec<Event>,
    replay: Mutex<Replay>,
}

impl Log {
    pub(crate) fn new(before: Arc<Tree>, events: Vec<Event>) -> Self {
        let replay = Mutex::new(Replay::new(&before));
        Self {
            before,
            events,
            replay,
        }
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Tells whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the events' names, `label:call` each, `label:mark` for markers.
    pub fn events(&self) -> impl ExactSizeIterator<Item = String> + '_ {
        self.events
            .iter()
            .map(|event| format!("{}:{}", event.label, event.action.name()))
    }

    /// Returns, for each event of that name, the number of events up to and including it: where to cut just after it.
    /// One less is just before.
    pub fn after(&self, name: &str) -> Vec<usize> {
        self.events()
            .enumerate()
            .filter(|(_, event)| event == name)
            .map(|(index, _)| index + 1)
            .collect()
    }

    /// Returns one of the states that a power cut after the first `events` events may leave; every call draws anew.
    ///
    /// # Panics
    /// When there are fewer events.
    pub fn cut<R: Rng + ?Sized>(&self, events: usize, rng: &mut R) -> Cut {
        self.at(events, |model| model.crash(rng))
    }

    /// Returns the state that the death of every process after the first `events` events leaves: the page cache stays.
    ///
    /// # Panics
    /// When there are fewer events.
    pub fn kill(&self, events: usize) -> Cut {
        self.at(events, Model::seen)
    }

    fn at(&self, events: usize, left: impl FnOnce(&Model) -> Tree) -> Cut {
        assert!(
            events <= self.len(),
            "a cut after {events} events, the log has {}",
            self.len()
        );
        let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        if replay.done > events {
            *replay = Replay::new(&self.before);
        }
        let done = replay.done;
        for event in &self.events[done..events] {
            replay.step(event);
        }
        Cut {
            tree: left(&replay.model),
            markers: replay.markers.clone(),
        }
    }
}

/// The model after the first `done` events.
#[derive(Debug)]
struct Replay {
    done: usize,
    model: Model,
    files: HashMap<u64, Inode>,
    markers: Vec<Marker>,
}

impl Replay {
    fn new(before: &Tree) -> Self {
        Self {
            done: 0,
            model: Model::new(before),
            files: HashMap::new(),
            markers: Vec::new(),
        }
    }

    fn step(&mut self, event: &Event) {
        if let Err(error) = self.perform(event) {
            panic!(
                "event {}, {}, happened and cannot be replayed: {error}",
                self.done, event.label
            );
        }
        self.done += 1;
    }

    fn perform(&mut self, event: &Event) -> Result<()> {
        let model = &mut self.model;
        match &event.action {
            Action::Open { file, path, options } => {
                self.files.insert(*file, model.open(path, *options)?);
            }
            Action::CreateDirAll { path } => model.create_dir_all(path)?,
            Action::RemoveFile { path } => model.remove_file(path)?,
            Action::RemoveDirAll { path } => model.remove_dir_all(path)?,
            Action::Rename { from, to } => model.rename(from, to)?,
            Action::SyncDir { path } => model.sync_dir(path)?,
            Action::Reflink { from, to } => model.reflink(from, to)?,
            Action::WriteAt { file, bytes, offset } => model.write_at(self.files[file], bytes, *offset),
            Action::SetLen { file, len } => model.set_len(self.files[file], *len),
            Action::Allocate { file, offset, len } => model.allocate(self.files[file], *offset, *len),
            Action::PunchHole { file, offset, len } => model.punch_hole(self.files[file], *offset, *len),
            Action::SyncData { file } | Action::SyncAll { file } => model.sync_file(self.files[file]),
            Action::Mark { payload } => {
                let payload = Arc::clone(payload);
                self.markers.push(Marker {
                    label: event.label,
                    payload,
                    at: self.done,
                });
            }
        }
        Ok(())
    }
}
