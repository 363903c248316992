//! `volumed nbd-file`: a file that is an NBD export, for a loop device where the kernel has no NBD.

use std::io;
use std::path::PathBuf;

use nbd_file::{Config, MountError};
use rustix::mount::UnmountFlags;
use tracing::{info, warn};

/// Why a file was not served to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NbdFileError {
    /// There is no file.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The kernel broke off.
    #[error("serve the file in {directory}: {source}")]
    Served {
        /// Where it was.
        directory: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// Serves the file until it is unmounted. A request to end unmounts it, unless somebody uses it: then it stays, so that
/// no loop device over it loses its disk.
///
/// # Errors
///
/// When nobody serves the export at the start, or the kernel does not mount or breaks off.
pub async fn serve(ctx: daemon::Context, config: Config) -> Result<(), NbdFileError> {
    let directory = config.directory.clone();
    let failed = |source| NbdFileError::Served {
        directory: directory.clone(),
        source,
    };
    let mounting = tokio::task::spawn_blocking(move || nbd_file::mount(&config));
    let mounted = mounting
        .await
        .map_err(|error| failed(io::Error::other(error)))??;
    info!(directory = %directory.display(), file = nbd_file::FILE_NAME, "the export is a file");
    let mut served = tokio::task::spawn_blocking(move || mounted.wait());
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = ctx.shutdown.cancelled() => {
            match rustix::mount::unmount(&directory, UnmountFlags::empty()) {
                Ok(()) => {}
                Err(error) => warn!(
                    directory = %directory.display(), %error,
                    "the file is in use and stays: unmount it once nobody needs it"
                ),
            }
            served.await
        }
    };
    ended
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)
}
