//! Mounting, and taking the mount away.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::mount::{UnmountFlags, unmount};

use super::fs::{FileSystem, Mount};
use crate::{halt::Halts, replication::status::Status, store::Store};

/// Threads that take requests: more than half of them may wait for disks before others are held up.
const THREADS: usize = 8;

/// How to mount.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub directory: PathBuf,
    /// Whether other users may use it.
    pub allow_other: bool,
    /// Whether the kernel may read and write the index of a log itself, where it can.
    pub passthrough: bool,
    /// Whether to take away what is mounted there before.
    pub unmount_first: bool,
}

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The directory cannot be made.
    #[error("create {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel, or its helper, refuses.
    #[error("mount on {}", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A file system that is mounted.
#[derive(Debug)]
pub struct Mounted {
    session: Option<fuser::BackgroundSession>,
    directory: PathBuf,
}

/// Mounts the databases of a store.
///
/// * `halts`: where the write locks of another primary are had; nothing if there never is one.
///
/// # Errors
/// There is no directory to mount on, or the kernel refuses.
pub fn mount(
    store: Arc<Store>,
    status: Arc<Status>,
    halts: Option<Arc<Halts>>,
    options: &Options,
) -> Result<Mounted, MountError> {
    let path = &options.directory;
    if options.unmount_first {
        detach(path);
    }
    std::fs::create_dir_all(path).map_err(|source| MountError::Directory {
        path: path.clone(),
        source,
    })?;
    let failed = |source| MountError::Mount {
        path: path.clone(),
        source,
    };
    let mount = Mount::new(
        Arc::clone(&store),
        status,
        halts,
        options.passthrough,
        THREADS / 2,
    );
    let kernel = mount.kernel();
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("litefs".to_owned())];
    config.n_threads = Some(THREADS);
    if options.allow_other {
        config.acl = SessionACL::All;
    }
    let session = Session::new(FileSystem::new(mount), path, &config).map_err(failed)?;
    kernel.start(session.notifier()).map_err(failed)?;
    store.set_kernel(kernel);
    let session = session.spawn().map_err(failed)?;
    Ok(Mounted {
        session: Some(session),
        directory: path.clone(),
    })
}

/// Takes away whatever is mounted there: what a daemon left that died may be in use and never answers.
fn detach(path: &Path) {
    while unmount(path, UnmountFlags::DETACH).is_ok() {
        tracing::info!(path = %path.display(), "took away what was mounted");
    }
}

impl Mounted {
    /// Takes the mount away and waits until the last request is answered. A mount in use is detached: nobody new gets in, and
    /// who has a file open is cut off when the node ends.
    pub fn unmount(mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        if let Err(error) = session.umount_and_join() {
            tracing::warn!(path = %self.directory.display(), %error, "mount is in use and was detached");
            detach(&self.directory);
        }
    }
}
