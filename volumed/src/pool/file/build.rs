//! How a slice's file comes to be, step by step.

use std::io;
use std::path::Path;

use crashsafe::OpenOptions;

use super::{Allocation, FilePool};
use crate::bulk::{self, ImageError, Images, Layout};
use crate::luks;
use crate::pool::{PoolError, Slice, SliceId};

impl FilePool {
    /// Makes the unfinished file of a new slice, with its header.
    pub(super) async fn build(&self, slice: &Slice) -> Result<(), PoolError> {
        let header = match &slice.layout {
            Layout::Raw => None,
            Layout::Luks { passphrase } => {
                let (passphrase, random) = (passphrase.clone(), self.random.clone());
                Some(
                    self.workers
                        .run(move || luks::create_header(&passphrase, &*random))
                        .await,
                )
            }
        };
        self.lay_out(slice, header).await
    }

    /// Makes the unfinished file anew, of full length.
    pub(super) async fn lay_out(&self, slice: &Slice, header: Option<Vec<u8>>) -> Result<(), PoolError> {
        let (path, len) = (self.unfinished(&slice.id), file_bytes(slice));
        let preallocated = self.config.allocation == Allocation::Preallocated;
        let laid = self.blocking("lay out", slice.id.name(), move |pool| {
            pool.remove_if_there(&path)?;
            let file = pool
                .disk
                .open("pool:create:open", &path, OpenOptions::CREATE_NEW)?;
            file.set_len(len)?;
            if preallocated {
                file.allocate(0, len)?;
            }
            if let Some(header) = header {
                file.write_at(&header, 0)?;
            }
            file.sync_all()
        });
        laid.await.map_err(|error| self.full_or(error, len))
    }

    /// Gives a complete file its final name. From here on it counts.
    pub(super) async fn publish(&self, id: &SliceId) -> Result<(), PoolError> {
        let (from, to) = (self.unfinished(id), self.path(id));
        let published = self.blocking("publish", id.name(), move |pool| {
            pool.disk.rename("pool:publish:rename", &from, &to)?;
            pool.disk.sync_dir("pool:publish:sync_dir", &pool.config.path)
        });
        published.await
    }

    /// Grows the file; back to its former length when there is no room. Returns whether it was shorter before.
    pub(super) async fn lengthen(&self, slice: &Slice, from_bytes: u64) -> Result<bool, PoolError> {
        let Some(found) = self.length(&slice.id).await? else {
            return Err(self.missing(&slice.id));
        };
        let (from, to) = (from_bytes + header_bytes(&slice.layout), file_bytes(slice));
        if found < from || found > to {
            // Shrinking would cut off what a guest may have written.
            let (pool, slice) = (self.config.name.clone(), slice.id.name());
            return Err(PoolError::WrongSize {
                pool,
                slice,
                found_bytes: found,
                expected_bytes: to,
            });
        }
        let (path, preallocated) = (
            self.path(&slice.id),
            self.config.allocation == Allocation::Preallocated,
        );
        let grown = self.blocking("grow", slice.id.name(), move |pool| {
            let file = pool.disk.open("pool:grow:open", &path, OpenOptions::READ_WRITE)?;
            file.set_len(to)?;
            if preallocated && let Err(error) = file.allocate(from, to - from) {
                // Nobody was told of the new size yet, so taking it back loses nothing.
                file.set_len(from)?;
                file.sync_all()?;
                return Err(error);
            }
            file.sync_all()
        });
        grown.await.map_err(|error| self.full_or(error, to - from))?;
        Ok(found < to)
    }

    /// Copies the bytes of a slice, header included, into the unfinished file of another.
    pub(super) async fn copy_bytes(&self, source: &Slice, target: &Slice) -> Result<(), PoolError> {
        let (from, to) = (self.path(&source.id), self.unfinished(&target.id));
        match copy_plain(&self.images, &from, &to, file_bytes(source)).await {
            Ok(()) => Ok(()),
            Err(CopyError::Image(error)) => Err(self.image(&target.id, error)),
            Err(CopyError::Io(error)) => {
                Err(self.full_or(self.io("copy into", &target.id.name(), error), file_bytes(target)))
            }
        }
    }

    /// Gives the header of an unfinished copy its own passphrase, and makes the copy durable.
    pub(super) async fn rekey(&self, slice: &Slice, source_layout: &Layout) -> Result<(), PoolError> {
        let (path, name, random) = (self.unfinished(&slice.id), slice.id.name(), self.random.clone());
        let (Layout::Luks { passphrase: old }, Layout::Luks { passphrase: new }) =
            (source_layout, &slice.layout)
        else {
            let synced = move |pool: &Self| {
                pool.disk
                    .open("pool:copy:open", &path, OpenOptions::READ_WRITE)?
                    .sync_all()
            };
            return self.blocking("sync", name, synced).await;
        };
        let (old, new) = (old.clone(), new.clone());
        let rekeyed = self.blocking("re-key", name, move |pool| {
            let file = pool
                .disk
                .open("pool:rekey:open", &path, OpenOptions::READ_WRITE)?;
            if old != new {
                let mut header = vec![0; usize::try_from(luks::HEADER_BYTES).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut header, 0)?;
                // An earlier run may have done it before a crash.
                if luks::Cipher::open(&header, &new).is_err() {
                    match luks::rekey_header(&header, &old, &new, &*random) {
                        Ok(header) => file.write_at(&header, 0)?,
                        Err(source) => return Ok(Err(source)),
                    }
                }
            }
            file.sync_all().map(Ok)
        });
        let (pool, slice) = (self.config.name.clone(), slice.id.name());
        rekeyed
            .await?
            .map_err(|source| PoolError::Luks { pool, slice, source })
    }

    fn full_or(&self, error: PoolError, wanted_bytes: u64) -> PoolError {
        match error {
            PoolError::Io { source, .. } if is_full(&source) => self.no_space(wanted_bytes),
            other => other,
        }
    }
}

async fn copy_plain(images: &Images, from: &Path, to: &Path, bytes: u64) -> Result<(), CopyError> {
    let source = images.open_source(from, bytes, &Layout::Raw).await?;
    let sink = images.open_sink(to, bytes, &Layout::Raw).await?;
    bulk::copy(&source, &sink).await?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns the length of a slice's file: the guest's bytes and the header.
pub(super) fn file_bytes(slice: &Slice) -> u64 {
    slice.size_bytes + header_bytes(&slice.layout)
}

pub(super) fn header_bytes(layout: &Layout) -> u64 {
    match layout {
        Layout::Raw => 0,
        Layout::Luks { .. } => luks::HEADER_BYTES,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
