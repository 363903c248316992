//! `litefs import` and `litefs export`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crashsafe::{Disk as _, OpenOptions, RealDisk};
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;

use crate::{
    cli::TransferArgs,
    http_client::{RequestError, body_of, encoded, request, whole},
};

const LABEL: &str = "export";

/// Why a database did not get there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TransferError {
    /// The node says so, or is not there.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer broke off.
    #[error("read the database")]
    Body(#[from] hyper::Error),
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Copies a file into a node.
pub(crate) async fn import(args: &TransferArgs) -> Result<(), TransferError> {
    let file = File::open(&args.path).map_err(|source| TransferError::File {
        path: args.path.clone(),
        source,
    })?;
    let path = format!("/import?name={}", encoded(&args.name));
    request(Method::POST, &args.url, &path, HeaderMap::new(), body_of(file)).await?;
    Ok(())
}

/// Copies a database to a file. What was there before goes when the new one is whole.
pub(crate) async fn export(args: &TransferArgs) -> Result<(), TransferError> {
    let path = format!("/export?name={}", encoded(&args.name));
    let response = request(Method::GET, &args.url, &path, HeaderMap::new(), whole("")).await?;
    let temporary = with_suffix(&args.path, ".tmp");
    let failed = |source| TransferError::File {
        path: temporary.clone(),
        source,
    };
    let options = OpenOptions {
        truncate: true,
        mode: 0o666,
        ..OpenOptions::CREATE
    };
    let file = RealDisk.open(LABEL, &temporary, options).map_err(failed)?;
    let (mut body, mut offset) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            file.write_at(&bytes, offset).map_err(failed)?;
            offset += bytes.len() as u64;
        }
    }
    file.sync_all().map_err(failed)?;
    for suffix in ["-journal", "-wal", "-shm"] {
        match RealDisk.remove_file(LABEL, &with_suffix(&args.path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    RealDisk.rename(LABEL, &temporary, &args.path).map_err(failed)?;
    let directory = args.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    RealDisk
        .sync_dir(LABEL, directory.unwrap_or(Path::new(".")))
        .map_err(failed)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
