//! What the kernel is told of changes that did not come from it.

use std::{
    ffi::OsStr,
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use fuser::{INodeNo, Notifier};

use super::inodes::{Inodes, name_of};
use crate::{
    db::{Changed, files::FileKind},
    name::DatabaseName,
    store::{Kernel, Slot},
};

/// Tells the kernel what to forget.
///
/// Bytes are forgotten at once: whoever asks holds a database, and reads never wait for one. Names are forgotten by a thread that
/// holds nothing: the kernel may be within the directory, waiting for an answer.
#[derive(Debug)]
pub(super) struct Forgetter {
    inodes: Arc<Mutex<Inodes>>,
    notifier: OnceLock<Notifier>,
    names: Mutex<Option<mpsc::Sender<String>>>,
    /// Whether the index of a log is the file's own memory.
    shares_index: AtomicBool,
}

impl Forgetter {
    pub(super) fn new(inodes: Arc<Mutex<Inodes>>) -> Arc<Self> {
        Arc::new(Self {
            inodes,
            notifier: OnceLock::new(),
            names: Mutex::new(None),
            shares_index: AtomicBool::new(false),
        })
    }

    /// Says whether the kernel reads and writes the index of a log in our own file.
    pub(super) fn set_shares_index(&self, shares: bool) {
        self.shares_index.store(shares, Ordering::Release);
    }

    /// Begins to tell.
    pub(super) fn start(&self, notifier: Notifier) -> io::Result<()> {
        let (sender, names) = mpsc::channel::<String>();
        let teller = notifier.clone();
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            for name in names {
                tell(&name, teller.inval_entry(INodeNo::ROOT, OsStr::new(&name)));
            }
        })?;
        let _first_one_counts = self.notifier.set(notifier);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(())
    }

    /// Has the kernel forget names, some time soon.
    pub(super) fn forget_names(&self, forgotten: impl IntoIterator<Item = String>) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for name in forgotten {
            if let Some(names) = &*names {
                let _gone_with_the_mount = names.send(name);
            }
        }
    }
}

impl Kernel for Forgetter {
    fn changed(&self, slot: &Slot, changed: &Changed) {
        let Some(notifier) = self.notifier.get() else {
            return;
        };
        for (file, range) in &changed.ranges {
            let number = {
                let inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
                inodes.of(slot.name(), *file)
            };
            let Some(number) = number else {
                continue;
            };
            let (from, len) = if range.is_empty() {
                // No bytes, but what the kernel believes the file to be.
                (-1, 0)
            } else {
                let from = i64::try_from(range.start).unwrap_or(i64::MAX);
                // 0 is as far as the file goes.
                (from, i64::try_from(range.end - range.start).unwrap_or(0))
            };
            tell(
                slot.name().as_str(),
                notifier.inval_inode(INodeNo(number), from, len),
            );
        }
        if changed.dropped {
            let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
            for file in FileKind::ALL {
                inodes.unlinked(&name_of(slot.name(), file));
            }
            drop(inodes);
            self.names_changed(slot.name());
        }
    }

    fn shares_index(&self) -> bool {
        self.shares_index.load(Ordering::Acquire)
    }

    fn names_changed(&self, database: &DatabaseName) {
        let files = FileKind::ALL.into_iter().map(|file| name_of(database, file));
        self.forget_names(files.chain([format!("{database}-pos")]));
    }
}

/// A kernel that does not know a file has nothing to forget.
fn tell(name: &str, told: io::Result<()>) {
    if let Err(error) = told {
        tracing::debug!(name, %error, "kernel was not told");
    }
}
